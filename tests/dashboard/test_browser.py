"""The pages in a real browser: what is seen changes as things happen, and the buttons do what they say."""

from __future__ import annotations

import pytest
from tests.dashboard.bookshop import Bookshop
from tests.support.chromium import Chromium, Page
from tests.support.dev import until

PAGES = [
    "",
    "?range=24h",
    "runs",
    "runs?status=dead",
    "runs?q=order",
    "schedules",
    "workflows",
    "logs",
    "runs/bulk?action=ack",
]


def is_whole(page: Page, shop: Bookshop) -> None:
    """Nothing complained, nothing was asked of another host, nothing is wider than the screen."""
    port = shop.root.split("/")[2]
    assert page.complaints == [], shop.screen()[-3_000:]
    assert [url for url in page.requests if url.split("/")[2] != port] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 200)).slice(0, 3).join('\\n')"
    )


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_every_page_fits_its_screen_and_asks_no_other_host(bookshop: Bookshop, chromium: Chromium, phone: bool) -> None:
    waiting = bookshop.waits(bookshop.enqueue("approve"))
    dead = bookshop.runs("--status", "dead")[0]["id"]
    size = (390, 844) if phone else (1280, 900)
    with chromium.page(width=size[0], height=size[1], phone=phone, dark=phone) as page:
        for path in [*PAGES, f"runs/{waiting}", f"runs/{dead}?show=payload"]:
            page.goto(bookshop.pages + path)
            is_whole(page, bookshop)
    assert set(page.documents) == {200}


def test_a_page_without_scripts_can_be_read_and_its_buttons_work(bookshop: Bookshop, chromium: Chromium) -> None:
    run_id = bookshop.waits(bookshop.enqueue("approve"))
    with chromium.page(script=False) as page:
        page.goto(bookshop.pages)
        with page.loading():
            page.click("nav a", text="Runs")
        assert "approve" in page.text()
        page.goto(f"{bookshop.pages}runs/{run_id}")
        assert "waiting" in page.text()
        page.click("summary", text="Cancel…")
        with page.loading():
            page.click("button", text="Cancel this run")
        assert "Cancelled: no further step of it starts" in page.text()
    assert bookshop.status(run_id) == "cancelled"


def test_a_new_run_appears_in_an_open_list(bookshop: Bookshop, chromium: Chromium) -> None:
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs?workflow=talk")
        page.wait_for("document.getElementById('pulse').textContent == 'live'")
        loads = page.documents[:]

        run_id = bookshop.enqueue("talk")

        page.wait_for(f"document.getElementById('run-{run_id}')?.innerText.includes('succeeded')")
        assert page.documents == loads  # the page itself was not loaded anew
        is_whole(page, bookshop)


def test_a_signal_from_an_open_page_lets_the_run_go_on_before_ones_eyes(bookshop: Bookshop, chromium: Chromium) -> None:
    run_id = bookshop.waits(bookshop.enqueue("approve"))
    with chromium.page() as other, chromium.page() as page:
        other.goto(f"{bookshop.pages}runs/{run_id}")
        other.wait_for("document.querySelector('h1').innerText.includes('waiting')")
        page.goto(f"{bookshop.pages}runs/{run_id}")
        page.click("summary", text="Signal…")
        page.click("textarea")
        page.type("true")
        with page.loading():
            page.click("button", text="Send")
        assert "Sent approved: the run was waiting for it and goes on." in page.text()

        other.show()
        other.wait_for("document.querySelector('h1').innerText.includes('succeeded')")
        is_whole(other, bookshop)
    assert bookshop.ended(run_id) == "succeeded"


def test_children_are_bars_of_their_parents_picture_and_end_before_ones_eyes(
    bookshop: Bookshop, chromium: Chromium
) -> None:
    parent = bookshop.waits(bookshop.enqueue("approve_both"))
    steps = bookshop.call("get_run", id=parent, **{"with": ["steps"]})["steps"]
    children = {step["name"]: bookshop.waits(step["child_id"]) for step in steps}
    assert children.keys() == {"hardcover", "paperback"}
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs/{parent}")
        page.wait_for("document.querySelectorAll('rect.child.waiting').length == 2")
        page.wait_for("document.getElementById('pulse').textContent == 'live'")

        bookshop.call("signal_run", id=children["hardcover"], signal="approved", payload_json="true")

        page.wait_for("document.querySelectorAll('rect.child.succeeded').length == 1")
        is_whole(page, bookshop)
        with page.loading():
            page.click(".timeline a", text="paperback")
        assert children["paperback"] in page.text()
    bookshop.call("cancel", id=parent)


