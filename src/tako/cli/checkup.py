"""What `tako doctor` looks at. Each check returns findings and changes nothing; one that breaks is a finding itself."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tako.errors import NoEngine, TakoError

DISK_WARN_BYTES = 1_000_000_000
DISK_LEAST_BYTES = 256_000_000
Call = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["good", "warning", "bad"]
    what: str
    cure: str = ""


def everything(folder: Path, *, call: Call) -> list[Finding]:
    """Every check, in the order in which their causes build on each other."""
    findings: list[Finding] = []
    checks: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("python", python),
        ("sqlite", sqlite),
        ("disk", lambda: disk(folder)),
        ("config", lambda: config(folder)),
        ("secrets", lambda: secrets(folder)),
        ("names", names),
        ("store", lambda: store(folder, call=call)),
    )
    for name, check in checks:
        try:
            findings += check()
        except TakoError as error:
            findings.append(Finding(name, "bad", error.message, error.cure))
        except (OSError, sqlite3.Error) as error:
            findings.append(Finding(name, "bad", f"could not be looked at: {error}"))
    return findings


def python() -> list[Finding]:
    """The interpreter and the system."""
    what = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform not in ("linux", "darwin"):
        return [Finding("python", "bad", what, "Tako runs on Linux and macOS.")]
    return [Finding("python", "good", what)]


def sqlite() -> list[Finding]:
    """The library that holds the runs. Before 3.51.3 (and its back-ports) a WAL with several readers can be damaged."""
    version = sqlite3.sqlite_version_info
    what = f"SQLite {sqlite3.sqlite_version}"
    if version < (3, 35):
        return [Finding("sqlite", "bad", what, "Tako needs 3.35 or newer: install a newer Python.")]
    mended = version >= (3, 51, 3) or (version[:2] == (3, 50) and version >= (3, 50, 7))
    if not mended and not (version[:2] == (3, 44) and version >= (3, 44, 6)):
        return [Finding("sqlite", "good", f"{what} (open the store with other tools only while no engine runs)")]
    return [Finding("sqlite", "good", what)]


def disk(folder: Path) -> list[Finding]:
    """Room for the store."""
    usage = shutil.disk_usage(folder)
    what = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if usage.free < min(DISK_LEAST_BYTES, usage.total // 20):
        return [Finding("disk", "bad", what, "Enqueues are refused while so little is free. Make room.")]
    return [Finding("disk", "warning" if usage.free < DISK_WARN_BYTES else "good", what)]


def config(folder: Path) -> list[Finding]:
    """`tako.toml`, and the interpreter it leads to."""
    from tako.config import load

    found = load.load(folder)
    where = found.path.name if found.path else "no tako.toml: every default"
    findings = [Finding("config", "good", f"{found.name} ({where})")]
    program = shutil.which(found.python, path=os.environ.get("PATH", os.defpath))
    if program is None:
        cure = "Make it, or name another one with `python =` in tako.toml."
        findings.append(Finding("workers", "bad", f"their interpreter {found.python} cannot be run", cure))
    else:
        findings.append(Finding("workers", "good", f"they run under {program}"))
    return findings


def secrets(folder: Path) -> list[Finding]:
    """That nobody else can read the secrets."""
    path = folder / ".tako" / "secrets.json"
    if not path.exists():
        return []
    from tako.vault import file

    known = len(file.load(path))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return [Finding("secrets", "bad", f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")]
    return [Finding("secrets", "good", f"{known} in {path}")]


def names() -> list[Finding]:
    """That NAME.localhost leads here; browsers see to that themselves, other programs ask the system."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo("tako-doctor.localhost", 80, type=socket.SOCK_STREAM)}
    except OSError:
        found = set()
    if found & {"127.0.0.1", "::1"}:
        return [Finding("names", "good", "NAME.localhost leads to this machine")]
    what = "NAME.localhost is unknown to this system; browsers find it all the same"
    return [Finding("names", "warning", what, "With other programs use the plain http://localhost:PORT of `tako dev`.")]


def store(folder: Path, *, call: Call) -> list[Finding]:
    """The store: asked of the engine while one runs, else its file is read."""
    try:
        status = call("status")
        wrong = call("check_store")["problems"]
    except NoEngine:
        return _file(folder)
    problems = status["problems"]
    if problems:
        what = f"the engine tells of {len(problems)} problem{'' if len(problems) == 1 else 's'}"
        findings = [Finding("engine", "warning", what, "See them with `tako status`.")]
    else:
        findings = [Finding("engine", "good", "runs, and tells of no problem")]
    return [*findings, _store_finding(status["store"]["path"], wrong, "is whole, and its rows fit together")]


def _file(folder: Path) -> list[Finding]:
    path = folder / ".tako" / "runs.db"
    if not path.exists():
        return [Finding("store", "good", "there is none yet: `tako dev` makes it")]
    from tako.host import soundness
    from tako.host.lock import Lock

    # Under the engine's own lock: a store has one process at a time.
    lock = Lock(path.with_name("engine.lock"))
    lock.take()
    try:
        wrong = soundness.problems_of_file(path)
    finally:
        lock.release()
    return [_store_finding(str(path), wrong, f"is whole, {path.stat().st_size / 1e6:.1f} MB; no engine runs")]


def _store_finding(path: str, wrong: list[str], well: str) -> Finding:
    if not wrong:
        return Finding("store", "good", f"{path} {well}")
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    cure = "Keep a copy of the file, and restore the last `tako backup`."
    return Finding("store", "bad", f"{path} is damaged: {wrong[0]}{more}", cure)
