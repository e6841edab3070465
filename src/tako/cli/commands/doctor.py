"""`tako doctor`: look at this machine, this folder and its store; exits 1 when something will not work."""

from __future__ import annotations

import argparse
from pathlib import Path

from tako.cli import checkup
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED

_WHOLE_STORE_S = 300.0  # the engine reads every page and every run


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(context: Context, args: argparse.Namespace) -> int:
    """Print a line for each thing that was looked at."""
    output = context.output
    findings = checkup.everything(
        Path(context.app_folder()), call=lambda command: context.engine().call(command, deadline_s=_WHOLE_STORE_S)
    )
    bad = [finding for finding in findings if finding.state == "bad"]
    if output.json:
        rows = [{"name": f.name, "state": f.state, "what": f.what, "cure": f.cure} for f in findings]
        output.document({"ok": not bad, "findings": rows})
        return REFUSED if bad else DONE
    marks = {"good": output.shown("✔", "32"), "warning": output.shown("!", "33"), "bad": output.shown("✘", "31")}
    for finding in findings:
        output.result(f"{marks[finding.state]} {finding.name:<10} {finding.what}")
        if finding.cure:
            output.result(f"  {'':<10} {finding.cure}")
    return REFUSED if bad else DONE
