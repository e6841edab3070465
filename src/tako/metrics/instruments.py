"""Counters and histograms with labels. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

Labels = tuple[str, ...]

# From a push to a waiting worker (well under a millisecond) to a queue that nobody has looked at for a day.
SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400,
)  # fmt: skip


class Counter:
    """Numbers that only grow, by labels."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[Labels, int] = {}

    def add(self, *labels: str, n: int = 1) -> None:
        """Count `n` more."""
        self.values[labels] = self.values.get(labels, 0) + n


class Tally:
    """How many values fell into each bucket, and their sum."""

    __slots__ = ("buckets", "total")

    def __init__(self, bounds: int) -> None:
        self.buckets = [0] * (bounds + 1)  # the last one is for what is larger than every bound
        self.total = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.buckets)


class Histogram:
    """Values by labels, each in the first bucket whose bound it does not exceed."""

    __slots__ = ("bounds", "tallies")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.tallies: dict[Labels, Tally] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count a value. One below zero (a clock that was put back) counts as zero."""
        tally = self.tallies.get(labels)
        if tally is None:
            tally = self.tallies[labels] = Tally(len(self.bounds))
        value = max(value, 0.0)
        tally.buckets[bisect_left(self.bounds, value)] += 1
        tally.total += value


def cumulative(bounds: Sequence[float], tally: Tally) -> Iterator[tuple[float, int]]:
    """Each bound with the number of values up to it, the last one infinite: as Prometheus wants them."""
    seen = 0
    for bound, n in zip((*bounds, float("inf")), tally.buckets, strict=True):
        seen += n
        yield bound, seen


def quantile(bounds: Sequence[float], buckets: Sequence[int], q: float) -> float | None:
    """About the value that the fraction `q` of all does not exceed; None when there are none.

    Within a bucket values are taken to be spread evenly; of those beyond the last bound nothing more is known.
    """
    count = sum(buckets)
    if not count:
        return None
    rank, seen, below = q * count, 0, 0.0
    for bound, n in zip(bounds, buckets, strict=False):
        if n and seen + n >= rank:
            return below + (bound - below) * max(0.0, rank - seen) / n
        seen, below = seen + n, bound
    return below
