"""`tako bench`: enqueue, drain, latency, cold start and the disk, measured on this machine in about a minute."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tako.cli.arguments import count
from tako.cli.context import Context

if TYPE_CHECKING:
    from tako.bench.engine import BenchEngine

# Workload, what is said while it runs, and how much of it makes a minute in all.
WORKLOADS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("enqueue_1", "Enqueueing, one caller…", {"seconds": 2}),
    ("enqueue_threads", "Enqueueing, 32 threads…", {"seconds": 2}),
    ("enqueue_tasks", "Enqueueing, 32 asyncio tasks…", {"seconds": 2}),
    ("enqueue_many", "Enqueueing a thousand a call…", {"seconds": 1}),
    ("drain", "Draining `def` handlers…", {"runs": 5_000}),
    ("drain_async", "Draining `async def` handlers…", {"runs": 5_000}),
    ("warm", "Waiting for handlers, warm…", {"samples": 200}),
    ("cold", "Starting workers, cold…", {"rounds": 5}),
    ("recovery", "Killing workers…", {"rounds": 5}),
)

QUICK = 0.03  # of it


def configure(parser: argparse.ArgumentParser) -> None:
    """How long, and against which durability."""
    parser.add_argument("--rounds", type=count, default=1, metavar="N", help="measure N times, and show the spread")
    parser.add_argument(
        "--durability", choices=("full", "process"), default="full",
        help="full: synced to the disk before it is acknowledged; process: survives a crash, not a power cut",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="rough figures in a few seconds")


def run(context: Context, args: argparse.Namespace) -> int:
    """Measure on an engine and a store of its own; nothing of an app is touched."""
    from tako.bench import machine, table
    from tako.bench.engine import engine

    output = context.output
    described = machine.described()
    output.doing(f"Measuring Tako {described['tako']} on {described['cores']} cores, load {described['load']}…")
    figures: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        _keep(figures, machine.fsync_ms())
        with engine(durability=args.durability) as running:
            _round(running, figures, context, share=QUICK if args.quick else 1.0)
    if output.json:
        output.document({"machine": described, "durability": args.durability, "figures": figures})
        return 0
    output.table(["", "median", "spread"] if args.rounds > 1 else ["", ""], _rows(table.rows(figures), args.rounds))
    if described["load"] > 1:
        output.warn(f"Other work ran meanwhile (load {described['load']}): on a quiet machine the figures are better.")
    return 0


def _round(running: BenchEngine, figures: dict[str, list[float]], context: Context, *, share: float) -> None:
    for workload, words, options in WORKLOADS:
        context.output.doing(words)
        _keep(figures, running.measure(workload, **{name: value * share for name, value in options.items()}))


def _keep(figures: dict[str, list[float]], found: dict[str, float]) -> None:
    for name, value in found.items():
        figures.setdefault(name, []).append(value)


def _rows(rows: list[list[str]], rounds: int) -> list[list[str]]:
    return rows if rounds > 1 else [row[:2] for row in rows]
