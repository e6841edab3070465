"""`tako status`: one page about everything; exits 1 when anything is wrong."""

from __future__ import annotations

import argparse
from typing import Any

from tako.cli import moments
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.cli.output import DIM, Output
from tako.logs.render import clean, clean_lines


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Print what is wrong first, each with its cure, then what there is."""
    if context.where is not None:
        from tako.cli import remote_status

        now_ms = context.now_ms()
        return remote_status.show(context, page=lambda app, status: _page(context.output, app, status, now_ms=now_ms))
    status = context.engine().call("status")
    if context.output.json:
        context.output.document(status)
    else:
        _page(context.output, context.engine().place.app, status, now_ms=context.now_ms())
    return DONE if status["ok"] else REFUSED


def _page(output: Output, app: str, status: dict[str, Any], *, now_ms: int) -> None:
    problems = status["problems"]
    wrong = [problem for problem in problems if not _is_warning(problem)]
    if wrong:
        output.result(f"{output.shown('✘', '31')} {app}: {_count(len(wrong), 'thing is', 'things are')} wrong.")
    elif problems:
        output.result(f"{output.shown('!', '33')} {app}: {_count(len(problems), 'thing needs', 'things need')} a look.")
    else:
        output.result(f"{output.shown('✔', '32')} {app}: nothing is wrong.")
    for problem in [*wrong, *(problem for problem in problems if _is_warning(problem))]:
        _problem(output, problem)
    for health in status.get("groups", []):
        _group(output, health, now_ms=now_ms)
    if counts := _counts(status.get("counts", {})):
        output.result(f"{output.shown('runs', DIM)}       {counts}")
    store = dict(status.get("store") or {})
    if isinstance(store.get("bytes"), int):
        store["size"] = f"{store.pop('bytes') / 1e6:.1f} MB"
    _table_of_facts(output, "store", store)
    _table_of_facts(output, "engine", {name: status.get(name) for name in ("version", "pid", "release")})


def _problem(output: Output, problem: dict[str, Any]) -> None:
    head, *more = clean_lines(str(problem.get("what", "")))
    mark = output.shown("!", "33") if _is_warning(problem) else output.shown("✘", "31")
    output.result(f"  {mark} {head}")
    for line in [*more, *(clean_lines(str(problem["cure"])) if problem.get("cure") else [])]:
        output.result(f"    {line}")


def _is_warning(problem: dict[str, Any]) -> bool:
    return problem.get("severity") == "warning"


def _group(output: Output, health: dict[str, Any], *, now_ms: int) -> None:
    workers = health.get("workers", [])
    in_flight = sum(_number(worker.get("in_flight")) for worker in workers)
    none = "no worker" if health.get("failures") else "no worker (scaled to zero)"
    facts = [
        _count(len(workers), "worker", "workers") if workers else none,
        f"{in_flight} in flight" if in_flight else "",
        _count(health["held"], "enqueue held", "enqueues held") if health.get("held") else "",
        _count(health["failures"], "failed start", "failed starts") if health.get("failures") else "",
    ]
    state = health.get("state", "")
    if health.get("failing"):
        state = "failing"
    line = f"{output.shown('group', DIM)}      {clean(health['group'])} {output.shown(state)}, "
    output.result(line + ", ".join(fact for fact in facts if fact))
    if health.get("reason") and health.get("failures"):
        for text in clean_lines(health["reason"]):
            output.result(f"             {text}")
        if health.get("retry_at_ms"):
            output.result(f"             next start {moments.ago(health['retry_at_ms'], now_ms=now_ms)}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number)


def _table_of_facts(output: Output, name: str, facts: Any) -> None:
    if isinstance(facts, dict) and facts:
        text = ", ".join(
            f"{key} {clean(str(value))}" for key, value in facts.items() if value not in (None, "", [], {})
        )
        output.result(f"{output.shown(f'{name:<10}', DIM)} {text}")


def _number(value: Any) -> int:
    return len(value) if isinstance(value, list) else value if isinstance(value, int) else 0


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
