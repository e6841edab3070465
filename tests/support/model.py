"""How far Hypothesis goes in the state machines: less in every run of the tests, more before a release."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = "TAKO_MODEL_EXAMPLES"
STEPS = "TAKO_MODEL_STEPS"


def sized(*, examples: int, steps: int) -> settings:
    """So many histories of so many steps, and the same ones in every run, unless the environment asks for others."""
    return settings(
        derandomize=EXAMPLES not in os.environ,
        max_examples=int(os.environ.get(EXAMPLES, examples)),
        stateful_step_count=int(os.environ.get(STEPS, steps)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
