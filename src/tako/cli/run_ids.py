"""A run's id as people give it: whole, as the log shows it (`0198…4f2a1c`), or any end of it that is its own."""

from __future__ import annotations

import re

from tako.cli.engine import Engine
from tako.errors import RunNotFound, TakoError

WHOLE = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
SHORTENED = re.compile(r"([0-9a-f-]*)(?:…|\.\.\.?)?([0-9a-f-]*)", re.ASCII | re.IGNORECASE)
LOOK_AT = 2_000
PAGE = 500


def resolve(engine: Engine, text: str) -> str:
    """The id that `text` stands for. A shortened one is looked for among the newest runs.

    Raises:
        RunNotFound: none of them matches.
        TakoError: more than one does; they are listed.
    """
    if WHOLE.fullmatch(text):
        return text
    match = SHORTENED.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise RunNotFound(f"{text!r} is not the id of a run.", cure="See them with `tako runs list`.")
    begin, end = (part.replace("-", "").lower() for part in match.groups())
    found = [run_id for run_id in _newest(engine) if _fits(run_id.replace("-", "").lower(), begin, end)]
    if not found:
        raise RunNotFound(
            f"None of the newest {LOOK_AT} runs has the id {text}.", cure="Give the whole id: `tako runs list --json`."
        )
    if len(found) > 1:
        shown = "\n".join(found[:10])
        raise TakoError(f"{text} stands for {len(found)} runs; nothing was done.", cure=f"Which one?\n{shown}")
    return found[0]


def _fits(run_id: str, begin: str, end: str) -> bool:
    """Whether the id begins and ends so. With one part only, it may stand at either end."""
    if begin and end:
        return run_id.startswith(begin) and run_id.endswith(end)
    part = begin or end
    return (bool(begin) and run_id.startswith(part)) or run_id.endswith(part)


def _newest(engine: Engine) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while len(found) < LOOK_AT:
        page = engine.call("list_runs", {"limit": PAGE, "after": after})
        found += [run["id"] for run in page["runs"]]
        after = page["next"]
        if after is None:
            break
    return found
