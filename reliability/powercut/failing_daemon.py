"""The same disk under the whole daemon, with workers and callers: what it says when it must stop, and that it goes on
when there is only no space."""

from __future__ import annotations

import contextlib
import errno
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from reliability.daemon import Daemon, until
from reliability.powercut import disk, facts, judge, record
from reliability.powercut.failing import OPERATIONS
from tako.errors import StoreUnavailable, TakoError
from tako.protocol import ids

MEETS_WITHIN_S = 20.0
FAILURES = 30


@dataclass(frozen=True, slots=True)
class Fault:
    """The N-th operation and, without space, some after it fail."""

    operation: str
    n: int
    error: int

    def __str__(self) -> str:
        return f"{OPERATIONS[self.operation]} {self.n} fails with {errno.errorcode[self.error]}"

    @property
    def is_full(self) -> bool:
        """Whether the disk is only full, and has room again later."""
        return self.operation == "W" and self.error == errno.ENOSPC


@dataclass(slots=True)
class Outcome:
    """How a daemon ended, what it said, how many facts it had told, and what was wrong."""

    code: int | None
    words: str
    facts: int
    problems: list[str]


def fail(folder: Path, fault: Fault, *, library: Path) -> Outcome:
    """Run a daemon on such a disk in `folder`, which is made; then start the engine on what it left."""
    root, log = folder / "shop", folder / "io.log"
    root.mkdir(parents=True)
    toml = 'name = "shop"\n[workflows]\nconcurrency = 4\nidle_timeout = "20s"\ndrain_timeout = "2s"\n'
    files = {"tako.toml": toml, "workflows/__init__.py": "", "workflows/flows.py": record.WORKFLOWS}
    count = FAILURES if fault.is_full else 1
    daemon = Daemon(
        root, files, command=[sys.executable, "-m", "reliability.powercut.launch", "dev", "--no-web", "--plain"],
        variables={
            "LD_PRELOAD": str(library), "IOLOG": str(log), "IOLOG_ROOT": str(root),
            "IOLOG_FAIL": f"{fault.operation}:{fault.n}:{fault.error}:{count}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )  # fmt: skip
    problems: list[str] = []
    with daemon:
        code = _until_met(daemon, fault, problems)
        words = daemon.tail()
    if code == 0 and not fault.is_full:
        problems.append("it ended as if nothing had happened")
    if code not in (0, None) and not fault.is_full and ("runs.db" not in words and "engine.json" not in words):
        problems.append("it does not say which file")
    if re.search(r"^Traceback", words, re.MULTILINE):
        problems.append("it shows a traceback of its own")
    told = facts.find(disk.read(log)) if log.exists() else []
    broken, missing = judge.look(root, told)
    return Outcome(code, words, len(told), problems + broken + missing)


def _until_met(daemon: Daemon, fault: Fault, problems: list[str]) -> int | None:
    """Work until it has ended by itself, or has gone on after the fault; its exit code."""
    daemon.start(wait=False)
    process = daemon.process
    assert process is not None
    deadline = time.monotonic() + MEETS_WITHIN_S
    try:
        daemon.wait_until_it_answers()
    except AssertionError:
        return process.wait(MEETS_WITHIN_S)
    with record.Load(daemon):
        if not fault.is_full:
            with contextlib.suppress(Exception):
                return process.wait(MEETS_WITHIN_S)
            problems.append(f"the fault was not met in {MEETS_WITHIN_S:g} s, or the daemon lives on after it")
            return None
        was_refused = False
        while time.monotonic() < deadline and process.poll() is None:
            told = _enqueue(daemon)
            was_refused = was_refused or told is not None
            if was_refused and told is None:
                break
            time.sleep(0.02)
    if not was_refused:
        problems.append("no caller was told that the disk is full")
        return process.poll()
    if process.poll() is None:
        until(lambda: _enqueue(daemon) is None, what="enqueues are accepted again", timeout_s=MEETS_WITHIN_S)
        return daemon.stop()
    problems.append(f"it ended with {process.poll()} although there was only no space")
    return process.poll()


def _enqueue(daemon: Daemon) -> TakoError | None:
    run = {"id": ids.uuid7(), "workflow": "steps", "payload_json": '{"size": 10}'}
    try:
        daemon.ask("enqueue_runs", runs=[run], timeout_s=5)
    except StoreUnavailable as refusal:
        return refusal if refusal.detail.get("reason") == "DISK_FULL" else None
    return None
