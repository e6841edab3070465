"""One run as a page for people, and as a document for programs."""

from __future__ import annotations

import json
from typing import Any

from tako.cli import moments
from tako.cli.output import DIM, RED, Output
from tako.logs.render import clean, clean_lines

_FEW = 3
ENDED = frozenset({"succeeded", "cancelled", "dead"})
OF_A_CHILD = ("id", "workflow", "status", "attempt", "created_ms", "error")
CAN_RETRY = frozenset({"dead", "cancelled", "succeeded"})


def document(run: dict[str, Any]) -> dict[str, Any]:
    """The run for programs: JSON texts become values (`payload_json` -> `payload`); a child in a few words."""
    found = _decoded(run, "payload_json", "result_json")
    if "steps" in run:
        found["steps"] = [_decoded(step, "result_json") for step in run["steps"]]
    if "children" in run:
        found["children"] = [{name: child[name] for name in OF_A_CHILD} for child in run["children"]]
    return found


def show(output: Output, run: dict[str, Any], *, now_ms: int) -> None:
    """Print all that is known of the run, and what can be done about it."""
    output.result(f"{clean(run['workflow'])} {run['id']} {output.shown(run['status'])}")
    for name, value in _facts(run, now_ms=now_ms):
        head, *more = clean_lines(value)
        output.result(f"  {output.shown(f'{name:<10}', DIM)}{head}")
        for line in more:
            output.result(f"  {'':<10}{line}")
    _steps(output, run)
    _children(output, run)
    _attempts(output, run)
    if (traceback := run.get("traceback")) and run["status"] != "succeeded":  # of a failed attempt, which is over
        output.result("")
        for line in clean_lines(traceback):
            output.result(f"  {line}")
    if run["status"] == "dead":
        output.say(f"Run it again with `tako runs retry {run['id']}`; `tako logs --run {run['id']}` shows its output.")


def _facts(run: dict[str, Any], *, now_ms: int) -> list[tuple[str, str]]:
    def when(name: str) -> str:
        at_ms = run.get(name)
        return f"{moments.shown(at_ms)} ({moments.ago(at_ms, now_ms=now_ms)})" if at_ms else ""

    facts = [
        ("attempt", _attempt(run)),
        ("created", when("created_ms")),
        ("due", when("run_at_ms") if run["status"] not in ENDED and "waiting" not in run else ""),
        ("started", when("started_ms")),
        ("ended", when("ended_ms")),
        ("key", run.get("key") or ""),
        ("group", run.get("group") or ""),
        ("priority", str(run.get("priority") or "")),
        ("parent", run.get("parent_id") or ""),
        ("scheduled", when("scheduled_for_ms")),
        ("waits", _waits_for(run.get("waiting") or {})),
        ("blocked", run.get("blocked") or ""),
        ("reason", (run.get("reason") or "") if run.get("reason") != run.get("error") else ""),
        ("error", run.get("error") or ""),
        ("seen", "acknowledged" if run.get("acknowledged") and run["status"] == "dead" else ""),
        ("payload", run.get("payload_json") or ""),
        ("result", run.get("result_json") or ""),
        *(("warning", text) for text in run.get("warnings") or ()),
    ]
    return [(name, value) for name, value in facts if value]


def _attempt(run: dict[str, Any]) -> str:
    """Which attempt of how many; after a retry by hand, which begins to count anew, only which."""
    attempt, most = run["attempt"], run.get("retries", -1) + 1
    return f"{attempt} of {most}" if attempt <= most else str(attempt)


def _waits_for(waiting: dict[str, Any]) -> str:
    """What a parked run waits for, in a line."""
    if runs := waiting.get("runs"):
        more = f", and {len(runs) - _FEW} more" if len(runs) > _FEW else ""
        return f"for {len(runs)} run{'' if len(runs) == 1 else 's'}: {', '.join(runs[:_FEW])}{more}"
    if not waiting:
        return ""
    until = f"until {moments.shown(waiting['until_ms'])}" if waiting.get("until_ms") else "without end"
    if waiting.get("signal"):
        return f"for signal {clean(waiting['signal'])}, {until}"
    return f"in sleep {clean(waiting['step'])}, {until}"


def _children(output: Output, run: dict[str, Any]) -> None:
    if not run.get("children"):
        return
    output.result(f"  {output.shown('children', DIM)}")
    for child in run["children"]:
        error = clean((child["error"] or child.get("blocked") or "").split("\n")[0])
        status = output.shown(child["status"])
        output.result(f"    {child['id']}  {clean(child['workflow'])}  {status}  {error}".rstrip())
    if run.get("more_children"):
        output.result(f"    … `tako runs list --parent {run['id']}` has all of them")


def _steps(output: Output, run: dict[str, Any]) -> None:
    if not run.get("steps"):
        return
    output.result(f"  {output.shown('steps', DIM)}")
    for step in run["steps"]:
        started, ended = step.get("started_ms"), step["ended_ms"]
        took = moments.span(max(ended - started, 0)) if started else ""
        child = f"child {step['child_id']}" if step.get("child_id") else ""
        result = clean(step.get("result_json") or "")
        parts = [
            f"{clean(step['name']):<24}",
            f"{took:>6}",
            child or (result if len(result) < 60 else result[:59] + "…"),
        ]
        output.result(f"    ✔ {' '.join(parts)}".rstrip())


def _attempts(output: Output, run: dict[str, Any]) -> None:
    if not run.get("attempts"):
        return
    output.result(f"  {output.shown('attempts', DIM)}")
    for attempt in run["attempts"]:
        took = moments.span(max(attempt["ended_ms"] - attempt["started_ms"], 0))
        error = clean((attempt.get("error") or "").split("\n")[0])
        code = RED if attempt["outcome"] in ("failed", "fatal", "crashed") else ""
        outcome = output.shown(f"{clean(attempt['outcome']):<10}", code)
        line = f"    {attempt['attempt']}  {moments.shown(attempt['started_ms'])}  {took:>6}  {outcome}  {error}"
        output.result(line.rstrip())


def _decoded(found: dict[str, Any], *names: str) -> dict[str, Any]:
    """The dict with each JSON text replaced by its value under the name without `_json`."""
    decoded = {name: value for name, value in found.items() if name not in names}
    for name in names:
        if name in found:
            decoded[name.removesuffix("_json")] = value_of(found[name])
    return decoded


def value_of(text: str | None) -> Any:
    """The value of a JSON text; a damaged one as it is, so that it can be seen."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
