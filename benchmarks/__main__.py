"""`scripts/bench [SUBJECT …]`: Tako beside others, A B A B. Prints a table; `--save NAME` keeps it in `results/`."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import chart, report
from benchmarks.compare import compare, joined
from benchmarks.subjects import HERE, OTHERS, Sizes

WORKLOADS = ("enqueue", "drain", "warm", "load", "cold", "recovery", "shapes", "rest")


def main() -> int:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("subjects", nargs="*", default=["tako"], metavar="SUBJECT", help=f"tako, {', '.join(OTHERS)}")
    parser.add_argument("--all", action="store_true", help="tako and every other")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="only this workload; may be given again")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true", help="rough figures in seconds")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json, NAME.md and NAME.svg")
    parser.add_argument("--add", action="store_true", help="to the rounds that are saved under this name already")
    args = parser.parse_args()
    names = ["tako", *OTHERS] if args.all else list(dict.fromkeys(args.subjects))
    if unknown := [name for name in names if name != "tako" and name not in OTHERS]:
        parser.error(f"unknown: {', '.join(unknown)}. There are: tako, {', '.join(OTHERS)}")
    sizes = Sizes.quick() if args.quick else Sizes()
    document = compare(names, workloads=args.only or WORKLOADS, rounds=args.rounds, sizes=sizes)
    results = HERE / "results"
    if args.add and args.save and (kept := results / f"{args.save}.json").exists():
        document = joined(json.loads(kept.read_text()), document)
    print(json.dumps(document, indent=2) if args.json else report.table(document))
    if args.save:
        results.mkdir(exist_ok=True)
        (results / f"{args.save}.json").write_text(json.dumps(document, indent=2) + "\n")
        (results / f"{args.save}.md").write_text(report.table(document) + "\n")
        (results / f"{args.save}.svg").write_text(chart.chart(document))
    return 1 if any(subject.get("failures") for subject in document["subjects"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
