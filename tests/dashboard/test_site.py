"""The site as a program sees it: who is let in, what is sent along, what is never shown."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.dashboard.bookshop import Bookshop, ask, events
from tests.support.dev import until


def token(text: str) -> str:
    """The token that the forms of a page carry."""
    found = re.search(r'name="token" value="([^"]+)"', text)
    assert found, text
    return found[1]


def plain(bookshop: Bookshop) -> str:
    """The address without the key."""
    return bookshop.root.rstrip("/").rpartition("/")[0]


def test_an_address_without_the_key_tells_nothing_of_the_app(bookshop: Bookshop) -> None:
    for path in ("/", "/bookshop/", "/x/bookshop/runs", f"/{'k' * 22}/bookshop/", "/metrics", "//", "/%00/"):
        answer = ask(plain(bookshop) + path)
        assert answer.status == 403, path
        assert "bookshop" not in answer.text


def test_a_name_that_was_made_to_mean_loopback_is_refused(bookshop: Bookshop) -> None:
    for host in ("evil.example", "bookshop.evil.example:7780", ""):
        assert ask(bookshop.pages, host=host).status in (400, 421)
    assert ask(bookshop.pages, host="localhost:1234").status == 200  # a tunnel's other end


def test_every_answer_forbids_what_no_page_of_ours_needs(bookshop: Bookshop) -> None:
    for url in (bookshop.pages, bookshop.root, f"{bookshop.pages}nowhere", plain(bookshop) + "/static/dashboard.css"):
        headers = {name.lower(): value for name, value in ask(url).headers.items()}
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
        assert "set-cookie" not in headers
        assert not any(name.startswith("access-control") for name in headers)
    assert ask(bookshop.pages).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "with_token", "status"),
    [
        ({}, True, 303),
        ({}, False, 403),
        ({"origin": "http://evil.example"}, True, 403),
        ({"origin": "null"}, True, 403),
        ({"sec_fetch_site": "same-site"}, True, 403),
        ({"sec_fetch_site": "same-origin"}, True, 303),
    ],
)
def test_a_button_works_from_our_page_alone(
    bookshop: Bookshop, headers: dict[str, str], with_token: bool, status: int
) -> None:
    run_id = bookshop.waits(bookshop.enqueue("approve"))
    page = f"{bookshop.pages}runs/{run_id}"
    form = {"reason": "no need", **({"token": token(ask(page).text)} if with_token else {})}

    assert ask(f"{page}/cancel", form=form, **headers).status == status

    assert bookshop.status(run_id) == ("cancelled" if status == 303 else "waiting")
    if status != 303:
        bookshop.call("cancel", id=run_id)


def test_a_get_changes_nothing(bookshop: Bookshop) -> None:
    run_id = bookshop.waits(bookshop.enqueue("approve"))
    for path in ("cancel", "retry", "signal", "ack"):
        assert ask(f"{bookshop.pages}runs/{run_id}/{path}").status == 404
    assert bookshop.status(run_id) == "waiting"
    bookshop.call("cancel", id=run_id)


@pytest.mark.parametrize(
    "path",
    [
        "../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/keys.py",
        "",
        "dashboard.css/x",
        "DASHBOARD.css",
        "\\..\\x",
    ],
)
def test_files_are_ours_alone(bookshop: Bookshop, path: str) -> None:
    assert ask(f"{plain(bookshop)}/static/{path}").status in (403, 404)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(bookshop: Bookshop, method: str) -> None:
    assert ask(bookshop.pages, method=method).status == 405


def test_head_is_get_without_a_body(bookshop: Bookshop) -> None:
    answer = ask(bookshop.pages, method="HEAD")

    assert (answer.status, answer.text) == (200, "")


def test_a_form_larger_than_any_of_ours_is_refused(bookshop: Bookshop) -> None:
    assert ask(f"{bookshop.pages}workflows", form={"x": "y" * 3_300_000}).status == 413


def test_what_does_not_exist_is_said_and_is_no_bug(bookshop: Bookshop) -> None:
    for path, status in (
        ("nowhere", 404), ("runs/no-such-run", 404), ("runs/%3Cscript%3E", 404),
        ("runs?after=x&status=odd&since=odd", 409),
        ("runs?status=odd&since=odd&workflow=odd&group=odd", 200), ("runs/bulk?action=odd", 303), ("?range=odd", 200),
        ("logs?level=odd", 200), ("runs?q=%00%ff%F0%9F%90%99", 200), ("runs?note=odd", 200),
    ):  # fmt: skip
        answer = ask(bookshop.pages + path)
        assert answer.status == status, (path, answer.text[-500:])
        assert "<script>" not in answer.text.lower()


def test_payload_and_results_are_in_no_page_until_they_are_asked_for(bookshop: Bookshop) -> None:
    run_id = bookshop.enqueue("sell", order=424_242)
    assert bookshop.ended(run_id) == "succeeded"
    page = f"{bookshop.pages}runs/{run_id}"

    assert "&#34;order&#34;" not in ask(page).text
    assert "&#34;paid&#34;" not in ask(page).text
    assert "&#34;order&#34;: 424242" in ask(f"{page}?show=payload").text
    assert "&#34;sold&#34;" in ask(f"{page}?show=result").text
    assert "&#34;paid&#34;: 424242" in ask(f"{page}?show=step:charge").text
    whole = ask(f"{page}/text?what=payload")
    assert (json.loads(whole.text), whole.headers["content-type"]) == ({"order": 424_242}, "text/plain; charset=utf-8")
    assert ask(f"{page}/text?what=odd").status == 404


def test_values_of_secrets_are_shown_nowhere(bookshop: Bookshop) -> None:
    done = bookshop.tako("secrets", "set", "PAY_KEY", "--value", "swordfish-42")
    assert done.returncode == 0, done.stderr
    run_id = bookshop.enqueue("leak", value="swordfish-42")
    assert bookshop.ended(run_id) == "dead"

    for path in ("", "runs", f"runs/{run_id}?show=payload", f"runs/{run_id}?show=step:keep",
                 f"runs/{run_id}/text?what=payload",
                 "runs?q=leak", f"logs?run={run_id}", "logs"):  # fmt: skip
        answer = ask(bookshop.pages + path)
        assert answer.status == 200
        assert "swordfish-42" not in answer.text, path
    assert "[secret PAY_KEY]" in ask(f"{bookshop.pages}runs/{run_id}?show=payload").text


def test_a_stream_tells_that_something_changed_and_not_what(bookshop: Bookshop) -> None:
    stream = events(f"{bookshop.pages}live")
    run_id = bookshop.enqueue("talk")
    seen: list[tuple[str, str]] = []
    while not seen or "runs" not in seen[-1][1].split():
        seen.append(next(stream))

    assert {event for event, _ in seen} == {"change"}
    assert {word for _, data in seen for word in data.split()} <= {"runs", "health", "schedules"}
    assert run_id not in repr(seen)


def test_what_changed_between_the_page_and_its_stream_is_news(bookshop: Bookshop) -> None:
    page = ask(f"{bookshop.pages}runs").text
    found = re.search(r'data-live="([^"]+)"', page)
    assert found
    bookshop.ended(bookshop.enqueue("talk"))

    stream = events(plain(bookshop) + found[1].replace("&amp;", "&"))

    assert "missed" in next(stream)[1]


def test_a_browser_that_does_not_read_costs_nothing_that_grows(bookshop: Bookshop) -> None:
    host, port = plain(bookshop).removeprefix("http://").split(":")
    path = bookshop.pages.removeprefix(plain(bookshop))
    slow = []
    for _ in range(5):
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(f"GET {path}live?logs=1&tick=fast HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        slow.append(connection)
    before = _resident_kb(bookshop)

    for _ in range(3):
        bookshop.call("enqueue_runs", runs=_many(200))
    until(lambda: not bookshop.call("list_runs", workflow="talk", status="pending", limit=1)["runs"], what="they ran")

    assert ask(f"{bookshop.pages}runs").status == 200
    assert _resident_kb(bookshop) - before < 30_000
    for connection in slow:
        connection.close()


def _many(count: int) -> list[dict[str, str]]:
    from tako.protocol import ids

    return [{"id": ids.uuid7(), "workflow": "talk", "payload_json": "{}"} for _ in range(count)]


def _resident_kb(bookshop: Bookshop) -> int:
    assert bookshop.process is not None
    status = Path(f"/proc/{bookshop.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    return int(found[1])


def test_nonsense_on_the_port_does_not_harm_it(bookshop: Bookshop) -> None:
    host, port = plain(bookshop).removeprefix("http://").split(":")
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50,
        b"A" * 100_000 + b"\r\n\r\n",
    ):
        # It may be cut off before it has said all.
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
    assert ask(bookshop.pages).status == 200


def test_many_readers_at_once_are_all_answered(bookshop: Bookshop) -> None:
    statuses: list[int] = []

    def read() -> None:
        client = http.client.HTTPConnection(plain(bookshop).removeprefix("http://"), timeout=60)
        for path in ("", "runs", "workflows"):
            client.request("GET", bookshop.pages.removeprefix(plain(bookshop)) + path)
            answer = client.getresponse()
            answer.read()
            statuses.append(answer.status)
        client.close()

    readers = [threading.Thread(target=read) for _ in range(20)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert statuses == [200] * 60


def test_search_finds_by_both_ends_of_an_id_and_by_the_beginning_of_a_key(bookshop: Bookshop) -> None:
    run_id = bookshop.enqueue("sell", order=88_001)
    assert bookshop.ended(run_id) == "succeeded"
    short = f"{run_id[:4]}…{run_id[-6:]}"

    for sought in (run_id[-8:], short, short.replace("…", "..."), "order:88", run_id.upper()[-8:]):
        found = bookshop.call("search_runs", text=sought)["runs"]
        assert run_id in [run["id"] for run in found], sought
    answer = ask(f"{bookshop.pages}runs?q={run_id}")
    assert (answer.status, answer.headers["location"].rsplit("/", 1)[1]) == (303, run_id)


def test_tako_open_leads_there_without_telling_the_key_to_other_users(bookshop: Bookshop) -> None:
    assert bookshop.json("open") == {"url": bookshop.pages}
    assert bookshop.tako("open", "--print").stdout == f"{bookshop.pages}\n"

    browser = bookshop.folder / "browser"
    browser.write_text('#!/bin/sh\necho "$@" > opened\n')
    browser.chmod(0o700)
    bookshop.env["BROWSER"] = f"{browser} %s"
    done = bookshop.tako("open")

    assert done.returncode == 0, done.stderr
    told = bookshop.folder / "opened"
    until(lambda: told.exists() and told.read_text(), what="the browser is started")
    opened = told.read_text()
    key = bookshop.root.rstrip("/").rpartition("/")[2]
    assert key not in opened
    page = bookshop.folder / ".tako/dashboard.html"
    assert page.as_uri() in opened
    assert bookshop.pages in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600


def test_what_a_run_said_is_there_after_the_engine_was_started_anew(bookshop: Bookshop) -> None:
    run_id = bookshop.enqueue("talk")
    assert bookshop.ended(run_id) == "succeeded"
    said = ("said before any step", "printed in the step", "logged in the step")
    until(lambda: all(words in ask(f"{bookshop.pages}runs/{run_id}").text for words in said), what="it is shown")

    bookshop.stop()
    bookshop.start()

    page = ask(f"{bookshop.pages}runs/{run_id}").text
    assert all(words in page for words in said)
    assert "printed in a thread" not in page  # a thread that the step has started by itself
    lines = bookshop.json("logs", "--run", run_id, "--level", "warning")["lines"]
    assert [(line["message"], line["step"]) for line in lines] == [("logged in the step", "speak")]
