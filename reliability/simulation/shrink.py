"""Make a failing history small: leave out events as long as the same rule is broken (delta debugging)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reliability.simulation.counters import watched_rows
from reliability.simulation.plan import Plan
from reliability.simulation.runner import live, with_events

MOST_TRIES = 400


def shrink(what: Plan, rule: str, *, still_fails: Callable[[Sequence[int]], bool] | None = None) -> list[int]:
    """The numbers of events of the plan that are needed to break `rule`; leaving out any one of them mends it."""

    def fails(numbers: Sequence[int]) -> bool:
        return live(with_events(what, numbers)).rule == rule

    fails_with = still_fails or fails
    needed = list(range(len(what.events)))
    tries, size = 0, max(1, len(needed) // 2)
    with watched_rows():
        while tries < MOST_TRIES:
            at, has_shrunk = 0, False
            while at < len(needed) and tries < MOST_TRIES:
                fewer = needed[:at] + needed[at + size :]
                tries += 1
                if fails_with(fewer):
                    needed, has_shrunk = fewer, True
                else:
                    at += size
            if size == 1 and not has_shrunk:
                break
            size = max(1, size // 2) if not has_shrunk or size > 1 else 1
    return needed
