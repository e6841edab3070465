"""Each reader of bytes, with what once broke it, with mutations of that, and with what Hypothesis finds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reliability.hostile import fuzz, targets

KEPT = [(target, path.name) for target in targets.TARGETS for path in fuzz.kept(target)]
PIECES = st.lists(st.one_of(st.sampled_from(fuzz.WORDS), st.binary(max_size=20)), max_size=12).map(b"".join)


@pytest.mark.parametrize(("target", "name"), KEPT)
def test_what_once_broke_a_reader_does_so_no_more(target: str, name: str) -> None:
    targets.run(target, (fuzz.CORPUS / target / name).read_bytes())


@pytest.mark.parametrize("target", targets.TARGETS)
def test_whatever_a_reader_is_given_it_reads_or_refuses_by_an_error_of_ours(target: str) -> None:
    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(PIECES)
    def anything(data: bytes) -> None:
        targets.run(target, data)

    anything()
    outcome = fuzz.by_chance(target, seconds=0.5, seed=20_261_128)
    assert outcome.broken is None, f"{outcome.broken!r}\n{outcome.why}"


def test_a_reader_that_raises_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(data: bytes) -> None:
        if b"[[" in data and len(data) > 40:
            raise IndexError("broken")

    monkeypatch.setitem(targets.TARGETS, "fragile", fragile)

    outcome = fuzz.by_chance("fragile", seconds=20, seed=1)

    assert outcome.broken is not None
    assert "IndexError: broken" in outcome.why


def test_a_reader_that_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(data: bytes) -> None:
        sum(range(3_000_000))

    monkeypatch.setitem(targets.TARGETS, "slow", slow)
    monkeypatch.setattr(targets, "SLOW_S", 0.001)

    assert "of work for" in fuzz.by_chance("slow", seconds=5, seed=1).why
