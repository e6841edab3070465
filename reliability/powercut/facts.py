"""What callers were told, read off the daemon's socket: each answered request that changed something is a fact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reliability.powercut.disk import Record

Message = dict[str, Any]


class Fact(NamedTuple):
    """Something that was acknowledged at this record of the log, and must be there after every later cut."""

    at: int
    kind: str  # enqueued, claimed, saved, finished, parked, signalled, backed up
    run_id: str
    detail: str = ""


@dataclass(slots=True)
class _Conversation:
    heard: bytes = b""
    said: bytes = b""
    asked: dict[Any, Message] = field(default_factory=dict)


def find(log: Sequence[Record]) -> list[Fact]:
    """All facts of a log, in their order."""
    found: list[Fact] = []
    callers: dict[int, _Conversation] = {}
    for at, record in enumerate(log):
        if record.op == "C":
            callers[record.fd] = _Conversation()
        elif record.op == "R":
            caller = callers.setdefault(record.fd, _Conversation())
            lines, caller.heard = _lines(caller.heard + record.data)
            for request in lines:
                caller.asked[request.get("request")] = request
        elif record.op == "Z":
            caller = callers[record.fd]
            caller.said = caller.said[: len(caller.said) - record.offset]
        elif record.op == "A":
            caller = callers.setdefault(record.fd, _Conversation())
            lines, caller.said = _lines(caller.said + record.data)
            for reply in lines:
                request = caller.asked.pop(reply.get("request"), {})
                if reply.get("status") == "ok":
                    found += _facts(at, request, reply.get("data"))
    return found


def _lines(data: bytes) -> tuple[list[Message], bytes]:
    *whole, rest = data.split(b"\n")
    return [json.loads(line) for line in whole if line], rest


def _facts(at: int, request: Message, data: Any) -> Iterator[Fact]:
    command, run_id = request.get("command"), str(request.get("id"))
    if command == "enqueue_runs":
        for run in data["runs"]:
            yield Fact(at, "enqueued", run["id"])
    elif command == "claim_runs":
        for run in data["runs"]:
            yield Fact(at, "claimed", run["id"], str(run["epoch"]))
    elif command == "save_step":
        yield Fact(at, "saved", run_id, request["step_name"])
    elif command == "finish":
        yield Fact(at, "finished", run_id, data["status"])
    elif command == "park":
        yield Fact(at, "parked", run_id, request["step_name"])
    elif command == "signal_run":
        yield Fact(at, "signalled", run_id, request["signal"])
    elif command == "backup":
        yield Fact(at, "backed up", "", data["path"])
