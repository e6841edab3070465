"""When a failed attempt is tried again. Pure: time and chance come in as arguments."""

from __future__ import annotations

import random

from tako.protocol.messages import RetryPolicy

# What a run gets whose worker names no policy (a v0 worker, a crash before the handler was known).
DEFAULT_RETRIES = 2
DEFAULT: RetryPolicy = {
    "first_ms": 1_000,
    "factor": 2.0,
    "max_ms": 3_600_000,
    "jitter": 0.2,
    "retries": DEFAULT_RETRIES,
}


def backoff_ms(failures: int, *, policy: RetryPolicy = DEFAULT, rng: random.Random) -> int:
    """How long to wait after the `failures`-th failure (1 is the first), jitter included; never negative."""
    # The exponent is bounded so that a run with thousands of retries does not overflow a float.
    exponent = min(max(failures - 1, 0), 1_000)
    try:
        plain = min(policy["first_ms"] * policy["factor"] ** exponent, policy["max_ms"])
    except OverflowError:
        plain = policy["max_ms"]
    spread = plain * policy["jitter"]
    return max(0, round(plain + rng.uniform(-spread, spread)))
