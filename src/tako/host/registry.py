"""Which workflows there are, in which group: from a worker that has imported them, else the last one that had, else
the static scan. What enqueue checks names and payloads against."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tako.errors import InvalidRequest, PayloadError, UnknownSignal, UnknownWorkflow
from tako.host import fields
from tako.protocol.messages import Registry as GroupRegistry
from tako.protocol.messages import WorkflowInfo


@dataclass(slots=True)
class Registry:
    """What the current code declares. `live` was told by workers of this code, `stored` by those of the code before,
    `scanned` is what the files seem to declare."""

    live: dict[str, GroupRegistry] = field(default_factory=dict)  # by group
    stored: dict[str, GroupRegistry] = field(default_factory=dict)
    scanned: dict[str, list[str]] = field(default_factory=dict)  # names by group
    _by_name: dict[str, WorkflowInfo] = field(default_factory=dict)  # live and stored, aliases included
    _group_of: dict[str, str] = field(default_factory=dict)
    _names_of: dict[str, list[str]] = field(default_factory=dict)

    def told(self, registry: GroupRegistry) -> list[str]:
        """A worker of the current code has said what its group declares; the names whose signature is another now."""
        before = {name: info["signature"] for name, info in self._by_name.items()}
        self.live[registry["group"]] = registry
        self.stored[registry["group"]] = registry
        self._index()
        infos = registry["workflows"]
        return [info["name"] for info in infos if before.get(info["name"], info["signature"]) != info["signature"]]

    def told_names(self, group: str, names: Iterable[str]) -> None:
        """A v0 worker claims runs of these names, so its group declares them; nothing else is known of them."""
        if any(self._group_of.get(name) != group for name in names):
            self.scanned[group] = sorted({*self.scanned.get(group, ()), *names})
            self._index()

    def new_code(self, scanned: Mapping[str, Iterable[str]]) -> None:
        """The code changed: what workers told of the old one is only the last resort now."""
        self.scanned = {group: sorted(names) for group, names in scanned.items()}
        self.stored.update(self.live)
        for group in list(self.stored):
            if group not in self.scanned:
                del self.stored[group]
        self.live.clear()
        self._index()

    def group_of(self, name: str) -> str | None:
        """The group whose workers run workflows of this name; None when nothing declares it."""
        return self._group_of.get(name)

    def find(self, name: str) -> WorkflowInfo | None:
        """What is known of a workflow by its name or an alias; None when no worker has told of it yet."""
        return self._by_name.get(name)

    def names_of(self, group: str) -> list[str]:
        """All names that runs of the group's workflows may be stored under, aliases included."""
        return self._names_of.get(group, [])

    def workflows(self) -> list[WorkflowInfo]:
        """Every workflow that workers have told of, by name."""
        found = {info["name"]: info for info in self._by_name.values()}
        return [found[name] for name in sorted(found)]

    def retention_ms(self) -> dict[str, int]:
        """Of the workflows that say so themselves: for how long their ended runs are kept."""
        kept = {name: (info.get("options") or {}).get("retention_ms") for name, info in self._by_name.items()}
        return {name: ms for name, ms in kept.items() if ms is not None}

    def check_signal(self, workflow: str, signal: str, payload_json: str) -> None:
        """Refuse a signal that the workflow does not declare. Of one that no worker has told of, nothing is known.

        Raises:
            UnknownSignal: names the nearest ones.
            PayloadError: no wait could read this value.
        """
        info = self.find(workflow)
        if info is None:
            return
        known = {declared["name"]: declared for declared in info.get("signals") or ()}
        if signal in known:
            _check_signal_value(known[signal], payload_json)
            return
        near = difflib.get_close_matches(signal, known, n=1)
        declares = ", ".join(repr(name) for name in known) or "none"
        raise UnknownSignal(
            f"workflow {_shown(workflow)} declares no signal {_shown(signal)}; it declares: {declares}",
            cure=f"Did you mean {near[0]!r}?" if near else "Name it in @workflow(signals=[...]).",
            detail={"workflow": workflow[:200], "signal": signal[:200], "nearest": near},
        )

    def unknown(self, name: str, *, undone: str = "nothing was enqueued") -> UnknownWorkflow:
        """The refusal of a name that nothing declares, with the nearest ones."""
        known = sorted(self._group_of)
        near = difflib.get_close_matches(name, known, n=3)
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        elif known:
            hint = f"Known: {', '.join(known[:8])}{', …' if len(known) > 8 else ''}."
        else:
            hint = "No workflow is declared at all; `tako init` writes a first one."
        return UnknownWorkflow(
            f"no code declares a workflow named {_shown(name)}; {undone}",
            cure=hint,
            detail={"name": name[:200], "nearest": near},
        )

    def _index(self) -> None:
        self._by_name.clear()
        self._group_of.clear()
        for group, names in self.scanned.items():
            for name in names:
                self._group_of[name] = group
        for registries in (self.stored, self.live):
            for group, registry in registries.items():
                for info in registry["workflows"]:
                    for name in (info["name"], *info["aliases"]):
                        self._by_name[name] = info
                        self._group_of[name] = group
        self._names_of.clear()
        for name, group in self._group_of.items():
            self._names_of.setdefault(group, []).append(name)


