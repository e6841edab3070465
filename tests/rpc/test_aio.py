"""The awaited client: one connection a loop, whatever happens to loops. What callers are told: test_request.py."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tako.errors import EnqueueUnknown, StoreUnavailable, Unauthorized
from tako.rpc.aio import AsyncClient
from tests.rpc.conftest import new_run
from tests.support.rpc import WAIT_S, Connection, Message, RealEngine


@pytest.fixture
def client(path: Path) -> AsyncClient:
    return AsyncClient(str(path), "shop")


def run_in(loop_factory: Any, work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(work)


loops = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def echo(client: AsyncClient, value: Any) -> Any:
    return await client.call("echo", {"value": value}, deadline_s=WAIT_S)


# --- one loop ---


@loops
def test_tasks_share_one_connection_and_each_gets_its_own_replies(
    path: Path, client: AsyncClient, loop_factory: Any
) -> None:
    async def later(connection: Connection, message: Message) -> Any:
        for _ in range(message["value"] % 7):  # so that replies overtake each other
            await asyncio.sleep(0)
        return message["value"]

    async def ask_often(task: int) -> bool:
        values = range(task * 1000, task * 1000 + 100)
        return [await client.call("later", {"value": value}, deadline_s=WAIT_S) for value in values] == list(values)

    async def main() -> bool:
        return all(await asyncio.gather(*map(ask_often, range(32))))

    with RealEngine(path, {"later": later}) as engine:
        assert run_in(loop_factory, main())
        assert len(engine.peers) == 1


@loops
def test_large_requests_and_replies_go_through_beside_small_ones(
    path: Path, client: AsyncClient, loop_factory: Any
) -> None:
    values = [str(n) * size for n, size in enumerate([900_000, 1, 500_000, 10, 900_000, 70_000, 5, 300_000])]

    async def main() -> list[Any]:
        return await asyncio.gather(*[echo(client, value) for value in values * 3])

    with RealEngine(path, {}) as engine:
        assert run_in(loop_factory, main()) == values * 3
        assert len(engine.peers) == 1


def test_what_is_asked_in_one_turn_of_the_loop_is_sent_in_few_pieces(path: Path, client: AsyncClient) -> None:
    arrived: list[int] = []  # one number for each turn of the engine's loop in which requests came

    def count(connection: Connection, message: Message) -> None:
        loop = asyncio.get_running_loop()
        if not arrived or getattr(loop, "turn", None) is None:
            arrived.append(0)
            loop.turn = True  # type: ignore[attr-defined]
            loop.call_soon(lambda: setattr(loop, "turn", None))
        arrived[-1] += 1

    async def main() -> None:
        await echo(client, 0)
        for _ in range(20):
            await asyncio.gather(*[client.call("count", {}, deadline_s=WAIT_S) for _ in range(32)])

    with RealEngine(path, {"count": count}):
        asyncio.run(main())
    assert sum(arrived) == 640
    assert len(arrived) <= 20 * 5  # the first of a burst may leave at once, for it could be alone; eight leave together


def test_of_many_lines_the_first_leave_while_the_others_are_still_written(path: Path, client: AsyncClient) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        async def main() -> None:
            calls = [asyncio.ensure_future(echo(client, 0))]
            await asyncio.sleep(0)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65_536).count(b"\n") == 1
                calls += [asyncio.ensure_future(echo(client, value)) for value in range(12)]
                await asyncio.sleep(0)  # they are called, and so are we, in one turn
                assert connection.recv(65_536).count(b"\n") == 8
                await asyncio.sleep(0)
                assert connection.recv(65_536).count(b"\n") == 4
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(main())


def test_a_call_that_is_cancelled_before_it_was_sent_is_not_sent(path: Path, client: AsyncClient) -> None:
    seen: list[str] = []

    async def main() -> None:
        await echo(client, 0)
        kept, cancelled = [
            asyncio.ensure_future(client.call("note", {"value": value}, deadline_s=WAIT_S)) for value in ("a", "b")
        ]
        asyncio.get_running_loop().call_soon(cancelled.cancel)
        await kept
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await echo(client, 1) == 1

    with RealEngine(path, {"note": lambda connection, message: seen.append(message["value"])}):
        asyncio.run(main())
    assert seen == ["a"]


def test_a_call_that_is_cancelled_takes_nothing_from_the_next_one(path: Path, client: AsyncClient) -> None:
    async def wait(connection: Connection, message: Message) -> str:
        await asyncio.sleep(0.01)
        return "late"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await client.call("wait", {}, deadline_s=WAIT_S)
        assert await echo(client, "mine") == "mine"
        assert await client.call("wait", {}, deadline_s=WAIT_S) == "late"

    with RealEngine(path, {"wait": wait}) as engine:
        asyncio.run(main())
        assert len(engine.peers) == 1


def test_each_call_ends_at_its_own_deadline(path: Path, client: AsyncClient) -> None:
    async def never(connection: Connection, message: Message) -> None:
        await asyncio.sleep(WAIT_S)

    async def ask(deadline_s: float) -> float:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await client.call("never", {}, deadline_s=deadline_s)
        return time.monotonic() - started

    async def main() -> list[float]:
        return await asyncio.gather(*map(ask, (0.3, 0.1, 0.2)))

    with RealEngine(path, {"never": never}):
        long, short, middle = asyncio.run(main())
    assert 0.1 <= short < middle < long


@loops
def test_a_lost_connection_is_told_to_all_that_wait_and_the_next_call_makes_another(
    path: Path, client: AsyncClient, loop_factory: Any
) -> None:
    async def cut(connection: Connection, message: Message) -> None:
        connection._abort()

    async def main() -> None:
        lost = await asyncio.gather(
            *[client.call("cut", {}, deadline_s=WAIT_S) for _ in range(8)], return_exceptions=True
        )
        assert [type(error) for error in lost] == [StoreUnavailable] * 8
        assert await echo(client, 1) == 1

    with RealEngine(path, {"cut": cut}):
        run_in(loop_factory, main())


def test_every_task_learns_that_the_app_is_turned_away(path: Path) -> None:
    client = AsyncClient(str(path), "other")

    async def main() -> list[Any]:
        asked = [client.call("enqueue_runs", new_run(), deadline_s=WAIT_S) for _ in range(32)]
        return await asyncio.gather(*asked, return_exceptions=True)

    with RealEngine(path, {}):
        told = asyncio.run(main())
    assert {type(error) for error in told} == {Unauthorized}


@pytest.mark.parametrize("seed", range(4))
def test_what_a_caller_is_told_of_an_enqueue_is_true_whatever_happens_to_connections(
    path: Path, client: AsyncClient, seed: int
) -> None:
    stored: set[str] = set()
    told: dict[str, bool | None] = {}
    chances = random.Random(seed)

    def store(connection: Connection, message: Message) -> Any:
        chance = chances.random()
        if chance < 0.02:
            connection._abort()
            return None
        stored.update(run["id"] for run in message["runs"])
        if chance < 0.04:
            connection._abort()
        return {"runs": [{"id": run["id"], "is_new": True} for run in message["runs"]]}

    async def enqueue(task: int) -> None:
        for n in range(40):
            run_id = f"{task}-{n}"
            try:
                answer = await client.call("enqueue_runs", new_run(run_id), deadline_s=WAIT_S)
                told[run_id] = answer["runs"][0]["id"] == run_id
            except EnqueueUnknown:
                told[run_id] = None
            except StoreUnavailable:
                told[run_id] = False

    async def main(engine: RealEngine) -> None:
        enqueueing = asyncio.gather(*map(enqueue, range(8)))
        for _ in range(3):
            await asyncio.to_thread(engine.stop)
            await asyncio.to_thread(engine.start)
        await enqueueing

    with RealEngine(path, {"enqueue_runs": store}) as engine:
        asyncio.run(main(engine))
    assert len(told) == 320
    assert {run_id for run_id, is_stored in told.items() if is_stored} <= stored
    assert not {run_id for run_id, is_stored in told.items() if is_stored is False} & stored


# --- several loops, forks, ends ---


@loops
def test_a_connection_is_closed_when_its_loop_shuts_down(path: Path, client: AsyncClient, loop_factory: Any) -> None:
    with RealEngine(path, {}) as engine:
        for n in range(3):
            assert run_in(loop_factory, echo(client, n)) == n
            engine.wait_for_connections(0)


def test_a_loop_that_is_closed_without_a_shutdown_leaves_its_connection_to_the_next_one(
    path: Path, client: AsyncClient
) -> None:
    with RealEngine(path, {}) as engine:
        for n in range(3):
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(echo(client, n)) == n
            loop.close()
        engine.wait_for_connections(1)

        asyncio.run(echo(client, 3))
        engine.wait_for_connections(0)


def test_a_call_while_the_loop_shuts_down_still_goes_through(path: Path, client: AsyncClient) -> None:
    said: list[Any] = []

    async def last_words() -> Any:
        try:
            yield
        finally:
            said.append(await echo(client, "bye"))

    async def main() -> None:
        await echo(client, 1)
        async for _ in (words := last_words()):
            assert words is not None
            break
        said.append(words)

    with RealEngine(path, {}) as engine:
        asyncio.run(main())
        assert said[-1] == "bye"
        assert engine.peers


def test_loops_in_several_threads_have_a_connection_each(path: Path, client: AsyncClient) -> None:
    async def ask_often(thread: int) -> bool:
        return all([await echo(client, [thread, n]) == [thread, n] for n in range(50)])

    with RealEngine(path, {}) as engine, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda thread: asyncio.run(ask_often(thread)), range(8)))
        assert len(engine.peers) == 8
        engine.wait_for_connections(0)


def run_script(path: Path, body: str) -> subprocess.CompletedProcess[str]:
    prelude = (
        "import asyncio, logging, os, sys\nfrom tako.rpc.aio import AsyncClient\n"
        "logging.getLogger('asyncio').setLevel('ERROR')\n"  # that a busy machine made it slow is no matter
        f"client = AsyncClient({str(path)!r}, 'shop')\n"
        "async def echo(value):\n    return await client.call('echo', {'value': value}, deadline_s=10)\n"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", prelude + body],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_child_that_was_forked_beside_a_running_loop_has_its_own_connection(path: Path) -> None:
    with RealEngine(path, {}) as engine:
        ended = run_script(path, """if True:
            async def child():
                for n in range(50):
                    assert await echo(["child", n]) == ["child", n]

            async def main():
                assert await echo("parent") == "parent"
                pid = os.fork()
                if pid == 0:
                    asyncio._set_running_loop(None)
                    asyncio.set_event_loop(None)
                    asyncio.run(child())
                    os._exit(0)
                for n in range(50):
                    assert await echo(["parent", n]) == ["parent", n]
                assert os.waitpid(pid, 0)[1] == 0
                assert await echo("still here") == "still here"
            asyncio.run(main())
            """)  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(engine.peers) == len(set(engine.peers)) == 2


@pytest.mark.parametrize(
    "body",
    [
        "asyncio.run(echo(1))",
        "loop = asyncio.new_event_loop(); loop.run_until_complete(echo(1)); loop.close()",
        "import uvloop; uvloop.run(echo(1))",
    ],
)
def test_a_process_that_ends_leaves_no_warning(path: Path, body: str) -> None:
    with RealEngine(path, {}):
        ended = run_script(path, body)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_blocking_client_does_not_load_asyncio() -> None:
    code = "import sys, tako.rpc.client; print('asyncio' in sys.modules)"

    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "False\n"
