"""A workflow's name that nothing was found for: was it meant so?"""

from __future__ import annotations

import difflib

from tako.cli.engine import Engine
from tako.logs.render import clean


def doubt(engine: Engine, workflow: str | None) -> str:
    """A sentence about a name that no code declares, "" if it is declared or none was given."""
    if workflow is None:
        return ""
    known = [
        name for info in engine.call("list_workflows")["workflows"] for name in (info["name"], *info.get("aliases", ()))
    ]
    if workflow in known:
        return ""
    near = difflib.get_close_matches(workflow, known, n=1)
    hint = f" Did you mean {clean(near[0])}?" if near else ""
    return f" No code declares a workflow {workflow!r}.{hint}"
