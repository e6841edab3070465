"""A minute of bursts and sleep: nothing grows with the runs that have passed, or the workers that came and went."""

from __future__ import annotations

import pytest
from reliability.soak import cycles
from reliability.soak.__main__ import problems, summary

SECONDS = 60.0


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_memory_files_threads_log_and_cost_do_not_grow_with_what_has_passed() -> None:
    soak = cycles.run(seconds=SECONDS)

    print("\n".join(summary(soak)))
    assert len(soak.samples) >= 9, "too few cycles to tell"
    assert problems(soak, strictly=False) == []
