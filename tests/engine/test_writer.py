"""The one thread that writes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tako.engine import faults, runs, writer
from tako.engine.events import Came, Event, Ready
from tako.engine.store import Reader, Store
from tako.engine.writer import Writer
from tako.errors import DuplicateRun, StoreDamaged, StoreUnavailable, TakoError
from tako.protocol.messages import Enqueued
from tests.support.locks import locked

Story = Callable[["House"], Awaitable[None]]


class House:
    """A store in a file, a writer, and what it told."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self.store = store
        self.events: list[Event] = []
        self.commits = 0
        self.fatal: list[TakoError] = []
        self.unavailable: list[StoreUnavailable | None] = []
        self.writer = Writer(
            store,
            on_commit=self.on_commit,
            on_fatal=self.fatal.append,
            on_unavailable=self.unavailable.append,
            loop=asyncio.get_running_loop(),
            monotonic=monotonic,
        )

    def on_commit(self, events: list[Event]) -> None:
        self.events += events
        self.commits += 1

    def enqueue(self, run_id: str, **options: Any) -> asyncio.Future[list[Enqueued]]:
        deadline = options.pop("deadline_mono_ms", None)
        new: Any = {"id": run_id, "workflow": "w", "payload_json": "{}", **options}
        return self.writer.submit(runs.enqueue, [new], now_ms=1, deadline_mono_ms=deadline)

    async def ids(self) -> list[str]:
        return await self.writer.read(ids)


def ids(reader: Reader) -> list[str]:
    return [row["id"] for row in reader.all("all_epochs")]


def size(path: Path) -> int:
    return path.stat().st_size


