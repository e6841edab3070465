"""Backoff."""

from __future__ import annotations

import random

import pytest

from tako.engine import retry
from tako.protocol.messages import RetryPolicy

PLAIN: RetryPolicy = {"first_ms": 1_000, "factor": 2.0, "max_ms": 60_000, "jitter": 0.0, "retries": 3}


@pytest.mark.parametrize(("failures", "expected"), [(1, 1_000), (2, 2_000), (3, 4_000), (7, 60_000), (5_000, 60_000)])
def test_each_failure_waits_longer_up_to_the_limit(failures: int, expected: int) -> None:
    assert retry.backoff_ms(failures, policy=PLAIN, rng=random.Random(1)) == expected


def test_a_factor_beyond_all_floats_is_the_limit() -> None:
    assert retry.backoff_ms(900, policy=PLAIN | {"factor": 1e300}, rng=random.Random(1)) == 60_000


def test_jitter_spreads_evenly_and_never_below_nothing() -> None:
    rng = random.Random(1)
    waits = [retry.backoff_ms(1, policy=PLAIN | {"jitter": 0.2}, rng=rng) for _ in range(500)]

    assert 800 <= min(waits) < 850
    assert 1_150 < max(waits) <= 1_200
    assert min(retry.backoff_ms(1, policy=PLAIN | {"jitter": 5.0}, rng=rng) for _ in range(50)) == 0
