"""Requests that a client of ours would never send: every command, with fields of wrong kinds, sizes and meanings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from tako.protocol import ids

LONG = "x" * 70_000
TEXTS = (
    "", " ", "a", "\0", "a\0b", "\ud800", "\udfff\ud800", "é", "日本", "🐙", "\x1b[31mred\x1b[0m", "\n", "a\nb\rc",
    "\u202egnp.exe", "../../etc/passwd", "/etc/passwd", "/dev/full", "'; DROP TABLE runs; --", "%s%n{0}{}", "NaN",
    "null", "{}", "[]", "1e400", "-" * 300, LONG, "'", '"', "\\", "$HOME", "*", "?", "%", "_", "tako", "default",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 7, 64, 1000, 10_000, 2**31, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1,
    2**64, 10**30, 10**400, 0.0, -0.0, 0.5, 1e308, -1e308, 5e-324,
)  # fmt: skip
JSONS = ("{}", "null", "1", '"text"', "[", "", '{"n":1}', '{"n":"1"}', '{"n":1e999}', '{"n":NaN}', "[" * 500, "{} x")
CRONS = (
    "* * * * *", "0 0 31 2 *", "*/0 * * * *", "60 * * * *", "0 0 * * 5#9", "L L L L L", "@reboot", "0-59/999 * * * *",
)  # fmt: skip

# What the specification gives each command, as kinds; `run` is the id of a run that is there.
FIELDS: dict[str, dict[str, str]] = {
    "enqueue_run": {"name": "workflow", "payload": "any", "opts": "options"},
    "register_schedules": {"schedules": "schedules"},
    "claim_run": {"worker_id": "worker", "names": "texts", "lease_ms": "number"},
    "heartbeat_run": {"id": "run", "worker_id": "worker", "lease_ms": "number"},
    "save_step": {"id": "run", "worker_id": "worker", "epoch": "number", "step_name": "text", "result_json": "json",
                  "result": "any", "started_ms": "number", "attempt": "number"},
    "complete_run": {"id": "run", "worker_id": "worker"},
    "cancel_run": {"id": "run", "worker_id": "worker", "reason": "text"},
    "fail_run": {"id": "run", "worker_id": "worker", "error": "text", "next_run_at_ms": "number", "finalize": "flag"},
    "defer_run": {"id": "run", "worker_id": "worker", "wake_at_ms": "number"},
    "wait_for_event": {"id": "run", "worker_id": "worker", "step_name": "text", "event_name": "text",
                       "timeout_at_ms": "number"},
    "signal": {"event_name": "text", "payload": "any"},
    "enqueue_runs": {"runs": "new runs", "deadline_mono_ms": "number"},
    "check_runs": {"runs": "new runs", "deadline_mono_ms": "number"},
    "get_run": {"id": "run", "with": "texts"},
    "find_run": {"workflow": "workflow", "key": "text"},
    "list_runs": {"workflow": "workflow", "status": "text", "group": "text", "key": "text", "since_ms": "number",
                  "until_ms": "number", "parent_id": "run", "limit": "number", "after": "text"},
    "wait_run": {"id": "run", "timeout_ms": "short"},
    "cancel": {"id": "run", "ids": "runs", "reason": "text"},
    "retry": {"id": "run", "ids": "runs", "from_step": "text"},
    "ack": {"ids": "runs", "workflow": "workflow", "all": "flag"},
    "signal_run": {"id": "run", "workflow": "workflow", "key": "text", "signal": "text", "payload_json": "json",
                   "signal_id": "text"},
    "list_workflows": {"about": "workflow"},
    "pause": {"workflow": "workflow", "group": "text", "key": "text"},
    "resume": {"workflow": "workflow", "group": "text", "key": "text"},
    "list_schedules": {},
    "pause_schedules": {"workflow": "workflow"},
    "resume_schedules": {"workflow": "workflow"},
    "run_schedule": {"workflow": "workflow", "deadline_mono_ms": "number"},
    "health": {"group": "text"},
    "status": {},
    "logs": {"run": "text", "workflow": "text", "group": "text", "level": "text", "last_crash": "flag",
             "limit": "number"},
    "backup": {"path": "text"},
    "check_store": {},
    "hello": {"role": "text", "worker_id": "worker", "pid": "number", "group": "text", "registry": "registry",
              "in_flight": "pairs"},
    "claim_runs": {"worker_id": "worker", "max": "number", "wait_ms": "short"},
    "load_steps": {"worker_id": "worker", "id": "run", "epoch": "number", "after": "text"},
    "park": {"worker_id": "worker", "id": "run", "epoch": "number", "step_name": "text", "wake_at_ms": "number",
             "event_name": "text", "timeout_at_ms": "number", "runs": "runs", "branches": "branches",
             "spent_ms": "number"},
    "search_runs": {"text": "text", "limit": "number"},
    "start_child": {"worker_id": "worker", "id": "run", "epoch": "number", "step_name": "text", "run": "new run"},
    "load_outcomes": {"worker_id": "worker", "runs": "runs"},
    "in_steps": {"worker_id": "worker", "id": "run", "epoch": "number", "steps": "texts"},
    "leaving": {"worker_id": "worker"},
    "finish": {"worker_id": "worker", "id": "run", "epoch": "number", "outcome": "outcome", "result_json": "json",
               "error": "error", "reason": "text", "retry": "retry", "warnings": "texts"},
    "heartbeat": {"worker_id": "worker", "runs": "pairs"},
    "release_runs": {"worker_id": "worker", "runs": "pairs"},
    "cancelled": {"worker_id": "worker", "runs": "pairs"},
    "idle": {"worker_id": "worker"},
    "log": {"worker_id": "worker", "id": "run", "level": "text", "message": "text", "fields": "any"},
    "subscribe": {"topics": "texts", "tail": "number", "run": "text", "workflow": "text", "group": "text",
                  "level": "text"},
}  # fmt: skip
# `reload` looks at files, `test_alerts` goes to the network: nothing in a message reaches them.
LEFT_OUT = frozenset({"reload", "test_alerts"})


class Messages:
    """Makes messages by chance, the same for the same seed. `runs` and `workers` are ids that exist."""

    def __init__(self, rng: Random, *, runs: Sequence[str], workers: Sequence[str], workflows: Sequence[str]) -> None:
        self._rng = rng
        self._runs = runs
        self._workers = workers
        self._workflows = workflows

    def message(self, command: str | None = None) -> dict[str, Any]:
        """A request: mostly of the right shape with one or two fields that are not."""
        rng = self._rng
        command = command or rng.choice(sorted(FIELDS))
        shape = FIELDS[command]
        found: dict[str, Any] = {"command": command}
        for name, kind in shape.items():
            if rng.random() < 0.8:
                found[name] = self.right(kind)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
            if shape:
                name = rng.choice(sorted(shape))
                # Who asks to wait for weeks is made to.
                found[name] = rng.choice(TEXTS) if shape[name] == "short" else self.wrong()
        if rng.random() < 0.05:
            found[rng.choice(TEXTS)] = self.wrong()
        return found

    def right(self, kind: str) -> Any:
        """A value of this kind, as a client of ours would send it."""
        return _KINDS[kind](self)

    def wrong(self, depth: int = 0) -> Any:
        """Any JSON value."""
        rng = self._rng
        at = rng.randrange(8 if depth < 3 else 5)
        if at < 2:
            return rng.choice(TEXTS)
        if at < 4:
            return rng.choice(NUMBERS)
        if at == 4:
            return rng.choice((None, True, False))
        if at == 5:
            return [self.wrong(depth + 1) for _ in range(rng.randrange(4))]
        if at == 6:
            return {rng.choice(TEXTS): self.wrong(depth + 1) for _ in range(rng.randrange(4))}
        return self.right(rng.choice(sorted(_KINDS)))

    def run(self) -> str:
        """The id of a run that is there."""
        return self._rng.choice(self._runs) if self._runs else ids.uuid7()

    def worker(self) -> str:
        """The id of a worker that is there."""
        return self._rng.choice(self._workers) if self._workers else "w"

    def workflow(self) -> str:
        """The name of a workflow that is there."""
        return self._rng.choice(self._workflows)

    def new_run(self) -> dict[str, Any]:
        """A run as a caller asks for it, with fields left out and fields gone wrong."""
        rng = self._rng
        new: dict[str, Any] = {"id": ids.uuid7(), "workflow": self.workflow(), "payload_json": rng.choice(JSONS)}
        for name in ("signature", "key", "concurrency_key", "rate_key", "on_duplicate", "if_unhealthy"):
            if rng.random() < 0.1:
                new[name] = rng.choice(TEXTS)
        for name in ("run_at_ms", "delay_ms", "priority", "retries", "expires_at_ms"):
            if rng.random() < 0.1:
                new[name] = rng.choice(NUMBERS)
        if rng.random() < 0.2:
            new[rng.choice(sorted(new))] = self.wrong(2)
        return new

    def pair(self) -> Any:
        """A run and an epoch."""
        return {"id": self.run(), "epoch": self._rng.choice((1, 2, 3))} if self._rng.random() < 0.8 else self.wrong(2)

    def choice(self, values: Sequence[Any]) -> Any:
        """One of them."""
        return self._rng.choice(values)

    def many(self, make: Any) -> list[Any]:
        """None to three of what `make` makes."""
        return [make() for _ in range(self._rng.randrange(4))]


_KINDS: dict[str, Any] = {
    "any": lambda m: m.wrong(1),
    "text": lambda m: m.choice(TEXTS),
    "texts": lambda m: m.many(lambda: m.choice((*TEXTS, "greet", "payload", "result", "steps", "attempts", "logs"))),
    "number": lambda m: m.choice((0, 1, 2, 1000, 2**40)),
    "short": lambda m: m.choice((0, 1, 5)),
    "flag": lambda m: m.choice((True, False)),
    "run": lambda m: m.run(),
    "runs": lambda m: m.many(m.run),
    "worker": lambda m: m.worker(),
    "workflow": lambda m: m.workflow(),
    "json": lambda m: m.choice(JSONS),
    "options": lambda m: {"run_at_ms": m.choice(NUMBERS), "max_attempts": m.choice(NUMBERS),
                          "unique_key": m.choice(TEXTS)},
    "schedules": lambda m: m.many(lambda: {"name": m.workflow(), "cron": m.choice((*CRONS, *TEXTS))}),
    "new run": lambda m: m.new_run(),
    "branches": lambda m: m.many(lambda: m.choice(({"event": m.choice(TEXTS)}, {"runs": m.many(m.run)}, m.wrong(2)))),
    "new runs": lambda m: m.many(m.new_run),
    "pairs": lambda m: m.many(m.pair),
    "outcome": lambda m: m.choice(("succeeded", "failed", "fatal", "stopped")),
    "error": lambda m: {"type": m.choice(TEXTS), "message": m.choice(TEXTS), "traceback": m.choice(TEXTS)},
    "retry": lambda m: {"first_ms": m.choice(NUMBERS), "factor": m.choice(NUMBERS), "max_ms": m.choice(NUMBERS),
                        "jitter": m.choice(NUMBERS), "retries": m.choice(NUMBERS)},
    "registry": lambda m: {"group": "default", "workflows": m.many(lambda: m.wrong(1)), "files": m.many(m.workflow)},
}  # fmt: skip


def line(message: dict[str, Any], *, app: str, token: str | None) -> bytes:
    """The message as a line; what cannot be JSON's is written as JSON's text allows it."""
    whole = {"app": app, **({"token": token} if token else {}), **message}
    return json.dumps(whole).encode() + b"\n"
