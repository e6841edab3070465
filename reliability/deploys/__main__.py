"""`python -m reliability.deploys`: a little of all. `--gate`: 20 deploys, 5 roll-backs, each phase, 5 power cuts."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reliability.deploys.load import Load
from reliability.deploys.scene import Act, Scene, document, scene

# Where the daemon dies, and what becomes of the deploy: the table of docs/reference/server.md.
BEFORE_SWITCH = ("stage", "build", "release", "gate", "boot", "health")
PLACES = {
    **{f"{phase}:{moment}": "failed" for phase in BEFORE_SWITCH for moment in ("before", "after")},
    "switch:before": "failed",
    "commit:before": "failed",
    "commit:after": "live",
    "switch:after": "live",
    **{
        f"{phase}:{moment}": "live"
        for phase in ("watch", "drain", "workers", "prune")
        for moment in ("before", "after")
    },
}
SOME_PLACES = {place: PLACES[place] for place in ("gate:after", "commit:before", "commit:after")}


def main() -> int:
    """1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m reliability.deploys")
    parser.add_argument("--gate", action="store_true", help="all of it, with releases watched as long as in production")
    parser.add_argument("--deploys", type=int)
    parser.add_argument("--rollbacks", type=int)
    parser.add_argument("--power-cuts", type=int)
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="how long a new release is watched")
    parser.add_argument("--keep", type=Path, help="a folder for logs and store of the app, when something is wrong")
    parser.add_argument("--all-places", action="store_true", help="kill the daemon in each place, as --gate does")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    is_gate = options.gate
    acts = []
    with scene(watch_s=options.watch if options.watch is not None or is_gate else 0.5) as (made, added):
        made.keep = options.keep
        for act in trial(
            made,
            added,
            deploys=options.deploys or (20 if is_gate else 4),
            rollbacks=options.rollbacks or (5 if is_gate else 1),
            places=PLACES if is_gate or options.all_places else SOME_PLACES,
            power_cuts=options.power_cuts or (5 if is_gate else 1),
        ):
            acts.append(act)
            if not options.json:
                print(act, flush=True)
    if options.json:
        print(document(acts))
    return 1 if any(act.problems for act in acts) else 0


def trial(made: Scene, added: Act, **sizes: Any) -> Iterator[Act]:
    """A bare box, the example, and then the till under load."""
    yield added
    yield made.deploy_example()
    yield from play(made, **sizes)


def play(made: Scene, *, deploys: int, rollbacks: int, places: dict[str, str], power_cuts: int) -> Iterator[Act]:
    """The till, under load. Deploys and kills of the daemon must repeat no step; a power cut may."""
    made.next_release()
    made.deploy()
    with Load(made.box.host, made.context) as load:
        yield made.roll(load, deploys=deploys, rollbacks=rollbacks)
        yield made.kill_daemon(load, table=places)
    yield made.settle(load, may_repeat=False)
    with Load(made.box.host, made.context, first_order=load.next_order) as dark:
        yield made.cut_power(dark, times=power_cuts)
    dark.report.orders |= load.report.orders
    dark.report.unknown |= load.report.unknown
    yield made.settle(dark, may_repeat=True)


if __name__ == "__main__":
    sys.exit(main())
