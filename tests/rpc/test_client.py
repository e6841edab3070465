"""The blocking client, shared by threads, kept over forks and interruptions. What callers are told: test_request.py."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tako.errors import EnqueueUnknown, StoreUnavailable, TakoError, Unauthorized
from tako.rpc.client import Client
from tako.rpc.connection import Handler
from tests.rpc.conftest import new_run
from tests.support.dev import until
from tests.support.rpc import WAIT_S, Caller, Connection, Message, RealEngine, ScriptedEngine, line


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    client = Client(str(path), "shop")
    yield client
    client.close()


class Gate:
    """The command `wait`: answered when `open` is called; `entered` tells that one has come."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._futures: list[asyncio.Future[str]] = []

    def __call__(self, connection: Connection, message: Message) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        self.entered.set()
        return future

    def open(self, engine: RealEngine) -> None:
        for future in self._futures:
            engine.loop.call_soon_threadsafe(future.set_result, "opened")


def in_thread(client: Client, command: str, *, deadline_s: float = WAIT_S) -> tuple[threading.Thread, Future[Any]]:
    """A call in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(client.call(command, {}, deadline_s=deadline_s))
        except TakoError as error:
            future.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, future


def run_script(path: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with `client` made, and every warning an error."""
    prelude = f"import os, sys, threading\nfrom tako.rpc.client import Client\nclient = Client({str(path)!r}, 'shop')\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", *options, "-c", prelude + body],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# --- threads ---


def test_threads_share_one_connection_and_each_gets_its_own_replies(path: Path, client: Client) -> None:
    async def later(connection: Connection, message: Message) -> Any:
        for _ in range(message["value"] % 7):  # so that replies overtake each other
            await asyncio.sleep(0)
        return message["value"]

    def ask_often(thread: int) -> bool:
        values = range(thread * 1000, thread * 1000 + 100)
        return [client.call("later", {"value": value}, deadline_s=WAIT_S) for value in values] == list(values)

    with RealEngine(path, {"later": later}) as engine, ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask_often, range(32)))
        assert engine.connections() == 1


def test_a_slow_call_holds_up_no_other(path: Path, client: Client) -> None:
    gate = Gate()
    with RealEngine(path, {"wait": gate}) as engine:
        thread, slow = in_thread(client, "wait")
        assert gate.entered.wait(WAIT_S)

        assert [client.call("echo", {"value": n}, deadline_s=WAIT_S) for n in range(100)] == list(range(100))

        gate.open(engine)
        thread.join()
        assert slow.result() == "opened"


def test_who_gives_up_reading_hands_it_on_to_those_that_still_wait(path: Path, client: Client) -> None:
    gate = Gate()
    with RealEngine(path, {"wait": gate}) as engine:
        impatient_thread, impatient = in_thread(client, "wait", deadline_s=0.1)
        assert gate.entered.wait(WAIT_S)
        patient_thread, patient = in_thread(client, "wait")
        impatient_thread.join()

        gate.open(engine)
        patient_thread.join()
        assert patient.result() == "opened"
        assert isinstance(impatient.exception(), StoreUnavailable)


def test_a_connection_that_is_lost_is_told_to_all_that_wait(path: Path, client: Client) -> None:
    gate = Gate()
    with RealEngine(path, {"wait": gate}) as engine:
        calls = [in_thread(client, "wait") for _ in range(8)]
        while len(gate._futures) < 8:
            gate.entered.wait(WAIT_S)

        engine.cut()

        for thread, future in calls:
            thread.join(WAIT_S)
            assert isinstance(future.exception(0), StoreUnavailable)
        gate.open(engine)


def test_every_thread_learns_that_the_app_is_turned_away(path: Path) -> None:
    client = Client(str(path), "other")

    def ask(_: int) -> str:
        with pytest.raises(Unauthorized) as raised:
            client.call("enqueue_runs", new_run(), deadline_s=WAIT_S)
        return str(raised.value)

    with RealEngine(path, {}), ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(64))) == {"unknown app: other\n  Say shop."}
    client.close()