def hold(store: Store, gate: threading.Event) -> None:
    """A rule that takes as long as the test wants: meanwhile others queue up."""
    assert gate.wait(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def tell(path: Path) -> Iterator[Callable[..., None]]:
    """Run a story with a House; afterwards everything is stopped and the file must be sound."""

    def run(story: Story, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        async def whole() -> None:
            store = Store.open(path)
            house = House(store, monotonic)
            try:
                await asyncio.wait_for(story(house), 20)
            finally:
                await house.writer.stop()
                await house.writer.stop()
                store.close()

        asyncio.run(whole())

    yield run
    Store.open(path).close()


def test_a_rule_s_answer_comes_when_it_is_durable(tell: Callable[..., None], path: Path) -> None:
    async def story(house: House) -> None:
        assert await house.enqueue("a") == [{"id": "a", "is_new": True}]
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT id FROM runs").fetchall() == [("a",)]
        other.close()

    tell(story)


def test_events_are_told_after_the_commit_and_before_the_callers(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        future = house.enqueue("a")
        told: list[bool] = []
        future.add_done_callback(lambda _: told.append(bool(house.events)))
        await future
        await asyncio.sleep(0)
        assert told == [True]
        assert house.events == [Came("w", ("a",)), Ready("w", "ready")]

    tell(story)


def test_what_queued_up_during_a_commit_shares_the_next_one(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        gate = threading.Event()
        first = house.writer.submit(hold, gate)
        await asyncio.sleep(0)
        many = [house.enqueue(f"run-{n}") for n in range(100)]
        await asyncio.sleep(0)
        gate.set()
        await first
        await asyncio.gather(*many)
        assert house.commits == 1
        assert house.events.count(Ready("w", "ready")) == 1

    tell(story)


def test_a_batch_has_a_limit_and_the_rest_follows(tell: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_MAX_BATCH", 10)

    async def story(house: House) -> None:
        await asyncio.gather(*(house.enqueue(f"run-{n:02}") for n in range(35)))
        assert house.commits == 4
        assert len(await house.ids()) == 35

    tell(story)


def test_a_refusal_reaches_its_caller_and_nobody_else(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        await house.enqueue("a", key="k")
        answers = await asyncio.gather(
            house.enqueue("b"),
            house.enqueue("c", key="k", on_duplicate="raise"),
            house.enqueue("d"),
            return_exceptions=True,
        )
        assert isinstance(answers[1], DuplicateRun)
        assert await house.ids() == ["a", "b", "d"]
        assert house.commits == 2

    tell(story)


def test_a_bug_in_one_rule_is_told_to_its_caller_and_the_others_are_stored(tell: Callable[..., None]) -> None:
    def broken(store: Store) -> None:
        runs.enqueue(store, [{"id": "half", "workflow": "w", "payload_json": "{}"}], now_ms=1)
        raise ZeroDivisionError

    async def story(house: House) -> None:
        answers = await asyncio.gather(
            house.enqueue("a"), house.writer.submit(broken), house.enqueue("b"), return_exceptions=True
        )
        assert isinstance(answers[1], ZeroDivisionError)
        assert await house.ids() == ["a", "b"]
        assert house.store.counts["w", "ready"] == 2
        assert {run_id for event in house.events if isinstance(event, Came) for run_id in event.run_ids} == {"a", "b"}

    tell(story)


def test_a_rule_that_refuses_after_it_has_written_is_a_bug_and_leaves_nothing(tell: Callable[..., None]) -> None:
    def broken(store: Store) -> None:
        runs.enqueue(store, [{"id": "half", "workflow": "w", "payload_json": "{}"}], now_ms=1)
        raise DuplicateRun("too late")

    async def story(house: House) -> None:
        answers = await asyncio.gather(house.enqueue("a"), house.writer.submit(broken), return_exceptions=True)
        assert isinstance(answers[1], AssertionError)
        assert await house.ids() == ["a"]

    tell(story)


# --- deadlines ------------------------------------------------------------------------------------------------------


def test_nothing_is_committed_after_its_caller_s_deadline(tell: Callable[..., None]) -> None:
    now = [100.0]

    async def story(house: House) -> None:
        gate = threading.Event()
        first = house.writer.submit(hold, gate)
        await asyncio.sleep(0)
        late = house.enqueue("late", deadline_mono_ms=101_000)
        other = house.enqueue("other", deadline_mono_ms=103_000)
        await asyncio.sleep(0)
        now[0] = 102.0
        gate.set()
        await first
        with pytest.raises(StoreUnavailable) as raised:
            await late
        assert raised.value.detail == {"reason": "DEADLINE"}
        await other
        assert await house.ids() == ["other"]

    tell(story, monotonic=lambda: now[0])


def test_a_deadline_that_passes_while_others_run_is_kept_too(tell: Callable[..., None]) -> None:
    now = [100.0]

    def slow(store: Store) -> str:
        now[0] = 102.0
        return "done"

    async def story(house: House) -> None:
        late = house.enqueue("late", deadline_mono_ms=101_000)
        other = house.enqueue("other")
        last = house.writer.submit(slow)
        with pytest.raises(StoreUnavailable):
            await late
        await other
        assert await last == "done"
        assert await house.ids() == ["other"]

    tell(story, monotonic=lambda: now[0])


# --- storage that fails ---------------------------------------------------------------------------------------------


def test_a_full_disk_stores_nothing_says_so_and_goes_on_when_there_is_room(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        await house.enqueue("before")
        pages = house.store.connection.execute("PRAGMA page_count").fetchone()[0]
        house.store.connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()

        answers = await asyncio.gather(
            *(house.enqueue(f"big-{n}", payload_json='"' + "x" * 50_000 + '"') for n in range(3)),
            return_exceptions=True,
        )
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert {answer.detail["reason"] for answer in answers if isinstance(answer, TakoError)} == {"DISK_FULL"}
        assert await house.ids() == ["before"]

        house.store.connection.execute("PRAGMA max_page_count = 1000000").fetchall()
        await house.enqueue("after")
        assert await house.ids() == ["before", "after"]
        assert house.fatal == []

    tell(story)


def test_a_commit_whose_log_is_complete_but_not_its_index_is_not_told_as_nothing_stored(
    tell: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_is_full", lambda path: True)

    async def story(house: House) -> None:
        commit = house.store.commit

        def no_room_for_the_index() -> None:
            house.store.is_committing = True
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
            raise error

        house.store.commit = no_room_for_the_index  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable, match="is full; whether this was stored is not known") as raised:
            await house.enqueue("a")
        assert raised.value.detail == {"reason": "DISK_FULL", "outcome": "unknown"}
        house.store.commit = commit  # type: ignore[method-assign]
        await house.enqueue("b")
        assert house.fatal == []

    tell(story)


def test_a_locked_file_is_told_after_its_time_with_the_holder_s_pid(
    tell: Callable[..., None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        house.store.connection.execute("PRAGMA busy_timeout = 100").fetchall()
        await house.enqueue("before")
        with locked(path) as pid:
            turns = 0
            refused = house.enqueue("refused")
            while not refused.done():
                turns += 1
                await asyncio.wait([refused], timeout=0.01)
            with pytest.raises(StoreUnavailable, match=f"locked by pid {pid}") as raised:
                await refused
            assert raised.value.detail["reason"] == "DB_LOCKED"
            assert turns > 3, "the loop must go on answering meanwhile"
            assert await house.ids() == ["before"]
        await house.enqueue("after")

    tell(story)


def test_the_house_hears_once_that_the_store_cannot_be_written_and_once_that_it_can_again(
    tell: Callable[..., None], path: Path
) -> None:
    async def story(house: House) -> None:
        house.store.connection.execute("PRAGMA busy_timeout = 50").fetchall()
        with locked(path):
            for run_id in ("a", "b"):
                with pytest.raises(StoreUnavailable):
                    await house.enqueue(run_id)
            assert [error.detail["reason"] for error in house.unavailable if error] == ["DB_LOCKED"]
        await house.enqueue("c")
        await house.enqueue("d")
        assert house.unavailable[1:] == [None]

    tell(story)


def test_who_came_while_the_file_was_locked_waits_no_longer_than_who_came_first(
    tell: Callable[..., None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BUSY_TIMEOUT_MS", 1200)

    async def story(house: House) -> None:
        house.store.connection.execute("PRAGMA busy_timeout = 1200").fetchall()
        with locked(path):
            started = time.monotonic()
            first = house.enqueue("first")
            await asyncio.wait([first], timeout=0.9)
            second = house.enqueue("second")
            with pytest.raises(StoreUnavailable):
                await first
            with pytest.raises(StoreUnavailable):
                await second
            assert time.monotonic() - started < 2.85

    tell(story)


def test_who_waited_its_time_behind_a_locked_file_is_refused_and_those_after_it_are_served(
    tell: Callable[..., None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    async def story(house: House) -> None:
        gate = threading.Event()
        with ExitStack() as stack:
            held = house.writer.ask(hold, gate, is_short=False)
            held.then(lambda _: stack.enter_context(locked(path)))
            await asyncio.sleep(0)
            late = house.enqueue("late")
            now[0] = 60.0  # its turn comes when its patience is long at its end
            gate.set()
            with pytest.raises(StoreUnavailable, match="locked by pid"):
                await asyncio.wait_for(late, 10)
        await house.enqueue("after")
        assert await house.ids() == ["after"]

    tell(story, monotonic=lambda: now[0])


def test_a_defect_of_the_writer_itself_stops_the_house_and_leaves_nobody_waiting(
    tell: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(house: House) -> None:
        def explodes(*_: object, **__: object) -> NoReturn:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(house.writer, "_commit_together", explodes)
        with pytest.raises(StoreDamaged, match="a bug"):
            await house.enqueue("a")
        with pytest.raises(StoreDamaged):
            await house.writer.ask(where)
        assert len(house.fatal) == 1

    tell(story)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT])
def test_storage_that_cannot_be_trusted_stops_the_house_and_answers_nobody_with_yes(
    tell: Callable[..., None], code: int
) -> None:
    async def story(house: House) -> None:
        def commit() -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error

        house.store.commit = commit  # type: ignore[method-assign]
        answers = await asyncio.gather(house.enqueue("a"), house.enqueue("b"), return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreDamaged}
        assert len(house.fatal) == 1
        with pytest.raises(StoreDamaged):
            await house.enqueue("c")

    tell(story)


def test_a_failed_checkpoint_stops_the_house_too(tell: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    async def story(house: House) -> None:
        def fails(store: Store) -> None:
            raise error

        monkeypatch.setattr(writer, "_copy_log_into_file", fails)
        monkeypatch.setattr(writer, "_IDLE_S", 0.01)
        await house.enqueue("a")
        async with asyncio.timeout(5):
            while not house.fatal:
                await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.01))])

    tell(story)


def test_other_errors_of_sqlite_are_bugs_of_ours() -> None:
    assert faults.explain(sqlite3.OperationalError("no such table: x"), path=None) is None


# --- reading, stopping ----------------------------------------------------------------------------------------------


def test_a_slow_read_holds_up_no_write(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        gate = threading.Event()
        slow = asyncio.ensure_future(house.writer.read(hold, gate))
        await asyncio.sleep(0)
        await house.enqueue("a")
        gate.set()
        await slow

    tell(story)


def test_an_error_of_a_read_reaches_its_caller_and_the_next_read_works(tell: Callable[..., None]) -> None:
    def broken(reader: Reader) -> None:
        raise ZeroDivisionError

    async def story(house: House) -> None:
        with pytest.raises(ZeroDivisionError):
            await house.writer.read(broken)
        assert await house.ids() == []

    tell(story)


def test_what_was_submitted_before_the_stop_is_stored(path: Path) -> None:
    async def story() -> None:
        store = Store.open(path)
        house = House(store, time.monotonic)
        futures = [house.enqueue(f"run-{n}") for n in range(20)]
        await house.writer.stop()
        assert len(await asyncio.gather(*futures)) == 20
        with pytest.raises(StoreUnavailable):
            await house.enqueue("late")
        with pytest.raises(StoreUnavailable):
            await house.ids()
        store.close()

    asyncio.run(story())


def test_a_caller_that_went_away_changes_nothing_for_the_others(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        gone = house.enqueue("gone")
        other = house.enqueue("other")
        gone.cancel()
        await other
        assert await house.ids() == ["gone", "other"]

    tell(story)


def test_an_idle_store_is_checkpointed_once_and_then_left_alone(
    tell: Callable[..., None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_IDLE_S", 0.02)
    copied = threading.Event()
    times = []
    real = writer._copy_log_into_file

    def copy(store: Store) -> None:
        real(store)
        times.append(1)
        copied.set()

    monkeypatch.setattr(writer, "_copy_log_into_file", copy)

    async def story(house: House) -> None:
        before = size(path)
        await asyncio.gather(*(house.enqueue(f"run-{n}", payload_json='"' + "x" * 9_000 + '"') for n in range(20)))
        assert await asyncio.to_thread(copied.wait, 5)
        assert size(path) > before + 100_000
        assert times == [1]

    tell(story)


def test_a_store_in_memory_reads_where_it_writes() -> None:
    async def story() -> None:
        store = Store.memory()
        house = House(store, time.monotonic)
        await house.enqueue("a")
        assert await house.ids() == ["a"]
        await house.writer.stop()
        store.close()

    asyncio.run(story())


# --- in which thread ------------------------------------------------------------------------------------------------


def where(store: Store) -> str:
    return threading.current_thread().name


def test_a_short_rule_runs_on_the_loop_s_thread_while_commits_are_quick(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        assert await house.writer.ask(where) == threading.current_thread().name
        assert await house.writer.ask(where, is_short=False) == "tako-writer"
        assert await house.writer.do(where) == "tako-writer"

    tell(story)


def test_what_comes_with_a_long_rule_goes_along_to_the_thread(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        short, long = house.writer.ask(where), house.writer.ask(where, is_short=False)
        assert await short == await long == "tako-writer"

    tell(story)


def test_on_a_slow_disk_short_rules_go_to_the_thread_and_the_loop_goes_on(tell: Callable[..., None]) -> None:
    now = [100.0]

    async def story(house: House) -> None:
        commit = house.store.commit

        def slowly() -> None:
            commit()
            now[0] += took_s

        house.store.commit = slowly  # type: ignore[method-assign]
        took_s = 0.5
        await house.writer.ask(where)
        assert await house.writer.ask(where) == "tako-writer"
        took_s = 0.0001
        for _ in range(100):
            await house.writer.ask(where)
        assert await house.writer.ask(where) == threading.current_thread().name

    tell(story, monotonic=lambda: now[0])


def test_a_file_that_another_process_has_locked_is_not_waited_for_on_the_loop(
    tell: Callable[..., None], path: Path
) -> None:
    async def story(house: House) -> None:
        with locked(path):
            turns = 0
            answer = house.writer.ask(runs.enqueue, [{"id": "a", "workflow": "w", "payload_json": "{}"}], now_ms=1)
            waiting = asyncio.ensure_future(house.writer.read(ids))
            while turns < 5:
                turns += 1
                await asyncio.sleep(0.01)
            assert await waiting == []
            assert not answer.done(), "it waits for its two seconds, in the thread"
        assert await answer == [{"id": "a", "is_new": True}]
        assert await house.writer.ask(where) == threading.current_thread().name

    tell(story)


def test_a_bug_in_what_is_done_with_an_answer_keeps_nobody_else_from_theirs(tell: Callable[..., None]) -> None:
    async def story(house: House) -> None:
        bugs: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
        house.writer.ask(where).then(lambda _: 1 // 0)
        assert await house.writer.ask(where)
        assert isinstance(bugs[0]["exception"], ZeroDivisionError)

    tell(story)


# --- rules for many -------------------------------------------------------------------------------------------------


def test_what_comes_together_for_one_rule_is_asked_of_it_once(tell: Callable[..., None]) -> None:
    asked: list[list[str]] = []

    def rule(store: Store, many: list[str]) -> list[str | TakoError]:
        asked.append(many)
        return [DuplicateRun("no") if one == "b" else one.upper() for one in many]

    async def story(house: House) -> None:
        first, second = house.writer.ask_with_others(rule, "a"), house.writer.ask_with_others(rule, "b")
        other = house.writer.ask(where)
        third = house.writer.ask_with_others(rule, "c")
        assert await first == "A"
        with pytest.raises(DuplicateRun):
            await second
        assert await third == "C"
        assert await other
        assert asked == [["a", "b"], ["c"]], "only neighbours: what came between keeps its place"

    tell(story)


def test_a_rule_for_many_that_breaks_is_asked_for_each_alone(tell: Callable[..., None]) -> None:
    def rule(store: Store, many: list[str]) -> list[str | TakoError]:
        if "bad" in many:
            raise ZeroDivisionError
        return list(many)

    async def story(house: House) -> None:
        answers = [house.writer.ask_with_others(rule, one) for one in ("a", "bad", "b")]
        assert await answers[0] == "a"
        assert await answers[2] == "b"
        with pytest.raises(ZeroDivisionError):
            await answers[1]

    tell(story)


def test_one_of_many_that_is_late_is_left_out(tell: Callable[..., None]) -> None:
    def rule(store: Store, many: list[str]) -> list[str | TakoError]:
        return list(many)

    async def story(house: House) -> None:
        late = house.writer.ask_with_others(rule, "late", deadline_mono_ms=99_000)
        other = house.writer.ask_with_others(rule, "other")
        with pytest.raises(StoreUnavailable):
            await late
        assert await other == "other"

    tell(story, monotonic=lambda: 100.0)
