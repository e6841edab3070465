"""Times, sizes and texts as a page shows them."""

from __future__ import annotations

import pytest

from tako.dashboard import shown


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (None, ""), (0, "0 ms"), (0.5, "500 µs"), (1, "1 ms"), (1.25, "1.2 ms"), (14.6, "15 ms"), (999, "999 ms"),
        (1_000, "1.0 s"), (12_400, "12 s"), (60_000, "1 min"), (200_000, "3 min 20 s"), (3_600_000, "1 h"),
        (9_000_000, "2 h 30 min"), (86_400_000, "1 d"), (187_200_000, "2 d 4 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_has_one_or_two_units(ms: float | None, expected: str) -> None:
    assert shown.span(ms) == expected


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [(1_000, "now"), (0, "1 s ago"), (-59_000, "1 min ago"), (61_500, "in 1 min"), (90_000_000, "in 1 d")],
)
def test_how_long_ago_is_said_roughly(at_ms: int, expected: str) -> None:
    assert shown.ago(at_ms, 1_000) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\x1b[31mb", "ab"), ("a\x1b[2Jb", "a\\x1b[2Jb"), ("\u202egnp.exe", "\\u202egnp.exe"), ("a\nb", "a\\nb")],
)
def test_what_acts_on_the_reader_is_made_visible(text: str, expected: str) -> None:
    assert shown.clean(text) == expected
    assert "\n" not in shown.clean(text)


def test_json_is_indented_and_what_is_damaged_is_shown_as_it_is() -> None:
    assert shown.pretty('{"a":["\\u202e"]}') == '{\n  "a": [\n    "\\u202e"\n  ]\n}'
    assert shown.pretty("{half") == "{half"
    assert shown.pretty("[" * 100_000) == "[" * 100_000


def test_sizes_and_numbers_are_readable() -> None:
    assert [shown.size(n) for n in (12, 1_500, 2_500_000, 3_000_000_000)] == ["12 bytes", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert shown.number(1_234_567) == "1\u202f234\u202f567"
