"""The last minutes by the second and the last day by the minute: what the charts of the dashboard show. Pure.

Only what happened is kept. A second in which nothing happened has no sample; a chart draws it as nothing started and
nothing ended, with the queue as the sample before it left it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tako.metrics.instruments import SECONDS

SECOND_MS, MINUTE_MS = 1_000, 60_000
KEPT_SECONDS = 600
KEPT_MINUTES = 1_440


@dataclass(slots=True)
class Sample:
    """What happened in a second or a minute that begins at `at_ms`, and how the queue stood at its end."""

    at_ms: int
    enqueued: int = 0
    claimed: int = 0
    succeeded: int = 0
    cancelled: int = 0
    dead: int = 0
    waits: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))  # from due to claimed, by bucket
    depth: int = 0
    oldest_due_ms: int | None = None  # of what waits; None when nothing does

    def waited(self, seconds: float) -> None:
        """A run was claimed after it had been due for so long."""
        self.claimed += 1
        self.waits[bisect_left(SECONDS, max(0.0, seconds))] += 1

    def ended(self, status: str) -> None:
        """A run has ended so."""
        if status == "succeeded":
            self.succeeded += 1
        elif status == "dead":
            self.dead += 1
        else:
            self.cancelled += 1

    def take(self, other: Sample) -> None:
        """Add what happened in `other`, and let its queue be the last word."""
        for name in ("enqueued", "claimed", "succeeded", "cancelled", "dead"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.waits = [mine + its for mine, its in zip(self.waits, other.waits, strict=True)]
        self.depth, self.oldest_due_ms = other.depth, other.oldest_due_ms


class Ring:
    """Samples. `now` is the one to count into; its second ends when a later one is asked for."""

    def __init__(self) -> None:
        self.seconds: deque[Sample] = deque(maxlen=KEPT_SECONDS)
        self.minutes: deque[Sample] = deque(maxlen=KEPT_MINUTES)

    def now(self, now_ms: int) -> Sample:
        """The sample of this second. A clock that was put back goes on counting into the newest one."""
        at_ms = now_ms - now_ms % SECOND_MS
        newest = self.seconds[-1] if self.seconds else None
        if newest is not None and at_ms <= newest.at_ms:
            return newest
        if newest is not None:
            self._fold(newest)
        sample = Sample(at_ms)
        if newest is not None:
            sample.depth, sample.oldest_due_ms = newest.depth, newest.oldest_due_ms
        self.seconds.append(sample)
        return sample

    def _fold(self, second: Sample) -> None:
        at_ms = second.at_ms - second.at_ms % MINUTE_MS
        if not self.minutes or self.minutes[-1].at_ms < at_ms:
            self.minutes.append(Sample(at_ms))
        self.minutes[-1].take(second)

    def last(self, *, now_ms: int, step_ms: int, count: int) -> list[Sample]:
        """`count` samples of `step_ms` each, the newest the one that `now_ms` lies in, without gaps.

        Steps of less than a minute are made of seconds, others of minutes.
        """
        newest_ms = now_ms - now_ms % step_ms
        first_ms = newest_ms - (count - 1) * step_ms
        found = [Sample(first_ms + index * step_ms) for index in range(count)]
        before: Sample | None = None
        for sample in self._samples(fine=step_ms < MINUTE_MS):
            index = (sample.at_ms - first_ms) // step_ms
            if index < 0:
                before = sample
            elif index < count:
                found[index].take(sample)
        return _carried(found, before, self._written(fine=step_ms < MINUTE_MS, first_ms=first_ms, step_ms=step_ms))

    def _samples(self, *, fine: bool) -> Iterator[Sample]:
        if fine:
            yield from self.seconds
            return
        yield from self.minutes
        if self.seconds:
            yield self.seconds[-1]  # the only one that is not part of a minute yet

    def _written(self, *, fine: bool, first_ms: int, step_ms: int) -> set[int]:
        return {(sample.at_ms - first_ms) // step_ms for sample in self._samples(fine=fine)}


def _carried(samples: list[Sample], before: Sample | None, written: set[int]) -> list[Sample]:
    """Where nothing happened, the queue is as it was."""
    depth, oldest = (before.depth, before.oldest_due_ms) if before is not None else (0, None)
    for index, sample in enumerate(samples):
        if index in written:
            depth, oldest = sample.depth, sample.oldest_due_ms
        else:
            sample.depth, sample.oldest_due_ms = depth, oldest
    return samples
