"""The pool with real processes: what it starts, how it hears of an end, what it leaves behind."""

# ruff: noqa: ASYNC222, ASYNC240 -- a test's loop has nobody else to wait for

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.pool import DEAF, DRAINS, SLEEP, Room, on_a_loop, until

from tako.errors import ConfigError, StoreUnavailable, WorkerUnhealthy
from tako.supervisor import child
from tako.supervisor.states import GroupConfig, Health, Phase
from tako.supervisor.workers import BootPermits


def in_a_room(folder: Path, work: Callable[[Room], Coroutine[Any, Any, None]], **config: Any) -> None:
    """Run `work` with a pool, stop it, and see that nothing is left."""

    async def live() -> None:
        room = Room(folder, **config)
        try:
            await work(room)
        finally:
            await room.pool.stop(0)
        assert room.house.workers == {}
        assert not list(folder.glob("*.spool*"))

    on_a_loop(live)


# --- boots that fail ------------------------------------------------------------------------------------------------


def test_a_crash_before_hello_is_told_at_the_next_enqueue_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "send_email.py").write_text("import os\n\nfrom jinja3 import Environment\n")

    async def work(room: Room) -> None:
        room.house.script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import workflows.send_email"
        room.work()
        await until(lambda: room.pool.state.failures)

        with pytest.raises(WorkerUnhealthy) as refused:
            room.pool.admit_now()

        first, *rest = str(refused.value).splitlines()
        assert first.startswith("worker unhealthy: worker exited with status 1 after ")
        assert first.endswith("ms without claiming any runs")
        assert rest[:2] == [
            "  ModuleNotFoundError: No module named 'jinja3'",
            "    workflows/send_email.py:3  from jinja3 import Environment",
        ]
        assert rest[2].startswith('  group "default", 1 failed start since ')
        assert rest[2].endswith("; nothing was enqueued")
        assert refused.value.exit_code == 1
        assert "ModuleNotFoundError: No module named 'jinja3'" in refused.value.stderr_tail
        assert room.house.lines[-1] == "ModuleNotFoundError: No module named 'jinja3'"
        assert room.house.health[-1]["failures"] == 1

    in_a_room(tmp_path, work)


def test_exit_0_before_any_claim_is_a_failure(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "pass"
        room.work()
        await until(lambda: room.pool.state.failures)

        with pytest.raises(WorkerUnhealthy, match=r"worker exited with status 0 after .* without claiming any runs"):
            room.pool.admit_now()

    in_a_room(tmp_path, work)


def test_a_hang_is_killed_at_the_boot_timeout_and_told_with_the_line_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "report.py").write_text("import time\ntime.sleep(60)\n")

    async def work(room: Room) -> None:
        room.house.script = (
            f"import sys, faulthandler; sys.path.insert(0, {str(tmp_path)!r}); "
            "faulthandler.dump_traceback_later(0.4); import report"
        )
        room.work()
        await until(lambda: room.pool.state.failures)

        with pytest.raises(WorkerUnhealthy) as refused:
            room.pool.admit_now()
        assert str(refused.value).startswith(
            "worker unhealthy: worker did not become ready within 1.5s (report.py:2, in <module>: time.sleep(60))"
        )

    in_a_room(tmp_path, work, boot_timeout_s=1.5)


