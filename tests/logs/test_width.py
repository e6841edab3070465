from __future__ import annotations

import pytest

from tako.logs.width import cells, cut, cut_middle


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("✔ ok", 4), ("", 0)])
def test_columns_are_counted_as_a_terminal_does(text: str, columns: int) -> None:
    assert cells(text) == columns


@pytest.mark.parametrize(("text", "shown"), [("abcdef", "abcd…"), ("abcde", "abcde"), ("日本語日本語", "日本…")])
def test_a_cut_text_fits_and_says_that_it_was_cut(text: str, shown: str) -> None:
    assert cut(text, 5) == shown
    assert cells(shown) <= 5


def test_what_is_cut_in_the_middle_keeps_both_ends() -> None:
    assert cut_middle("01a2242e-2c56-7126-abf2-773604eac577", 12) == "01a224…ac577"
    assert cut_middle("short", 12) == "short"
    assert cells(cut_middle("长" * 40, 13)) <= 13