def test_a_broken_rule_of_one_thread_is_not_told_to_another_as_its_own(path: Path, client: Client) -> None:
    gate = Gate()
    with RealEngine(path, {"enqueue_runs": gate}) as engine:
        pool = ThreadPoolExecutor(1)
        enqueue = pool.submit(client.call, "enqueue_runs", new_run(), deadline_s=WAIT_S)
        assert gate.entered.wait(WAIT_S)
        gate.entered.clear()

        with pytest.raises(StoreUnavailable):  # it was not alone, so nobody can say whose rule it was
            client.call("dance", {}, deadline_s=WAIT_S)

        assert gate.entered.wait(WAIT_S)  # asked again
        gate.open(engine)
        assert enqueue.result(WAIT_S) == "opened"
        pool.shutdown()


def test_a_frame_that_is_being_sent_in_parts_is_not_mixed_with_others(path: Path, client: Client) -> None:
    values = [str(n) * size for n, size in enumerate([900_000, 1, 500_000, 10, 900_000, 70_000, 5, 300_000])]

    def ask(value: str) -> bool:
        return all(client.call("echo", {"value": value}, deadline_s=WAIT_S) == value for _ in range(3))

    with RealEngine(path, {}) as engine, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, values))
        assert len(engine.peers) == 1


class Ledger:
    """Stores runs by id, and cuts connections now and then: before it has stored, or before it says that it has."""

    def __init__(self, seed: int) -> None:
        self.stored: set[str] = set()
        self._random = random.Random(seed)

    def __call__(self, connection: Connection, message: Message) -> Any:
        chance = self._random.random()
        if chance < 0.02:
            connection._abort()
            return None
        fresh = [run["id"] not in self.stored for run in message["runs"]]
        self.stored.update(run["id"] for run in message["runs"])
        if chance < 0.04:
            connection._abort()
        return {"runs": [{"id": run["id"], "is_new": new} for run, new in zip(message["runs"], fresh, strict=True)]}


@pytest.mark.parametrize("seed", range(4))
def test_what_a_caller_is_told_of_an_enqueue_is_true_whatever_happens_to_connections(
    path: Path, client: Client, seed: int
) -> None:
    ledger = Ledger(seed)
    told: dict[str, bool | None] = {}

    def enqueue(thread: int) -> None:
        for n in range(40):
            run_id = f"{thread}-{n}"
            try:
                answer = client.call("enqueue_runs", new_run(run_id), deadline_s=WAIT_S)
                told[run_id] = answer["runs"][0]["id"] == run_id
            except EnqueueUnknown:
                told[run_id] = None
            except StoreUnavailable:
                told[run_id] = False

    with RealEngine(path, {"enqueue_runs": ledger}) as engine, ThreadPoolExecutor(8) as threads:
        enqueueing = [threads.submit(enqueue, n) for n in range(8)]
        for _ in range(3):
            engine.stop()
            engine.start()
        for one in enqueueing:
            one.result(60)

    assert {run_id for run_id, stored in told.items() if stored} <= ledger.stored
    assert not {run_id for run_id, stored in told.items() if stored is False} & ledger.stored


# --- forks ---


def test_a_child_has_its_own_connection_and_its_parent_keeps_its(path: Path) -> None:
    with RealEngine(path, {}) as engine:
        ended = run_script(path, """if True:
            assert client.call("echo", {"value": "parent"}, deadline_s=10) == "parent"
            pid = os.fork()
            for n in range(100):
                assert client.call("echo", {"value": (pid, n)}, deadline_s=10) == [pid, n]
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
            """)  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(engine.peers) == len(set(engine.peers)) == 2


def test_a_child_of_a_process_whose_threads_were_calling_can_call(path: Path) -> None:
    gate = Gate()
    with RealEngine(path, {"wait": gate, "open": lambda connection, message: gate.open(engine)}) as engine:
        ended = run_script(path, """if True:
            from concurrent.futures import ThreadPoolExecutor
            threads = ThreadPoolExecutor(4)
            waiting = [threads.submit(client.call, "wait", {}, deadline_s=10) for _ in range(4)]
            client.call("echo", {}, deadline_s=10)
            pid = os.fork()
            if pid == 0:
                assert client.call("echo", {"value": "child"}, deadline_s=10) == "child"
                client.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            client.call("open", {}, deadline_s=10)
            assert [one.result() for one in waiting] == ["opened"] * 4
            """)  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")