def test_what_one_has_opened_and_typed_outlives_an_update(bookshop: Bookshop, chromium: Chromium) -> None:
    run_id = bookshop.waits(bookshop.enqueue("approve"))
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs/{run_id}")
        page.click("summary", text="Signal…")
        page.click("textarea")
        page.type('"half')
        page.evaluate("window.before = document.querySelector('textarea'); refresh()")
        page.wait_for("!isAsking")

        assert page.evaluate("document.querySelector('#menu-signal').open")
        assert page.evaluate("document.querySelector('textarea').value") == '"half'
        assert page.evaluate("document.activeElement === window.before")
    bookshop.call("cancel", id=run_id)


def test_a_dead_run_runs_again_from_a_step(bookshop: Bookshop, chromium: Chromium) -> None:
    run_id = bookshop.enqueue("sell", order=-4)
    assert bookshop.ended(run_id) == "dead"
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs/{run_id}")
        assert "ValueError: no such order: -4" in page.text()
        page.evaluate("document.querySelector('select[name=from_step]').value = 'load'")
        with page.loading():
            page.click("button", text="Run again")
        assert "It runs again from step load." in page.text()
        page.wait_for("document.querySelector('h1').innerText.includes('dead')")
    assert len(bookshop.call("get_run", id=run_id, **{"with": ["attempts"]})["attempts"]) == 2


def test_users_data_is_text_and_never_markup(bookshop: Bookshop, chromium: Chromium) -> None:
    run_id = bookshop.enqueue("sell", order=77)
    assert bookshop.ended(run_id) == "succeeded"
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs/{run_id}")
        assert "alert(1)" not in page.text()  # no value is shown unless asked for
        with page.loading():
            page.click("#steps + div a[href*='charge']", text="show")
        assert "<script>alert(1)</script>" in page.text()
        is_whole(page, bookshop)


def test_log_lines_appear_as_they_are_said(bookshop: Bookshop, chromium: Chromium) -> None:
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}logs?workflow=talk")
        page.wait_for("document.getElementById('pulse').textContent == 'live'")

        bookshop.ended(bookshop.enqueue("talk"))

        page.wait_for("document.getElementById('lines').innerText.includes('started')")
        is_whole(page, bookshop)


def test_all_that_a_filter_lets_through_is_acknowledged_at_once(bookshop: Bookshop, chromium: Chromium) -> None:
    bookshop.ended(bookshop.enqueue("sell", order=-5))
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs?status=dead")
        with page.loading():
            page.click("a", text="Acknowledge…")
        assert "Acknowledge" in page.evaluate("document.querySelector('h1').innerText")
        with page.loading():
            page.click("button", text="Acknowledge")
        assert "are acknowledged" in page.text()
    assert all(run["acknowledged"] for run in bookshop.call("list_runs", status="dead")["runs"])


def test_a_schedule_is_paused_run_now_and_resumed(bookshop: Bookshop, chromium: Chromium) -> None:
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}schedules")
        for press, expected in (("Pause", "is paused: it fires no more"), ("Resume", "fires again")):
            with page.loading():
                page.click("button", text=press)
            assert expected in page.text()
        with page.loading():
            page.click("button", text="Run now")
        page.wait_for("document.querySelector('h1').innerText.includes('succeeded')")


def test_a_workflow_is_paused_and_goes_on(bookshop: Bookshop, chromium: Chromium) -> None:
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}workflows")
        with page.loading():
            page.click("#workflow-talk button", text="Pause")
        run_id = bookshop.enqueue("talk")
        assert bookshop.status(run_id) == "blocked"
        with page.loading():
            page.click("button", text="Let it go on")
    assert bookshop.ended(run_id) == "succeeded"


def test_the_keyboard_is_enough(bookshop: Bookshop, chromium: Chromium) -> None:
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs")
        page.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.press("/")
        assert page.evaluate("document.activeElement.id") == "q"
        page.type("order:-3")
        with page.loading():
            page.press("Enter")
        assert page.evaluate("document.querySelectorAll('table.runs tbody tr').length") == 1


def test_an_open_page_finds_the_engine_again_when_that_was_started_anew(bookshop: Bookshop, chromium: Chromium) -> None:
    with chromium.page() as page:
        page.goto(f"{bookshop.pages}runs")
        page.wait_for("document.getElementById('pulse').textContent == 'live'")
        address = bookshop.pages
        bookshop.stop()
        page.wait_for("document.getElementById('pulse').textContent == 'engine away'")

        bookshop.start()
        assert until(lambda: bookshop.pages, what="the address") == address

        page.wait_for("document.getElementById('pulse').textContent == 'live'")
        run_id = bookshop.enqueue("sell", order=4711)
        page.wait_for(f"!!document.getElementById('run-{run_id}')")
