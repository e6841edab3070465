"""What the ring holds, as pictures."""

from __future__ import annotations

import pytest

from tako.dashboard.charts import RANGES, Chart, charts, nice
from tako.metrics.ring import Ring

T = 1_800_000_000_000


def drawn(ring: Ring, *, depth: int = 0, now_ms: int = T, range: str = "5m") -> dict[str, Chart]:
    return {chart.title: chart for chart in charts(ring, RANGES[range], now_ms=now_ms, depth=depth)}


@pytest.mark.parametrize(
    ("top", "expected"),
    [(0, 1), (0.3, 0.4), (1, 1), (1.01, 2), (3, 4), (4.5, 6), (7, 8), (99, 100), (101, 200), (4_000, 4_000)],
)
def test_an_axis_ends_at_a_round_number(top: float, expected: float) -> None:
    assert nice(top) == pytest.approx(expected)


def test_nothing_that_happened_is_said_and_not_drawn() -> None:
    found = drawn(Ring())

    assert all(chart.is_empty for chart in found.values())
    assert found["Latency"].summary == "No run was claimed."
    assert found["Oldest waiting"].summary == "No run waits."
    assert not any(path for chart in found.values() for _, path in chart.shapes)


def test_throughput_is_stacked_by_how_runs_ended() -> None:
    ring = Ring()
    for _ in range(40):
        ring.now(T).ended("succeeded")
    for _ in range(10):
        ring.now(T).ended("dead")

    chart = drawn(ring, now_ms=T + 5_000)["Throughput"]

    assert chart.now == "10/s"
    assert chart.top == "10/s"
    assert chart.summary == "50 runs ended in the last 5 minutes, 10 of them dead."
    assert {kind: path.count("z") for kind, path in chart.shapes} == {
        "bar cancelled": 0, "bar dead": 1, "bar succeeded": 1,
    }  # fmt: skip
    assert "10/s, 10 dead" in chart.columns[-2][2]


def test_few_runs_are_told_by_the_minute() -> None:
    ring = Ring()
    ring.now(T).ended("succeeded")

    assert drawn(ring, now_ms=T + 5_000)["Throughput"].now == "12/min"


def test_latency_has_gaps_where_nothing_was_claimed() -> None:
    ring = Ring()
    for second in (0, 5, 60):
        ring.now(T + second * 1_000).waited(0.002)

    chart = drawn(ring, now_ms=T + 60_000)["Latency"]

    assert dict(chart.shapes)["line p50"].count("M") == 2
    assert chart.summary.startswith("From due to claimed in the last 5 minutes: half within")


def test_the_age_of_the_oldest_grows_while_nothing_happens() -> None:
    ring = Ring()
    sample = ring.now(T)
    sample.depth, sample.oldest_due_ms = 3, T

    chart = drawn(ring, depth=3, now_ms=T + 200_000)["Oldest waiting"]

    assert chart.now == "3 min 20 s"
    assert chart.top == "3 min 20 s"


def test_a_chart_says_in_words_what_it_shows() -> None:
    ring = Ring()
    ring.now(T).depth = 12

    assert drawn(ring, depth=4)["Queue"].summary == (
        "4 runs are due and wait for a worker; at most 4 in the last 5 minutes."
    )
