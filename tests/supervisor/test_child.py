"""A child's exit: when it is seen, what is known of it; its group; a process that is not our child."""

# ruff: noqa: ASYNC240, ASYNC110 -- a test's loop has nobody else to wait for

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tako.supervisor import child, oom, spawn
from tako.supervisor.exits import Exit

DEADLINE_S = 20


def start(folder: Path, code: str) -> child.Child:
    return spawn.spawn(
        spawn.SpawnRequest(
            argv=[sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"]},
            cwd=folder,
            envelope=b"{}",
            spool=folder / "spool",
        )
    )


def on_a_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), DEADLINE_S))


async def line_of(spool: Path) -> str:
    while not (spool.exists() and spool.read_bytes().endswith(b"\n")):
        await asyncio.sleep(0.005)
    return spool.read_text()


@pytest.fixture(params=["pidfd", "thread"])
def watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of seeing an exit: Linux has pidfds, macOS has not."""
    if request.param == "thread":
        monkeypatch.setattr(child, "_open_pidfd", lambda pid: None)


@pytest.mark.usefixtures("watching")
def test_an_exit_tells_status_time_and_peak_memory(tmp_path: Path) -> None:
    async def work() -> None:
        # More than this process ever had: a child begins with its parent's peak, and no lower one can be told.
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 100_000_000
        exit_ = await start(tmp_path, f"b = b'x' * {size}; raise SystemExit(3)").wait()

        assert (exit_.code, exit_.signal, exit_.oom) == (3, None, False)
        assert 0 < exit_.ran_ms < 10_000
        assert exit_.peak_rss_bytes is not None
        assert exit_.peak_rss_bytes > size

    on_a_loop(work)


@pytest.mark.usefixtures("watching")
def test_a_death_by_signal_names_the_signal(tmp_path: Path) -> None:
    async def work() -> None:
        exit_ = await start(tmp_path, "import os; os.kill(os.getpid(), 11)").wait()

        assert (exit_.code, exit_.signal) == (None, "SIGSEGV")

    on_a_loop(work)


def test_an_exit_is_seen_within_100_milliseconds(tmp_path: Path) -> None:
    async def work() -> None:
        took = []
        for _ in range(5):
            (tmp_path / "spool").unlink(missing_ok=True)
            running = start(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
            await line_of(tmp_path / "spool")
            killed = time.monotonic()
            os.kill(running.pid, signal.SIGKILL)
            await running.wait()
            took.append(time.monotonic() - killed)

        assert min(took) < 0.1, "the machine may be busy once, not five times"

    on_a_loop(work)


def test_a_wait_that_is_cancelled_harms_no_other(tmp_path: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "import time; time.sleep(60)")
        first = asyncio.ensure_future(running.wait())
        await asyncio.sleep(0)
        first.cancel()

        running.kill()

        assert (await running.wait()).signal == "SIGKILL"
        assert running.exit == await running.wait()
        running.kill()  # of one that is gone: nothing happens

    on_a_loop(work)


def test_a_signal_goes_to_the_whole_group(tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); sys.exit(p.wait())"

    async def work() -> None:
        running = start(tmp_path, code)
        grandchild = int(await line_of(tmp_path / "spool"))

        running.terminate()
        await running.wait()

        assert not await is_running(grandchild)

    on_a_loop(work)


def test_what_a_child_leaves_behind_in_its_group_goes_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)")
        await running.wait()

        assert not await is_running(int((tmp_path / "spool").read_text()))

    on_a_loop(work)


async def is_running(pid: int) -> bool:
    """Whether it is still running after a grace for the kernel; a zombie of some init that does not reap is not."""
    for _ in range(200):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return False
        await asyncio.sleep(0.01)
    return True


# --- out of memory --------------------------------------------------------------------------------------------------


@pytest.fixture
def vmstat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's count, as a file of ours."""
    path = tmp_path / "vmstat"
    path.write_text("pgfault 7\noom_kill 4\n")
    monkeypatch.setattr(oom, "counters", lambda **_: (path,))
    return path


def test_sigkill_with_a_risen_count_of_oom_kills_is_out_of_memory(tmp_path: Path, vmstat: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "import time; time.sleep(60)")
        vmstat.write_text("pgfault 8\noom_kill 5\n")
        os.kill(running.pid, signal.SIGKILL)

        assert (await running.wait()).oom

    on_a_loop(work)


def test_sigkill_without_that_evidence_is_not_called_out_of_memory(tmp_path: Path, vmstat: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "import time; time.sleep(60)")
        os.kill(running.pid, signal.SIGKILL)

        assert not (await running.wait()).oom

    on_a_loop(work)


def test_sigkill_that_we_sent_is_never_out_of_memory(tmp_path: Path, vmstat: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "import time; time.sleep(60)")
        vmstat.write_text("oom_kill 5\n")
        running.kill()

        assert not (await running.wait()).oom

    on_a_loop(work)


