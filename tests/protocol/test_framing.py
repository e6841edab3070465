"""Lines in, messages out: the rules of SPEC.md section 2, and the properties of contract.md 2.4."""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tako.errors import InvalidRequest
from tako.protocol import framing
from tako.protocol.framing import MAX_DEPTH, MAX_FRAME_BYTES, Framer
from tests.support.model import sized

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=4))


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Messages, and their bytes cut at any places."""
    messages = draw(MESSAGES)
    stream = b"".join(framing.encode(message) for message in messages)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return messages, [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(split_streams())
def test_any_split_of_the_stream_gives_the_same_messages(case: tuple[list[dict[str, Any]], list[bytes]]) -> None:
    messages, chunks = case
    framer = Framer()

    found = [message for chunk in chunks for message in framer.feed(chunk)]

    assert found == messages
    assert framer.buffered == 0


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6), st.integers(1, 60))
@example(b"\n" * 10, [3], 1)
@example(b"x" * 61 + b"\n{}\n", [61], 60)
def test_memory_is_bounded_and_nothing_comes_after_a_fatal_error(data: bytes, cuts: list[int], limit: int) -> None:
    framer = Framer(max_bytes=limit)
    lines: list[bytes] = []
    places = sorted(cut for cut in cuts if cut <= len(data))

    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        died = framer.error is not None
        try:
            delivered = framer.lines(data[start:end])
        except InvalidRequest as error:
            assert error is framer.error
            delivered = []
        assert not (died and delivered)
        lines += delivered
        assert framer.buffered <= limit

    *whole, rest = data.split(b"\n")
    fine = list(itertools.takewhile(lambda line: len(line) <= limit, whole))
    assert lines == [line for line in fine if line]
    assert (framer.error is not None) == (len(fine) < len(whole) or len(rest) > limit)


class Stream(RuleBasedStateMachine):
    """A connection's bytes, whole or in pieces, lines of ours and anything else, as long as anybody likes to send."""

    LIMIT = 40

    def __init__(self) -> None:
        super().__init__()
        self.framer = Framer(max_bytes=self.LIMIT)
        self.sent = b""
        self.delivered: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent += data
        error = self.framer.error
        try:
            found = self.framer.lines(data)
        except InvalidRequest as refusal:
            assert refusal is self.framer.error
            assert error in (None, refusal), "another error than the first"
            found = []
        assert not (error and found), "something was delivered after a fatal error"
        self.delivered += found

    @rule(number=st.integers(0, 10**30), at=st.integers(0, 40))
    def a_message_in_two_pieces(self, number: int, at: int) -> None:
        line = framing.encode({"n": number})
        self.send(line[:at])
        self.send(line[at:])

    @rule(data=st.sampled_from([b"", b"\n", b"\n\n", b"{", b"}", b'{"a":1}\n{"b', b'":2}\n', b"\xff", b"x" * 20]))
    def anything(self, data: bytes) -> None:
        self.send(data)

    @rule(more=st.integers(-1, 1))
    def a_line_about_as_long_as_one_may_be(self, more: int) -> None:
        self.send(b"\n" + b"y" * (self.LIMIT + more) + b"\n")

    @invariant()
    def it_delivers_the_lines_before_the_first_that_is_too_long(self) -> None:
        *whole, rest = self.sent.split(b"\n")
        fine = list(itertools.takewhile(lambda line: len(line) <= self.LIMIT, whole))
        assert self.delivered == [line for line in fine if line]
        assert (self.framer.error is not None) is (len(fine) < len(whole) or len(rest) > self.LIMIT)

    @invariant()
    def it_keeps_no_more_than_a_line(self) -> None:
        assert self.framer.buffered <= self.LIMIT


Stream.TestCase.settings = sized(examples=100, steps=50)
TestStream = Stream.TestCase


@given(st.binary(max_size=200))
@example(b"\xff{}")
@example(b'{"a":1,"a":2}')
@example(b"[" * 200)
def test_any_line_is_a_message_or_an_error_that_names_a_rule(line: bytes) -> None:
    try:
        assert type(framing.decode(line)) is dict
    except InvalidRequest as error:
        assert error.message.startswith("invalid request: ")


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_decode_takes_back_what_encode_made(message: dict[str, Any]) -> None:
    line = framing.encode(message)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert framing.decode(line[:-1]) == message == json.loads(line)