_ACCEPTS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


def check_payload(info: WorkflowInfo, payload_json: str) -> dict[str, Any]:
    """Check arguments that no SDK has checked (by name, v0, CLI) against the handler's parameters; return them.

    Only what can be told without the code: names, and the plainest types. The worker decodes the rest.

    Raises:
        PayloadError: names the argument. Nothing was stored.
    """
    try:
        payload = json.loads(payload_json)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"enqueue {info['name']}: the payload is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise PayloadError(f"enqueue {info['name']}: the payload is an object of arguments, not {_kind(payload)}")
    parameters = {parameter["name"]: parameter for parameter in info["parameters"]}
    for name in payload:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It takes: {', '.join(parameters) or 'nothing'}."
            raise PayloadError(f"enqueue {info['name']}: it has no argument {_shown(name)}", cure=hint)
    for name, parameter in parameters.items():
        if name not in payload:
            if parameter["required"]:
                raise PayloadError(f"enqueue {info['name']}: argument {name!r} ({parameter['type']}) is missing")
            continue
        _check_plain_type(info["name"], name, parameter["type"], payload[name])
    return payload


def _check_signal_value(declared: Mapping[str, Any], payload_json: str) -> None:
    """As far as its declaration tells: the SDK knows the type itself, and has checked all of it."""
    what = f"signal {declared['name']}"
    try:
        value = json.loads(payload_json)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: the value is not JSON: {error}; nothing was sent") from error
    _check_kind(what, declared.get("kind"), value)
    fields_of = declared.get("fields")
    if not isinstance(fields_of, dict) or not isinstance(value, dict):
        return
    for name in declared.get("needed") or ():
        if name not in value:
            raise PayloadError(f"{what}: {name!r} is missing; nothing was sent")
    for name, kind in fields_of.items():
        if name in value:
            _check_kind(f"{what}.{name}", kind, value[name])


def _check_kind(what: str, kind: object, value: object) -> None:
    expected = _KINDS.get(kind) if isinstance(kind, str) else None
    if expected is not None and _kind(value) != expected:
        raise PayloadError(f"{what}: expected {expected}, found {_kind(value)}; nothing was sent")


_KINDS = {"object": "an object", "array": "a list", "string": "a text", "bool": "a boolean", "number": "a number",
          "null": "null"}  # fmt: skip


def check_registry(value: Mapping[str, Any], *, group: str) -> GroupRegistry:
    """What a worker says that its group declares, with every field that we rely on.

    Raises:
        InvalidRequest: something is missing or of the wrong type.
    """
    workflows = value.get("workflows")
    if value.get("group") != group or not isinstance(workflows, list):
        raise InvalidRequest(f"invalid request: `registry` is not one of group {group!r}")
    for info in workflows:
        if not isinstance(info, dict) or not isinstance(info.get("name"), str):
            raise InvalidRequest("invalid request: a workflow of `registry` without a name")
        _check_workflow(info)
        for name in ("max_pending", "on_dead"):
            info.setdefault(name, None)
    files = value.get("files")
    return {"group": group, "workflows": workflows, "files": files if isinstance(files, list) else []}


def _check_workflow(info: dict[str, Any]) -> None:
    fields.check_name("name", info["name"])
    for name, kinds in _FIELDS_OF_A_WORKFLOW.items():
        if not isinstance(info.get(name), kinds):
            raise _not_told(info, name)
    for name, within in _FIELDS_WITHIN.items():
        for item in info.get(name) or ():
            fits = isinstance(item, dict) and all(isinstance(item.get(key), kinds) for key, kinds in within.items())
            if not fits:
                raise _not_told(info, name)
    if not all(isinstance(alias, str) for alias in info["aliases"]):
        raise _not_told(info, "aliases")


def _not_told(info: Mapping[str, Any], name: str) -> InvalidRequest:
    return InvalidRequest(f"invalid request: `{name}` of workflow {_shown(info['name'])} in `registry`")


_Kinds = tuple[type, ...]
_FIELDS_OF_A_WORKFLOW: dict[str, _Kinds] = {
    "aliases": (list,),
    "parameters": (list,),
    "retries": (int,),
    "signature": (str,),
    "key": (str, type(None)),
    "max_pending": (int, type(None)),
    "on_dead": (str, type(None)),
    "if_unhealthy": (str, type(None)),
    "schedules": (list, type(None)),
    "signals": (list, type(None)),
    "options": (dict, type(None)),
}
_FIELDS_WITHIN: dict[str, dict[str, _Kinds]] = {
    "parameters": {"name": (str,), "type": (str,), "required": (int,)},
    "schedules": {"kind": (str,), "expression": (str, type(None)), "interval_ms": (int, type(None)),
                  "tz": (str, type(None))},
    "signals": {"name": (str,)},
}  # fmt: skip


def _check_plain_type(workflow: str, name: str, declared: str, value: object) -> None:
    accepted: tuple[type, ...] = ()
    for part in declared.split("|"):
        if (plain := _ACCEPTS.get(part.strip())) is None:
            return
        accepted += plain
    fits = isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
    if not fits:
        raise PayloadError(f"enqueue {workflow}: argument {name!r} is {declared}, found {_kind(value)}")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:99] + "…")
