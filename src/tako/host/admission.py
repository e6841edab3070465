"""The gate before the store: who may enqueue now, who waits for a booting worker, who is refused and why.

Refused means: nothing was written. Held means: the caller waits, a few seconds at most, until a new worker has said
HELLO or has failed (contract.md 3.2, rows 5b, 11, 14, 15). What is admitted is stored by one `submit` to the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

from tako.clock import Clock
from tako.engine.answer import Answer
from tako.errors import EnqueueError, InvalidRequest, PayloadError
from tako.host import fields
from tako.host.registry import Registry, check_payload
from tako.protocol import templates
from tako.protocol.messages import Enqueued, NewRun

MAX_PAYLOAD_BYTES = 1_048_576
DEFAULT_DEADLINE_S = 5.0

Submit = Callable[[Sequence[NewRun], int | None], Answer[list[Enqueued]]]


class Gate(Protocol):
    """What admission needs of a group's supervisor."""

    @property
    def is_unproven(self) -> bool:
        """Whether new code has not said HELLO yet."""
        ...

    def admit_now(self) -> bool:
        """True to accept; False to wait with `admit`. Raises WorkerUnhealthy to refuse."""
        ...

    async def admit(self, deadline: float) -> None:
        """Return when an enqueue may be stored; raises WorkerUnhealthy, at the latest before `deadline`."""
        ...


