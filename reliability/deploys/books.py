"""What must be true of orders, runs and ledger afterwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

STEPS = ("charge", "ship")


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What was found. `problems` is empty when they balance; `repeated` step bodies had not been acknowledged."""

    runs: int
    repeated: int
    problems: list[str] = field(default_factory=list)


def balance(
    *, orders: Mapping[int, str], unknown: Iterable[int], runs: Mapping[str, str], ledger: Iterable[str]
) -> Books:
    """Compare. `orders`: the run of each that was acknowledged; `unknown`: those whose answer was lost; `runs`: the
    status of each in the store; `ledger`: a line for each step body that began."""
    problems, repeated = [], 0
    bodies: dict[str, list[str]] = {}
    runs_of: dict[int, set[str]] = {}
    for line in ledger:
        step, number, run_id, _ = line.split()
        bodies.setdefault(run_id, []).append(step)
        runs_of.setdefault(int(number), set()).add(run_id)
    for order, run_id in orders.items():
        if runs.get(run_id) != "succeeded":
            problems.append(
                f"lost: order {order} was acknowledged as {run_id}, which is {runs.get(run_id, 'not there')}"
            )
        if runs_of.get(order, set()) - {run_id}:
            problems.append(f"doubled: order {order} was settled by {sorted(runs_of[order])}, and asked for once")
    unknown = set(unknown)
    acknowledged = set(orders.values())
    for order, found in runs_of.items():
        if order not in orders and (order not in unknown or len(found) > 1):
            problems.append(f"doubled: order {order} was never sent, or once, and was settled by {sorted(found)}")
    if len(set(runs) - acknowledged) > len(unknown):
        problems.append(
            f"doubled: {len(set(runs) - acknowledged)} runs beside the {len(acknowledged)} acknowledged ones"
        )
    for run_id, steps in bodies.items():
        if steps != sorted(steps, key=STEPS.index):
            problems.append(f"doubled: {run_id} did a saved step again: {' '.join(steps)}")
        if runs.get(run_id) == "succeeded" and set(steps) != set(STEPS):
            problems.append(f"lost: {run_id} succeeded with nothing but {' '.join(steps)}")
        repeated += len(steps) - len(set(steps))
    return Books(runs=len(runs), repeated=repeated, problems=problems)