# --- ends ---


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "client.close(); client.close()"])
def test_a_process_that_ends_leaves_no_warning_and_no_connection(path: Path, end: str) -> None:
    with RealEngine(path, {}):
        ended = run_script(path, f"client.call('echo', {{}}, deadline_s=10)\n{end}")

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_closed_client_opens_again_when_it_is_called(path: Path, client: Client) -> None:
    with RealEngine(path, {}) as engine:
        client.call("echo", {}, deadline_s=WAIT_S)
        client.close()

        assert client.call("echo", {"value": 1}, deadline_s=WAIT_S) == 1
        assert len(engine.peers) == 2


def test_closing_wakes_those_that_wait(path: Path, client: Client) -> None:
    gate = Gate()
    with RealEngine(path, {"wait": gate}) as engine:
        thread, waiting = in_thread(client, "wait")
        assert gate.entered.wait(WAIT_S)

        client.close()

        thread.join(WAIT_S)
        assert isinstance(waiting.exception(0), StoreUnavailable)
        gate.open(engine)


# --- signals ---


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_that_is_handled_does_not_end_a_call(path: Path, client: Client, alarm: None) -> None:
    gate = Gate()
    with RealEngine(path, {"wait": gate}) as engine:
        signal.signal(signal.SIGALRM, lambda *_: gate.open(engine))
        signal.setitimer(signal.ITIMER_REAL, 0.05)

        assert client.call("wait", {}, deadline_s=WAIT_S) == "opened"


def test_an_interrupted_call_takes_nothing_from_the_next_one(path: Path, client: Client, alarm: None) -> None:
    gate = Gate()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with RealEngine(path, {"wait": gate}) as engine:
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            client.call("wait", {}, deadline_s=WAIT_S)
        gate.open(engine)

        assert client.call("echo", {"value": "mine"}, deadline_s=WAIT_S) == "mine"


def reads(client: Client) -> bool:
    link = client._own[os.getpid()].link
    return link is not None and link._is_reading


def test_an_interrupted_reader_does_not_leave_the_others_waiting(path: Path, client: Client, alarm: None) -> None:
    gate = Gate()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with RealEngine(path, {"get_run": gate}) as engine:
        pool = ThreadPoolExecutor(1)

        def join_in() -> Any:
            gate.entered.wait(WAIT_S)
            gate.entered.clear()
            until(lambda: reads(client), what="the first one reads, and not the one that joins in")
            future = pool_of_one.submit(client.call, "get_run", {}, deadline_s=WAIT_S)
            gate.entered.wait(WAIT_S)
            gate.entered.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            return future

        pool_of_one = ThreadPoolExecutor(1)
        signal.signal(signal.SIGALRM, interrupt)
        joining = pool.submit(join_in)
        with pytest.raises(KeyboardInterrupt):
            client.call("get_run", {}, deadline_s=WAIT_S)

        assert gate.entered.wait(WAIT_S)  # the other has asked again, on a connection of its own
        gate.open(engine)
        assert joining.result(WAIT_S).result(WAIT_S) == "opened"
        pool.shutdown()
        pool_of_one.shutdown()


def test_a_signals_handler_that_enqueues_ends_at_its_deadline_and_so_does_what_it_interrupted(
    path: Path, client: Client, alarm: None
) -> None:
    gate = Gate()
    told: list[BaseException] = []

    def enqueue(*_: object) -> None:
        try:
            client.call("enqueue_runs", new_run(), deadline_s=0.1)
        except TakoError as error:
            told.append(error)
        gate.open(engine)

    stored: dict[str, Handler] = {"enqueue_runs": lambda connection, message: {"runs": []}}
    with RealEngine(path, {"wait": gate, **stored}) as engine:
        signal.signal(signal.SIGALRM, enqueue)
        signal.setitimer(signal.ITIMER_REAL, 0.05)

        assert client.call("wait", {}, deadline_s=WAIT_S) == "opened"
    assert [type(error) for error in told] == [EnqueueUnknown]