@given(JSON)
def test_depth_is_that_of_the_value(value: Any) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert not framing.is_deeper(value, depth(value))
    assert depth(value) == 0 or framing.is_deeper(value, depth(value) - 1)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b'{"a":1,"a":2}', "key 'a' stands twice in one object"),
        (b'{"a":{"b":1,"b":2}}', "key 'b' stands twice"),
        (b"[]", "a request is a JSON object"),
        (b'"x"', "a request is a JSON object"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON: more than one value"),
        (b"\x00", "not JSON"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1e400}', "number 1e400 is out of range"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8 at byte 6"),
        (b'{"a":"x\ny"}', "not JSON"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64"),
        (b"[" * 10_000_000, "nested deeper than 64"),
        (b'{"a":' + b"9" * 5_000 + b"}", "not JSON"),
    ],
)
def test_a_line_that_breaks_a_rule_is_refused_by_the_rule(line: bytes, rule: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        framing.decode(line)

    assert rule in caught.value.message
    assert len(caught.value.message) < 200


def test_brackets_in_texts_are_not_depth() -> None:
    assert framing.decode(b'{"a":"' + b"[" * 1_000 + b'\\"]"}')


def test_a_megabyte_of_brackets_in_a_text_is_read_as_fast_as_any_other_text() -> None:
    def seconds(line: bytes) -> float:
        began = time.process_time()
        framing.decode(line)
        return time.process_time() - began

    plain = min(seconds(b'{"a":"' + b"x" * 1_000_000 + b'"}') for _ in range(5))
    brackets = min(seconds(b'{"a":"' + b"[{" * 500_000 + b'"}') for _ in range(5))

    assert brackets < 5 * plain


def test_sixty_four_levels_are_fine() -> None:
    nested = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"

    assert framing.decode(nested)


def test_escaped_lone_surrogates_pass_and_go_out_as_they_came() -> None:
    message = framing.decode(b'{"a":"\\ud800"}')

    assert message["a"] == "\ud800"
    assert framing.encode(message) == b'{"a":"\\ud800"}\n'


def test_the_limit_is_one_mebibyte_without_the_newline() -> None:
    line = b'{"a":"' + b"x" * (MAX_FRAME_BYTES - 8) + b'"}'

    assert len(line) == MAX_FRAME_BYTES == 1_048_576
    assert Framer().feed(line + b"\n")[0]["a"]
    with pytest.raises(InvalidRequest, match="longer than 1048576 bytes"):
        Framer().feed(line + b" \n")


def test_a_line_that_grows_too_long_is_refused_before_its_end() -> None:
    framer = Framer()
    framer.lines(b"x" * MAX_FRAME_BYTES)

    with pytest.raises(InvalidRequest):
        framer.lines(b"x")
    assert framer.buffered == 0
    with pytest.raises(InvalidRequest):
        framer.lines(b'{"command":"claim"}\n')


def test_replies_have_no_limit() -> None:
    big = framing.encode({"data": "x" * (3 * MAX_FRAME_BYTES)})
    framer = Framer(max_bytes=None)

    assert framer.lines(big[:1_000_000]) == []
    assert framer.feed(big[1_000_000:])[0]["data"]


def test_empty_lines_are_skipped() -> None:
    assert Framer().feed(b'\n\n{"a":1}\n\n') == [{"a": 1}]


def test_what_is_not_json_is_not_encoded() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            framing.encode({"a": value})
    with pytest.raises(TypeError, match="set is not JSON"):
        framing.encode({"a": {1}})


def test_a_long_line_costs_linear_time_in_its_chunks() -> None:
    framer = Framer()
    chunk = b"x" * 1_024
    for _ in range(1_024):
        framer.lines(chunk)

    assert framer.buffered == MAX_FRAME_BYTES
    assert sys.getsizeof(framer) < 200
