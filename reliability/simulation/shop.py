"""The app whose workflows the simulated workers run: what it declares, and what each handler does, as a script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tako.discovery.declarations import Declaration
from tako.discovery.scan import Scan, WorkflowFile

# What a script is made of: ("step", name) or ("step", name, seconds) · ("sleep", name, ms) · ("wait", name, signal,
# timeout_ms or None) · ("fail", until_attempt) · ("fatal",) · ("stop",) · ("die", name) · ("child", name) · ("start",
# name, workflow) · ("gather", names, whether one that failed fails the parent)
Line = tuple[Any, ...]
Script = tuple[Line, ...]

NO_JITTER = {"first_ms": 500, "factor": 2.0, "max_ms": 4_000, "jitter": 0.0}
RETRIES = 2

GROUPS = ("default", "mail")
GROUP_OF = {"post": "mail"}

PLAIN: Script = (("step", "a"), ("step", "b"), ("step", "c"))
SCRIPTS: dict[str, Script] = {
    "charge": PLAIN,
    "post": (("step", "a"), ("step", "b")),
    "child": (("step", "a"),),
    "mourn": (("step", "a"),),
    "tick": (("step", "a"),),
    "tock": (("step", "a"), ("sleep", "rest", 15_000), ("step", "b")),
    "narrow": PLAIN,
    "slowly": (("step", "a"),),
    "single": PLAIN,
    "few": PLAIN,
}
STILLBORN: Script = (("step", "a"), ("fatal",))
SCHEDULES: dict[str, list[dict[str, Any]]] = {
    "tick": [{"kind": "every", "interval_ms": 20_000}],
    "tock": [{"kind": "every", "interval_ms": 10_000, "overlap": "queue"}],
}
SIGNALS = ("go", "more")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run as the plan wants it. `poison`: it kills whoever runs it."""

    workflow: str
    script: Script
    fields: dict[str, Any] = field(default_factory=dict)
    ends: str = "succeeded"  # what it comes to, if nobody interferes and its workers live

    @property
    def is_poison(self) -> bool:
        """Whether it kills its workers."""
        return any(line[0] == "die" for line in self.script)


def script_of(workflow: str) -> Script:
    """What a run does that nobody has described: one that a schedule, a parent or a death has made."""
    return STILLBORN if workflow == "stillborn" else SCRIPTS.get(workflow, PLAIN)


WORKFLOWS = (
    "charge", "shaky", "order", "nap", "poison", "broken", "quits", "family", "child", "narrow", "slowly", "single",
    "few", "mourn", "stillborn", "tick", "tock", "post",
)  # fmt: skip


def group_of(workflow: str) -> str:
    """The group that a workflow is of."""
    return GROUP_OF.get(workflow, "default")


def registry(group: str, version: int) -> dict[str, Any]:
    """What a worker of this group tells in HELLO; some of it differs from version to version."""
    workflows = [_info(name, version) for name in WORKFLOWS if group_of(name) == group]
    return {"group": group, "workflows": workflows, "files": [f"workflows/{group}.py"]}


def _info(name: str, version: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if name == "narrow":
        options["concurrency"] = (2, 1, 3)[version % 3]
    if name == "slowly":
        options["rate"] = {"count": 2, "per_ms": 4_000}
    return {
        "name": name,
        "aliases": [],
        "group": group_of(name),
        "file": f"workflows/{group_of(name)}.py",
        "line": 1,
        "parameters": [{"name": "n", "type": "int", "required": False}],
        "signature": f"{name}-{version % 2}",
        "retries": RETRIES,
        "timeout_ms": None,
        "key": None,
        "max_pending": 3 if name == "few" else None,
        "on_dead": "mourn" if name in ("shaky", "broken") else None,
        "if_unhealthy": "hold" if name == "nap" else "raise",
        "schedules": SCHEDULES.get(name, []) if version % 4 != 3 else [],
        "signals": [{"name": signal} for signal in SIGNALS] if name == "order" else [],
        "options": options,
    }


def scan(version: int) -> Scan:
    """What the static scan would find in the files of this version."""
    files = []
    for group in GROUPS:
        names = [name for name in WORKFLOWS if group_of(name) == group]
        declared = tuple(Declaration(name=name, group=group, line=at) for at, name in enumerate(names))
        files.append(WorkflowFile(f"workflows/{group}.py", (group,), declared, None, (version, 1)))
    return Scan(files=tuple(files))