def test_a_spawn_error_is_told_with_the_errno_and_the_path(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.argv = [".venv/bin/python", "-m", "tako.worker"]
        with pytest.raises(WorkerUnhealthy) as refused:
            await room.pool.admit(time.monotonic() + 5)
        assert str(refused.value).startswith(
            "worker unhealthy: worker could not be spawned: [Errno 2] No such file or directory: '.venv/bin/python'"
        )

    in_a_room(tmp_path, work)


def test_what_cannot_even_be_asked_for_is_a_failed_start_too(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.spawn_error = ConfigError("secrets.json is not JSON")
        with pytest.raises(WorkerUnhealthy, match=r"could not be spawned: secrets\.json is not JSON"):
            await room.pool.admit(time.monotonic() + 5)

    in_a_room(tmp_path, work)


def test_a_secret_in_a_workers_last_words_does_not_reach_the_error(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "raise KeyError('hunter22')"
        room.work()
        await until(lambda: room.pool.state.failures)

        with pytest.raises(WorkerUnhealthy) as refused:
            room.pool.admit_now()
        assert "hunter22" not in str(refused.value) + str(refused.value.detail) + str(room.house.lines)
        assert "KeyError: '[secret KEY]'" in str(refused.value)

    in_a_room(tmp_path, work)


# --- enqueues -------------------------------------------------------------------------------------------------------


def test_an_enqueue_into_unproven_code_waits_for_hello(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        assert room.pool.admit_now() is False
        waiting = asyncio.ensure_future(room.pool.admit(time.monotonic() + 5))
        worker_id = await room.spawned()
        assert not waiting.done()

        room.pool.hello(worker_id)

        await waiting
        assert room.pool.admit_now() is True

    in_a_room(tmp_path, work)


def test_an_enqueue_that_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        waiting = asyncio.ensure_future(room.pool.admit(time.monotonic() + 5))
        await room.spawned()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert room.pool.state.held == ()
        assert room.pool.snapshot()["held"] == 0

    in_a_room(tmp_path, work)


def test_a_mended_group_accepts_again_after_the_next_start_says_hello(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "raise SystemExit(1)"
        room.work()
        await until(lambda: room.pool.state.failures)
        room.house.script = SLEEP
        await until(lambda: room.pool.state.health is Health.PROBING)
        waiting = asyncio.ensure_future(room.pool.admit(time.monotonic() + 5))
        worker_id = await room.spawned()

        room.pool.hello(worker_id)

        await waiting
        room.pool.claimed(worker_id)
        assert room.pool.state.failures == 0
        assert room.house.logged[-1] == ("info", "recovered after 1 failed start")

    in_a_room(tmp_path, work)


# --- workers that work ----------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_at_once_and_its_runs_taken_back(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        worker_id = await room.active(runs=2)
        room.house.waiting = 2
        os.kill(room.pid(worker_id), signal.SIGKILL)

        await until(lambda: len(room.house.started) == 2)

        assert room.house.reclaimed == [(worker_id, True, "SIGKILL")]
        assert worker_id not in room.house.workers
        assert room.pool.state.health is Health.HEALTHY
        assert any("worker was killed by SIGKILL after" in message for _, message in room.house.logged)

    in_a_room(tmp_path, work)


def test_runs_are_taken_back_as_soon_as_the_store_takes_writes_again(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        worker_id = await room.active()
        room.house.store_error = StoreUnavailable("the disk is full")
        os.kill(room.pid(worker_id), signal.SIGKILL)
        await until(lambda: any("not taken back yet: the disk is full" in text for _, text in room.house.logged))

        room.house.store_error = None

        await until(lambda: room.house.reclaimed == [(worker_id, True, "SIGKILL")])

    in_a_room(tmp_path, work)


def test_runs_of_a_paused_group_are_taken_back_as_soon_as_the_store_takes_writes_again(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = DRAINS
        worker_id = await room.active()
        await until(lambda: "up" in room.house.lines)
        room.house.store_error = StoreUnavailable("the disk is full")
        room.pool.pause()
        await until(lambda: any("not taken back yet: the disk is full" in text for _, text in room.house.logged))

        room.house.store_error = None

        await until(lambda: room.house.reclaimed == [(worker_id, False, None)])

    in_a_room(tmp_path, work)


def test_a_worker_idles_out_with_permission_and_the_house_is_quiet(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = DRAINS
        worker_id = await room.active(runs=0)
        assert not room.pool.asks_idle(worker_id)
        await until(lambda: "up" in room.house.lines)
        room.clock.ahead_s += 301
        assert room.pool.asks_idle(worker_id)
        assert not room.pool.may_claim(worker_id)
        assert room.house.stopped_claims == [worker_id]

        os.kill(room.pid(worker_id), signal.SIGTERM)  # it exits 0 by itself
        await room.gone()

        assert room.pool.state.health is Health.HEALTHY
        assert room.house.logged == []
        assert room.pool._timer is None

    in_a_room(tmp_path, work)


def test_a_run_that_just_ended_begins_the_idle_time_anew(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        worker_id = await room.active(runs=0)
        room.clock.ahead_s += 301
        room.pool.run_ended(worker_id)

        assert not room.pool.asks_idle(worker_id)

    in_a_room(tmp_path, work)


def test_new_code_drains_the_old_worker_after_the_new_ones_hello(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = DRAINS
        old = await room.active(runs=1)
        await until(lambda: "up" in room.house.lines)

        room.pool.new_code(GroupConfig(release="next"))
        assert not room.pool.may_claim(old)
        new = await room.spawned(2)
        assert room.slots[0].phase is Phase.DRAINING
        room.pool.hello(new)

        await until(lambda: not room.pool.has(old))
        assert room.house.reclaimed == [(old, False, None)]
        assert room.pool.may_claim(new)
        assert room.pool.snapshot()["release"] == "next"

    in_a_room(tmp_path, work)


def test_suspects_get_a_worker_of_their_own(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        first = await room.active()
        room.house.solo = 1
        room.work(waiting=0)

        solo = await room.spawned(2)

        assert (room.pool.is_solo(first), room.pool.is_solo(solo)) == (False, True)

    in_a_room(tmp_path, work)


def test_a_worker_whose_lease_expired_is_ended_and_replaced(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        worker_id = await room.active()
        room.house.waiting = 1

        room.pool.lease_expired(worker_id)

        await until(lambda: len(room.house.started) == 2)
        assert room.house.reclaimed[0] == (worker_id, True, "stopped answering for 30s")
        await until(lambda: ("error", "worker stopped answering for 30s") in room.house.logged)

    in_a_room(tmp_path, work)


def test_a_v0_worker_is_known_by_its_process_group(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.work()
        worker_id = await room.spawned()

        assert room.pool.worker_of_pid(room.pid(worker_id)) == worker_id
        assert room.pool.worker_of_pid(os.getpid()) is None
        assert room.pool.worker_of_pid(2**22 - 1) is None
        room.pool.claimed(worker_id)
        assert room.pool.state.health is Health.HEALTHY

    in_a_room(tmp_path, work)


def test_many_calls_of_work_in_one_turn_are_one(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        asked = 0
        count = room.house.runnable

        def runnable(group: str) -> int:
            nonlocal asked
            asked += 1
            return count(group)

        room.house.runnable = runnable  # type: ignore[method-assign]
        for _ in range(1000):
            room.work(waiting=0)
        await asyncio.sleep(0.01)

        assert asked <= 2

    in_a_room(tmp_path, work)


def test_a_fault_of_the_house_in_one_effect_does_not_stop_the_others(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        def full(group: str, record: dict[str, Any]) -> None:
            raise OSError("full")

        room.house.save_health = full  # type: ignore[method-assign]
        room.house.script = "raise SystemExit(1)"
        with pytest.raises(WorkerUnhealthy):
            await room.pool.admit(time.monotonic() + 5)
        await room.gone()

        assert ("error", "SaveHealth failed: OSError('full')") in room.house.logged

    in_a_room(tmp_path, work)


# --- stop -----------------------------------------------------------------------------------------------------------


def test_stop_drains_and_returns_when_all_are_gone_and_their_runs_back(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = DRAINS
        worker_id = await room.active()
        await until(lambda: "up" in room.house.lines)
        pid = room.pid(worker_id)

        began = time.monotonic()
        await room.pool.stop(10)

        assert time.monotonic() - began < 5
        assert not Path(f"/proc/{pid}").exists()
        assert room.house.reclaimed == [(worker_id, False, None)]
        with pytest.raises(WorkerUnhealthy, match="workers are stopped"):
            room.pool.admit_now()

    in_a_room(tmp_path, work)


def test_a_worker_that_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = DEAF
        worker_id = await room.active()
        await until(lambda: "up" in room.house.lines)

        began = time.monotonic()
        await room.pool.stop(0.3)

        assert 0.3 <= time.monotonic() - began < 5
        assert room.house.reclaimed == [(worker_id, False, None)]

    in_a_room(tmp_path, work)


def test_stop_withdraws_boots_that_wait_for_a_permit(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.work()
        await room.pool.stop(5)
        await asyncio.sleep(0.02)

        assert room.house.started == []

    in_a_room(tmp_path, work)


def test_stop_twice_or_before_anything_happened_does_no_harm(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        await room.pool.stop(1)
        await room.pool.stop(1)

    in_a_room(tmp_path, work)


def test_a_paused_group_goes_on_at_an_operators_retry(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        await room.pool.stop(1)

        room.pool.operator_retry()
        worker_id = await room.spawned()
        room.pool.hello(worker_id)

        assert room.pool.admit_now() is True

    in_a_room(tmp_path, work)


# --- adoption -------------------------------------------------------------------------------------------------------


def test_the_next_engine_adopts_a_living_worker_and_goes_on_with_its_output(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "import sys, time\nfor n in range(600): print('line', n, flush=True); time.sleep(0.05)"
        worker_id = await room.active()
        await until(lambda: "line 0" in room.house.lines)
        record = room.house.workers[worker_id]
        assert record["claimed"]
        room.pool.detach()
        await asyncio.sleep(0.2)

        room.pool = room.new_pool()
        room.pool.adopt([record])

        assert room.pool.state.health is Health.HEALTHY
        assert room.pool.may_claim(worker_id)
        room.pool.hello(worker_id)
        seen = len(room.house.lines)
        await until(lambda: len(room.house.lines) > seen + 5)
        assert room.house.lines == [f"line {n}" for n in range(len(room.house.lines))], "each line once"

    in_a_room(tmp_path, work)


def test_the_runs_of_a_recorded_worker_that_is_gone_come_back_counted(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        worker_id = await room.active()
        record = room.house.workers[worker_id]
        pid = room.pid(worker_id)
        room.pool.detach()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        room.pool = room.new_pool()
        room.pool.adopt([record])

        await until(lambda: room.house.reclaimed)
        assert room.house.reclaimed == [(worker_id, True, "ended while the engine was down")]
        assert room.pool.state.health is Health.UNPROVEN
        for left in tmp_path.glob("*.spool*"):
            left.unlink()

    in_a_room(tmp_path, work)


def test_what_the_store_has_missed_is_recorded_once_more(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "import time; time.sleep(60)"
        worker_id = await room.active()
        record = room.house.workers.pop(worker_id)
        room.house.health.clear()

        room.pool.remember()

        assert room.house.workers == {worker_id: record}
        assert [stored["failures"] for stored in room.house.health] == [0]

    in_a_room(tmp_path, work)


def test_the_record_of_a_draining_worker_says_so_and_its_end_is_not_counted_by_the_next_engine(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
        worker_id = await room.active()
        pid = room.pid(worker_id)
        room.pool.pause()
        record = room.house.workers[worker_id]
        room.pool.detach()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        room.pool = room.new_pool()
        room.pool.adopt([record])

        await until(lambda: room.house.reclaimed)
        assert room.house.reclaimed == [(worker_id, False, None)]
        for left in tmp_path.glob("*.spool*"):
            left.unlink()

    in_a_room(tmp_path, work)


def test_after_a_reboot_no_recorded_worker_is_alive_and_nothing_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(room: Room) -> None:
        worker_id = await room.active()
        record = room.house.workers[worker_id]
        await room.pool.stop(0)
        room.house.reclaimed.clear()
        monkeypatch.setattr(child, "boot_id", lambda: "another boot")

        room.pool = room.new_pool()
        room.pool.adopt([{**record, "pid": os.getpid(), "start_time": child.start_time(os.getpid())}])

        await until(lambda: room.house.reclaimed)
        assert room.house.reclaimed == [(worker_id, False, None)]

    in_a_room(tmp_path, work)


def test_health_that_was_stored_is_where_the_next_engine_begins(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.house.script = "raise SystemExit(1)"
        room.work()
        await until(lambda: room.pool.state.failures)
        record = room.house.health[-1]
        room.pool.detach()

        room.pool = room.new_pool()
        room.pool.restore(record)

        assert room.pool.admit_now() is False, "the next enqueue finds out"
        shown = room.pool.snapshot()
        assert (shown["state"], shown["failures"]) == ("cooldown", 1)
        with pytest.raises(WorkerUnhealthy, match="2 failed starts since"):
            await room.pool.admit(time.monotonic() + 5)

    in_a_room(tmp_path, work)


# --- permits --------------------------------------------------------------------------------------------------------


def test_no_more_boots_begin_at_once_than_there_are_permits(tmp_path: Path) -> None:
    async def work() -> None:
        permits = BootPermits(2)
        (tmp_path / "app").mkdir()
        rooms = [Room(tmp_path / "app", permits=permits, group=f"g{n}") for n in range(4)]
        for room in rooms:
            room.work()
        await until(lambda: sum(len(room.house.started) for room in rooms) == 2)
        await asyncio.sleep(0.05)
        assert [len(room.house.started) for room in rooms] == [1, 1, 0, 0]

        rooms[0].pool.hello(rooms[0].slots[0].id)
        await until(lambda: rooms[2].house.started)
        assert not rooms[3].house.started
        os.kill(rooms[1].pid(rooms[1].slots[0].id), signal.SIGKILL)
        await until(lambda: rooms[3].house.started)
        for room in rooms:
            await room.pool.stop(0)

    on_a_loop(work)


def test_a_group_that_hangs_holds_its_permit_for_a_second_at_most(tmp_path: Path) -> None:
    async def work() -> None:
        permits = BootPermits(1)
        hanging, other = Room(tmp_path, permits=permits, group="a"), Room(tmp_path, permits=permits, group="b")
        began = time.monotonic()
        hanging.work()
        await hanging.spawned()
        other.work()
        await other.spawned()

        assert 0.9 < time.monotonic() - began < 5
        for room in (hanging, other):
            await room.pool.stop(0)

    on_a_loop(work)
