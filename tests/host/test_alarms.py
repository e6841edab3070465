"""What may be told of why a run is dead."""

from __future__ import annotations

import pytest

from tako.host.alarms import cause_of


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("TimeoutError: card 4242 was not answered", "TimeoutError"),
        ("app.errors.CardRefused: 4242\nsecond line", "app.errors.CardRefused"),
        ("Error", "Error"),
        ("worker died 3 times running it (SIGKILL, out of memory, peak 1.9 GiB)",) * 2,
        ("the stored payload does not fit: argument 'n' is 4242", "the stored payload does not fit"),
        ("no type at all, but a sentence with 4242", "its handler failed"),
        ("", "its handler failed"),
    ],
)
def test_our_own_words_and_types_of_exceptions_are_told_and_never_what_they_say(reason: str, told: str) -> None:
    assert cause_of(reason) == told
