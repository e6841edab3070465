"""`tako init`: write `tako.toml`, a first workflow and its test. Never overwrites."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from tako.cli import frameworks, templates
from tako.cli.context import Context
from tako.cli.frameworks import Framework


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Write what is missing, say what was kept, and what to do next."""
    from tako.config.load import name_of

    folder, output = context.folder, context.output
    found = frameworks.recognise(folder)
    wanted = templates.files(name=name_of(folder), is_sync=found is not None and found.is_sync)
    has_workflows = any(_workflow_files(folder))
    if has_workflows:
        # The first workflow is there already: its author needs no example, and a test of one even less.
        wanted = {path: text for path, text in wanted.items() if path in (templates.CONFIG, templates.PACKAGE)}
    written = [path for path, text in wanted.items() if _write(folder / path, text)]
    kept = [path for path in wanted if path not in written]
    if output.json:
        framework = found.name if found else None
        output.document(
            {"written": written, "kept": kept, "framework": framework, "target": found.target if found else None}
        )
        return 0
    for path in written:
        output.done(f"Wrote {path}")
    for path in kept:
        output.say(f"  Kept {path}, which was there.")
    _next_steps(context, found, has_example=templates.WORKFLOW in wanted)
    return 0


def _write(path: Path, text: str) -> bool:
    """Write the file unless something of this name is there; whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _workflow_files(folder: Path) -> list[Path]:
    found = sorted((folder / "workflows").glob("**/*.py")) if (folder / "workflows").is_dir() else []
    return [path for path in found if not path.name.startswith("_") and path != folder / templates.WORKFLOW]


def _next_steps(context: Context, found: Framework | None, *, has_example: bool) -> None:
    say = context.output.say
    say("")
    if found is not None:
        say(f"Found {found.label} in {found.file}: `tako dev` serves {found.target}.")
    say("Next:")
    if found is not None and found.seam:
        say(f"  {found.seam}")
    say("  tako dev                        starts app, workers and logs, and reloads on save")
    if has_example:
        say("  tako enqueue hello name=Ada     in another terminal: the first run")
        if importlib.util.find_spec("pytest") is None:
            say("  pip install pytest              is needed for the next one")
        say("  python -m pytest                runs the workflow's test, without an engine")
        call = found.enqueue if found else 'hello.enqueue(name="Ada")'
        say(f"  In your app: {call}, after `from workflows.hello import hello`")
