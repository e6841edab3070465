"""Counters and histograms."""

from __future__ import annotations

import math

import pytest

from tako.metrics.instruments import Counter, Histogram, cumulative, quantile


def test_a_counter_counts_by_its_labels() -> None:
    counter = Counter()

    counter.add("charge", "dead")
    counter.add("charge", "dead", n=2)
    counter.add("greet", "succeeded")

    assert counter.values == {("charge", "dead"): 3, ("greet", "succeeded"): 1}


def test_a_value_falls_into_the_first_bucket_that_holds_it_bounds_included() -> None:
    histogram = Histogram((1, 10))
    for value in (0, 1, 1.5, 10, 11, -3):
        histogram.observe(value, "w")

    tally = histogram.tallies[("w",)]

    assert list(cumulative(histogram.bounds, tally)) == [(1, 3), (10, 5), (math.inf, 6)]
    assert (tally.count, tally.total) == (6, 23.5)


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 0.5),
        ([5, 5, 0], 0.5, 1.0),
        ([5, 5, 0], 0.75, 5.5),
        ([0, 0, 7], 0.5, 10),
    ],
)
def test_a_quantile_is_spread_evenly_over_its_bucket(buckets: list[int], q: float, expected: float | None) -> None:
    assert quantile((1, 10), buckets, q) == expected
