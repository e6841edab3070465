"""Heads are read strictly and the ends of bodies are found, so that no request is taken for a part of another."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.protocol.http1 import CHUNKED, MAX_HEAD_BYTES, UNTIL_CLOSE, BadMessage, Body, Request, Response


def request(*lines: str, first: str = "GET / HTTP/1.1", host: str | None = "Host: a.localhost") -> Request:
    return Request("\r\n".join([first, *([host] if host else []), *lines]).encode("latin-1"))


def response(*lines: str, first: str = "HTTP/1.1 200 OK", method: bytes = b"GET") -> Response:
    return Response("\r\n".join([first, *lines]).encode("latin-1"), method=method)


# Requests


def test_a_request_tells_its_host_its_length_and_whether_the_connection_stays() -> None:
    found = request("Content-Length: 12", first="POST /x?y HTTP/1.1", host="HOST:  Shop.LocalHost:7777 ")

    assert (found.method, found.target, found.host, found.length) == (b"POST", b"/x?y", b"shop.localhost:7777", 12)
    assert found.keeps_alive
    assert not found.is_websocket


@pytest.mark.parametrize(
    ("first", "field", "keeps"),
    [
        ("GET / HTTP/1.1", "X: y", True),
        ("GET / HTTP/1.1", "Connection: close", False),
        ("GET / HTTP/1.1", "Connection: keep-alive, CLOSE", False),
        ("GET / HTTP/1.0", "X: y", False),
        ("GET / HTTP/1.0", "Connection: Keep-Alive", True),
    ],
)
def test_a_connection_stays_as_its_version_and_its_words_say(first: str, field: str, keeps: bool) -> None:
    assert request(field, first=first).keeps_alive is keeps


def test_a_websocket_is_one_that_says_so_in_both_fields() -> None:
    assert request("Connection: keep-alive, Upgrade", "Upgrade: WebSocket").is_websocket
    assert not request("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c").is_websocket
    assert not request("Upgrade: websocket").is_websocket


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 1", "Content-Length: 1"),
        ("Content-Length: 1, 1",),
        ("Content-Length: +1",),
        ("Content-Length: 0x1",),
        ("Content-Length: ",),
        ("Content-Length: 9999999999999999999",),
        ("Content-Length: 1", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Host: b.localhost",),
        (" folded: x",),
        ("X: a\n Y: b",),
        ("X: a\rY: b",),
        ("X: \0",),
        ("no colon",),
        (": x",),
        ("X y: z",),
        ("",),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadMessage):
        request(*lines)


@pytest.mark.parametrize(
    "first",
    [
        "GET http://b.localhost/ HTTP/1.1", "CONNECT b:1 HTTP/1.1", "GET / HTTP/2.0", "GET / HTTP/1.2", "GET /",
        "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "G@T / HTTP/1.1", "GET /a b HTTP/1.1",
        "GET /\t HTTP/1.1", "",
        "PRI * HTTP/2.0",
    ],
)  # fmt: skip
def test_a_first_line_that_is_not_of_http_1_or_not_for_us_is_refused(first: str) -> None:
    with pytest.raises(BadMessage):
        request(first=first)


def test_a_request_needs_one_host_and_a_head_of_reasonable_size() -> None:
    with pytest.raises(BadMessage, match="one Host"):
        request(host=None)
    with pytest.raises(BadMessage, match="too long"):
        request("X: " + "x" * MAX_HEAD_BYTES)
    with pytest.raises(BadMessage, match="chunks"):
        request("Transfer-Encoding: chunked", first="POST / HTTP/1.0")


def test_a_head_is_rendered_without_what_is_dropped_and_with_what_is_added() -> None:
    found = request("X-Forwarded-For: 6.6.6.6", "Connection:  close ", "X: \xe9")

    again = found.render(without=(b"x-forwarded-for", b"connection"), add=b"X-Forwarded-For: 127.0.0.1\r\n")

    assert again == b"GET / HTTP/1.1\r\nHost: a.localhost\r\nX: \xe9\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"


# Responses


@pytest.mark.parametrize(
    ("first", "fields", "method", "length", "keeps"),
    [
        ("HTTP/1.1 200 OK", ["Content-Length: 3"], b"GET", 3, True),
        ("HTTP/1.1 200", ["content-length: 3", "connection: close"], b"GET", 3, False),
        ("HTTP/1.1 200 OK", ["Content-Length: 3"], b"HEAD", 0, True),
        ("HTTP/1.1 204 No Content", [], b"GET", 0, True),
        ("HTTP/1.1 304 Not Modified", ["Content-Length: 3"], b"GET", 0, True),
        ("HTTP/1.1 100 Continue", [], b"POST", 0, True),
        ("HTTP/1.1 200 OK", ["Transfer-Encoding: chunked"], b"GET", CHUNKED, True),
        ("HTTP/1.1 200 OK", [], b"GET", UNTIL_CLOSE, False),
        ("HTTP/1.0 200 OK", ["Content-Length: 3"], b"GET", 3, False),
    ],
)
def test_the_length_of_a_response_follows_its_status_its_fields_and_the_method(
    first: str, fields: list[str], method: bytes, length: int, keeps: bool
) -> None:
    found = response(*fields, first=first, method=method)

    assert (found.length, found.keeps_alive) == (length, keeps)


@pytest.mark.parametrize("first", ["HTTP/1.1 99 x", "HTTP/1.1 600 x", "HTTP/2 200 OK", "", "HTTP/1.1 200\0"])
def test_what_is_no_response_is_refused(first: str) -> None:
    with pytest.raises(BadMessage):
        response(first=first)


# Bodies


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def consume(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What belongs to the body, and what is left over."""
    taken, rest = b"", b""
    for piece in pieces:
        count = 0 if body.is_done else body.take(piece)
        taken += piece[:count]
        rest += piece[count:]
    return taken, rest


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    trailer=st.booleans(),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_chunks_end_where_they_end_however_the_stream_is_split(
    chunks: list[bytes], trailer: bool, rest: bytes, cuts: list[int]
) -> None:
    data = b"".join(b"%X ;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n"
    data += b"Trailer: x\r\n\r\n" if trailer else b"\r\n"
    body = Body(CHUNKED)

    assert consume(body, split(data + rest, cuts)) == (data, rest)
    assert body.is_done


@given(length=st.integers(0, 50), data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_a_body_with_a_length_takes_that_many_bytes(length: int, data: bytes, cuts: list[int]) -> None:
    body = Body(length)

    assert consume(body, split(data, cuts)) == (data[:length], data[length:])
    assert body.is_done is (len(data) >= length)


def test_a_body_until_close_takes_everything() -> None:
    body = Body(UNTIL_CLOSE)

    assert consume(body, [b"abc", b"def"]) == (b"abcdef", b"")
    assert not body.is_done


@pytest.mark.parametrize(
    "data",
    [b"x\r\n", b"-1\r\n", b"0x1\r\n", b" 1\r\n", b"\r\n", b"1\n", b"1\rx\n", b"1\r\nab\r\n", b"f" * 16 + b"\r\n",
     b"1;" + b"x" * 5000],
)  # fmt: skip
def test_chunks_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        consume(Body(CHUNKED), [data])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_bad_one(data: bytes) -> None:
    for read in (Request, lambda head: Response(head, method=b"GET"), lambda head: Body(CHUNKED).take(head)):
        try:
            read(data)
        except BadMessage as error:
            assert str(error)


def test_a_long_line_of_spaces_is_read_in_linear_time() -> None:
    with pytest.raises(BadMessage):
        request("X: " + " " * 60_000 + "\x01")