class Admission:
    """`submit` stores admitted runs in one transaction, `check` asks whether it would; `look` makes sure that the code
    known is the code on disk."""

    def __init__(
        self,
        *,
        registry: Registry,
        gates: Mapping[str, Gate],
        clock: Clock,
        submit: Submit,
        check: Submit,
        hurry: Callable[[str], None],
        look: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._gates = gates
        self._clock = clock
        self._submit = submit
        self._check = check
        self._hurry = hurry
        self._look = look
        self.closed: str | None = None  # why nothing is admitted any more

    def enqueue(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Answer[list[Enqueued]] | Any:
        """Store the runs, now (an Answer) or after a wait (a coroutine); all of them or none.

        Raises:
            WorkerUnhealthy, UnknownWorkflow, PayloadError, StoreUnavailable: nothing was stored.
        """
        return self._admit(news, deadline_mono_ms, self._submit)

    def check(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Answer[list[Enqueued]] | Any:
        """Refuse what `enqueue` would refuse now, and store nothing. For whoever sends after a commit of its own."""
        return self._admit(news, deadline_mono_ms, self._check)

    def _admit(self, news: Sequence[NewRun], deadline_mono_ms: int | None, submit: Submit) -> Any:
        if self.closed is not None:
            raise EnqueueError(self.closed)
        self._look()
        groups = self._groups_of(news)
        if groups is None:
            return self._wait_and_store(news, deadline_mono_ms, submit)
        for group in groups:
            if not self._gates[group].admit_now():
                return self._wait_and_store(news, deadline_mono_ms, submit)
        return self._store(news, groups, deadline_mono_ms, submit)

    def _groups_of(self, news: Sequence[NewRun]) -> set[str] | None:
        """The groups that must be able to work; None when a name is not known (yet). Held-for-later runs need none."""
        groups: set[str] = set()
        known = ""  # the workflow of the run before: of a thousand that come together, most are of one
        for new in news:
            workflow = new["workflow"]
            if workflow == known and "if_unhealthy" not in new and "parent_id" not in new:
                continue
            group = self._registry.group_of(workflow)
            if group is None or group not in self._gates:
                return None
            info = self._registry.find(workflow)
            otherwise = info.get("if_unhealthy", "raise") if info is not None else "raise"
            # A child belongs to a run that is under way: it waits where its parent does.
            if "parent_id" not in new:
                if new.get("if_unhealthy", otherwise) != "hold":
                    groups.add(group)
                known = workflow if "if_unhealthy" not in new else ""
        return groups

    async def _wait_and_store(
        self, news: Sequence[NewRun], deadline_mono_ms: int | None, submit: Submit
    ) -> list[Enqueued]:
        now = self._clock.monotonic()
        deadline = now + DEFAULT_DEADLINE_S if deadline_mono_ms is None else deadline_mono_ms / 1000
        groups = self._groups_of(news)
        if groups is None:
            groups = await self._wait_for_names(news, deadline)
        for group in sorted(groups):
            if not self._gates[group].admit_now():
                await self._gates[group].admit(deadline)
        return await self._store(news, groups, deadline_mono_ms, submit)

    def adopt(self, new: NewRun) -> None:
        """Complete a child run, whose parent's attempt is under way: it waits where its parent does, so that neither
        broken nor booting workers refuse it. Nor does a name that a group may declare whose code cannot boot.

        Raises:
            UnknownWorkflow, PayloadError: it cannot be stored.
        """
        if self._registry.group_of(new["workflow"]) is None and self._registry.live.keys() >= self._gates.keys():
            raise self._registry.unknown(new["workflow"], undone="no child was started")
        self._complete(new)

    async def know(self, workflow: str) -> None:
        """Wait, as an enqueue does, until a worker has told what the current code declares of this workflow.

        Of code that cannot boot nothing is told, and the last word stands: this does not raise.
        """
        with suppress(EnqueueError):
            self._look()
            deadline = self._clock.monotonic() + DEFAULT_DEADLINE_S
            group = self._registry.group_of(workflow)
            for name, gate in list(self._gates.items()):
                if group in (None, name) and gate.is_unproven:
                    await gate.admit(deadline)

    async def _wait_for_names(self, news: Sequence[NewRun], deadline: float) -> set[str]:
        """A name found nowhere may be declared by code that is just booting, or by code that cannot boot."""
        for gate in list(self._gates.values()):
            if gate.is_unproven:
                await gate.admit(deadline)
        groups = self._groups_of(news)
        if groups is not None:
            return groups
        for gate in self._gates.values():
            gate.admit_now()  # raises WorkerUnhealthy: the name may be one of theirs
        missing = next(new["workflow"] for new in news if self._registry.group_of(new["workflow"]) is None)
        raise self._registry.unknown(missing)

    def _store(
        self, news: Sequence[NewRun], groups: set[str], deadline_mono_ms: int | None, submit: Submit
    ) -> Answer[list[Enqueued]]:
        for new in news:
            self._complete(new)
        stored = submit(news, deadline_mono_ms)
        if submit is self._submit and _is_for_now(news):
            for group in groups:
                self._hurry(group)
        return stored

    def _complete(self, new: NewRun) -> None:
        """Fill in what the caller left to the workflow's own options, and check what no SDK has checked."""
        info = self._registry.find(new["workflow"])
        if info is None:
            return
        if new.get("signature") != info["signature"]:
            payload = check_payload(info, new["payload_json"])
            values = {**((info.get("options") or {}).get("defaults") or {}), **payload}
            missing = {field: text for field, text in templates.of(info).items() if field not in new}
            cast(dict[str, Any], new).update(templates.render_all(missing, values))
        new.setdefault("retries", info["retries"])


def _is_for_now(news: Sequence[NewRun]) -> bool:
    """Whether one of these runs may be due as soon as it is stored."""
    return any("delay_ms" not in new and "run_at_ms" not in new for new in news)


def check_new_runs(value: object) -> list[NewRun]:
    """The `runs` of a request, each with the fields it must have and none of a wrong type.

    Raises:
        InvalidRequest: names the field.
        PayloadError: a payload is too large.
    """
    if not isinstance(value, list) or not value:
        raise InvalidRequest("invalid request: `runs` is a list of at least one run")
    for new in value:
        if not isinstance(new, dict):
            raise InvalidRequest("invalid request: `runs` holds objects")
        if not new.keys() >= _NEEDED:
            missing = next(name for name in ("id", "workflow", "payload_json") if name not in new)
            raise InvalidRequest(f"invalid request: a run without `{missing}`")
        _check_fields(new)
    return value


def _check_fields(new: dict[str, Any]) -> None:
    for name, found in new.items():
        kind = _KINDS.get(name)
        if kind is None:
            continue  # of a newer SDK
        if type(found) is not kind:
            raise InvalidRequest(f"invalid request: `{name}` of a run has the wrong type")
        if kind is str:
            # Most are short, plain and free to choose; what is not has its check.
            if len(found) > fields.MAX_NAME_CHARS or name in _CHOICES or not found.isascii() or "\0" in found:
                _check_text(new, name, found)
        elif kind is int and not -fields.MAX_INTEGER <= found <= fields.MAX_INTEGER:
            raise InvalidRequest(f"invalid request: `{name}` of a run is more than 2^53")


def _check_text(new: dict[str, Any], name: str, found: str) -> None:
    if name == "payload_json":
        new[name] = fields.escaped(found)
        if len(new[name]) > MAX_PAYLOAD_BYTES:
            raise payload_too_large(str(new["workflow"])[:100], len(new[name]))
        return
    fields.check_name(name, found)
    if name in _CHOICES and found not in _CHOICES[name]:
        raise InvalidRequest(f"invalid request: `{name}` is {' or '.join(_CHOICES[name])}")


_NEEDED = {"id", "workflow", "payload_json"}
_KINDS: dict[str, Any] = {
    "id": str,
    "workflow": str,
    "payload_json": str,
    "signature": str,
    "run_at_ms": int,
    "delay_ms": int,
    "key": str,
    "concurrency_key": str,
    "rate_key": str,
    "parent_id": str,
    "trace": str,
    "on_duplicate": str,
    "priority": int,
    "retries": int,
    "expires_at_ms": int,
    "if_unhealthy": str,
    "confirm": bool,
}
_CHOICES = {"on_duplicate": ("return", "raise"), "if_unhealthy": ("raise", "hold")}


def payload_too_large(workflow: str, size: int) -> PayloadError:
    """The refusal of arguments over the limit."""
    return PayloadError(
        f"enqueue {workflow}: the arguments are {size:,} bytes, the limit is {MAX_PAYLOAD_BYTES:,}; nothing was stored",
        cure="Store the data elsewhere (a file, a table) and pass a reference to it.",
    )