def test_a_program_that_dies_of_broken_pipes_does_not_die_of_an_engine_that_has_gone(path: Path) -> None:
    with RealEngine(path, {"quit": lambda connection, message: connection.close()}):
        ended = run_script(path, """if True:
            import signal
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            for _ in range(10):
                client.call("echo", {}, deadline_s=10)
                try:
                    client.call("quit", {}, deadline_s=10)
                except Exception:
                    pass
            """)  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")


# --- one caller ---


def test_a_lone_caller_makes_one_system_call_to_send_and_one_to_receive(path: Path) -> None:
    with RealEngine(path, {}):
        ended = run_script(path, """if True:
            from tako.rpc import link
            client.call("echo", {}, deadline_s=10)
            counts = []
            class Counting:
                def __init__(self, inner): self.inner = inner
                def __getattr__(self, name):
                    counts.append(name)
                    return getattr(self.inner, name)
            own = client._own[os.getpid()].link
            real, own._socket = own._socket, Counting(own._socket)
            client.call("echo", {"value": 1}, deadline_s=10)
            own._socket = real
            print(counts)
            """)  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "['send', 'recv']\n"


# --- lines ---


def subscription(*events: Message) -> Any:
    def script(caller: Caller) -> None:
        caller.answer(caller.read(), {})
        caller.send(b"".join(line(**event) for event in events))

    return script


def test_lines_are_yielded_until_the_engine_closes(path: Path, client: Client) -> None:
    with ScriptedEngine(path, subscription({"event": "log", "n": 1}, {"event": "run", "n": 2})) as engine:
        lines = client.lines("subscribe", {"topics": ["logs"]})

        assert [event["n"] for event in lines] == [1, 2]
    assert engine.seen[0]["app"] == "shop"
    assert engine.seen[0]["topics"] == ["logs"]


def test_lines_that_come_with_the_answer_are_not_lost(path: Path, client: Client) -> None:
    def script(caller: Caller) -> None:
        request = caller.read()
        caller.send(line(status="ok", data={}, request=request["request"]) + line(event="log") + b'{"event":')
        caller.send(b'"run"}\n')

    with ScriptedEngine(path, script):
        assert [event["event"] for event in client.lines("subscribe", {})] == ["log", "run"]


def test_closing_ends_the_lines_at_the_engine_too(path: Path, client: Client) -> None:
    ended = threading.Event()

    def script(caller: Caller) -> None:
        caller.answer(caller.read(), {})
        caller.wait_for_end()
        ended.set()

    with ScriptedEngine(path, script):
        with client.lines("subscribe", {}):
            pass
        assert ended.wait(WAIT_S)


def test_lines_have_a_connection_of_their_own(path: Path, client: Client) -> None:
    with RealEngine(path, {"subscribe": lambda connection, message: {}}) as engine, client.lines("subscribe", {}):
        assert client.call("echo", {"value": 1}, deadline_s=WAIT_S) == 1
        assert engine.connections() == 2


def test_a_subscription_that_is_refused_says_why(path: Path, client: Client) -> None:
    with RealEngine(path, {}), pytest.raises(TakoError, match="unknown command"):
        client.lines("subscribe", {})


def test_a_subscription_without_an_engine_says_so(path: Path, client: Client) -> None:
    with pytest.raises(StoreUnavailable, match="nothing listens") as raised:
        client.lines("subscribe", {})
    assert raised.value.detail == {"reason": "NO_ENGINE"}


def test_a_subscription_that_is_not_answered_ends_at_its_deadline(path: Path, client: Client) -> None:
    started = time.monotonic()
    with (
        ScriptedEngine(path, lambda caller: caller.wait_for_end()),
        pytest.raises(StoreUnavailable),
    ):
        client.lines("subscribe", {}, deadline_s=0.05)
    assert time.monotonic() - started < WAIT_S