@pytest.mark.parametrize(
    ("membership", "first"),
    [
        ("0::/user.slice/app\n", "user.slice/app/memory.events"),
        ("9:cpu:/\n8:memory:/tako/x\n0::/\n", "memory/tako/x/memory.oom_control"),
    ],
)
def test_the_count_is_read_from_the_cgroup_of_version_1_and_2(tmp_path: Path, membership: str, first: str) -> None:
    (tmp_path / "cgroup").write_text(membership)
    (tmp_path / "vmstat").write_text("oom_kill 90\n")
    source = tmp_path / first
    source.parent.mkdir(parents=True)
    source.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    sources = oom.counters(own=tmp_path / "cgroup", cgroups=tmp_path, vmstat=tmp_path / "vmstat")

    before = oom.Evidence.now(sources=sources)
    assert before.counts == {source: 2, tmp_path / "vmstat": 90}
    assert not before.has_risen()
    source.write_text("oom_kill 3\n")

    assert before.has_risen()


def test_where_no_cgroup_can_be_read_the_machines_count_is_used(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("oom_kill 90\n")

    before = oom.Evidence.now(sources=oom.counters(own=tmp_path / "none", cgroups=tmp_path, vmstat=tmp_path / "vmstat"))
    (tmp_path / "vmstat").write_text("oom_kill 91\n")

    assert before.has_risen()


def test_each_kill_counts_in_a_cgroup_that_the_process_was_put_into_later(tmp_path: Path) -> None:
    ours, its = tmp_path / "ours", tmp_path / "its"
    ours.write_text("oom_kill 7\n")
    its.write_text("oom_kill 0\n")
    before = oom.Evidence.now(sources=(ours,))

    assert not before.has_risen(sources=(its, ours))
    its.write_text("oom_kill 1\n")

    assert before.has_risen(sources=(its, ours))


def test_a_count_that_cannot_be_read_is_no_evidence(tmp_path: Path) -> None:
    assert not oom.Evidence.now(sources=(tmp_path / "none",)).has_risen()


# --- adoption -------------------------------------------------------------------------------------------------------


def stranger(folder: Path) -> int:
    """A process that is not our child, as after a restart of the daemon."""
    code = f"import subprocess; print(subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'], \
start_new_session=True, stdin=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=folder).stdout)


@pytest.mark.usefixtures("watching")
def test_an_adopted_process_is_watched_and_nobody_claims_to_know_its_status(tmp_path: Path) -> None:
    async def work() -> None:
        pid = stranger(tmp_path)
        started = child.start_time(pid)
        assert started is not None
        adopted = child.adopt(pid, started=started, ran_ms=5_000)
        assert adopted is not None
        assert adopted.is_alive
        assert adopted.adopted

        adopted.kill()
        exit_ = await adopted.wait()

        assert not exit_.is_known
        assert exit_.ran_ms >= 5_000
        assert "in a way nobody saw" in exit_.words()

    on_a_loop(work)


def test_a_process_that_took_over_the_pid_is_not_adopted(tmp_path: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "import time; time.sleep(60)")
        assert running.start_time is not None

        assert child.adopt(running.pid, started=running.start_time - 1) is None

        running.kill()
        await running.wait()

    on_a_loop(work)


def test_a_process_that_is_gone_is_not_adopted(tmp_path: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "pass")
        await running.wait()

        assert child.adopt(running.pid, started=running.start_time or 0) is None

    on_a_loop(work)


def test_a_child_of_ours_that_is_adopted_after_a_re_exec_keeps_its_status(tmp_path: Path) -> None:
    async def work() -> None:
        running = start(tmp_path, "print('up', flush=True); input() if 0 else __import__('time').sleep(0.2); exit(5)")
        assert running.start_time is not None
        running.release()

        adopted = child.adopt(running.pid, started=running.start_time)

        assert adopted is not None
        assert (await adopted.wait()).code == 5

    on_a_loop(work)


def test_a_boot_has_an_id_that_stays() -> None:
    assert child.boot_id() == child.boot_id() != ""


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_", "claimed", "words"),
    [
        (Exit(1, None, 84), False, "worker exited with status 1 after 84ms without claiming any runs"),
        (Exit(0, None, 51), False, "worker exited with status 0 after 51ms without claiming any runs"),
        (
            Exit(None, "SIGKILL", 2310, int(1.9 * 2**30), True),
            False,
            "worker was killed by SIGKILL (out of memory, peak 1.9 GiB) after 2310ms without claiming any runs",
        ),
        (Exit(None, "SIGSEGV", 12), False, "worker was killed by SIGSEGV after 12ms without claiming any runs"),
        (Exit(3, None, 61_000), True, "worker exited with status 3 after 1m 1s"),
        (Exit(None, "SIGKILL", 7_260_000, 851_443_712, True), True,
         "worker was killed by SIGKILL (out of memory, peak 812 MiB) after 2h 1m"),
    ],
)  # fmt: skip
def test_an_exit_is_told_in_the_words_of_the_founding_note(exit_: Exit, claimed: bool, words: str) -> None:
    assert exit_.words(claimed=claimed) == words
