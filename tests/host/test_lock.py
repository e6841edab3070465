"""One engine per store, and where others find it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tako.errors import EngineRunning
from tako.host.lock import Lock, read_engine_json, write_engine_json

HOLDER = """
import sys
from pathlib import Path
from tako.host.lock import Lock

lock = Lock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its stdin ends or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_engine_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / ".tako"
    folder.mkdir(parents=True)
    with hold(folder / "engine.lock") as first:
        with pytest.raises(EngineRunning) as refused:
            Lock(folder / "engine.lock").take()
        first.communicate("")

    assert refused.value.detail["pid"] == first.pid
    assert f"process {first.pid} (" in refused.value.message
    assert str(tmp_path / "shop") in refused.value.message


def test_the_lock_of_a_killed_engine_is_free(tmp_path: Path) -> None:
    with hold(tmp_path / "engine.lock") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        lock = Lock(tmp_path / "engine.lock")
        lock.take()
        assert lock.is_held
        lock.release()
        lock.release()


def test_engine_json_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    before = os.umask(0)
    try:
        write_engine_json(path, {"pid": 1})
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_engine_json(path) == {"pid": 1}


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_an_engine_json_that_is_none_reads_as_empty(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "engine.json").write_text(content)
    assert read_engine_json(tmp_path / "engine.json") == {}
