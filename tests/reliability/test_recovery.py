"""Table R of the contract: each fault twenty times, and work goes on within its bound.

A machine that is busy with other things makes everybody wait: for how long the daemon was ready and had no CPU is known
to the kernel and is not counted, and B is that of the very worker that went on.
"""

from __future__ import annotations

import pytest
from reliability.recovery import memory
from reliability.recovery.__main__ import HEADER, measure, row

TIMES = 20
FAULTS = 7
PLENTY = 1 << 30


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_after_each_fault_work_goes_on_within_the_bound_of_table_r() -> None:
    print(HEADER)
    missed = []
    faults = 0
    for found in measure(TIMES, lease_bound=TIMES):
        print(row(found))
        faults += 1
        assert len(found.samples) == TIMES, found.fault
        if not found.is_kept():
            missed.append((found.fault, found.problems, sorted(found.samples, key=lambda it: it.ours_s)[-3:]))

    assert missed == []
    assert faults == FAULTS + can_limit_memory()


def can_limit_memory() -> bool:
    """Only who may make a control group can let a worker run out of memory, and nobody else."""
    with memory.limited(most_bytes=PLENTY) as group:
        return group is not None
