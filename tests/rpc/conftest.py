"""Both clients, asked in the same way: what a caller is told must not depend on whether it awaits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tako.rpc.aio import AsyncClient
from tako.rpc.client import Client


class Ask(Protocol):
    """A call, blocking."""

    def __call__(
        self, command: str, fields: dict[str, Any] | None = None, *, deadline_s: float = 10, token: str | None = None
    ) -> Any: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture(params=["blocking", "awaited"])
def ask(request: pytest.FixtureRequest, path: Path) -> Iterator[Ask]:
    """One client of the app "shop"."""
    if request.param == "blocking":
        client = Client(str(path), "shop", "a-token")

        def ask(command: str, fields: dict[str, Any] | None = None, *, deadline_s: float = 10, **_: Any) -> Any:
            return client.call(command, fields or {}, deadline_s=deadline_s)

        yield ask
        client.close()
        return

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        awaited = AsyncClient(str(path), "shop", "a-token")

        def ask_awaited(command: str, fields: dict[str, Any] | None = None, *, deadline_s: float = 10, **_: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(
                awaited.call(command, fields or {}, deadline_s=deadline_s), loop
            ).result(deadline_s + 10)

        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield ask_awaited
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def new_run(run_id: str = "run-1", **fields: Any) -> dict[str, Any]:
    """The fields of an enqueue of one run."""
    return {"runs": [{"id": run_id, "workflow": "pay", "payload_json": "{}", **fields}]}
