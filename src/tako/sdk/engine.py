"""The engine as the SDK calls it: enqueue, and any other command; each blocking and awaited."""

import sys

from tako.rpc.request import GRACE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from tako.protocol.messages import Enqueued, NewRun
    from tako.rpc.client import Client

    class Engine(Protocol):
        """What the SDK needs: RemoteEngine here, one in process in `tako.testing`, one around it in `tako.contrib`."""

        def enqueue(self, runs: Sequence[NewRun], *, deadline_s: float, immediate: bool = False) -> list[Enqueued]:
            """Store runs in one transaction. `immediate`: not with a transaction of the app's own."""

        async def aenqueue(
            self, runs: Sequence[NewRun], *, deadline_s: float, immediate: bool = False
        ) -> list[Enqueued]:
            """The same, awaited."""

        def call(self, command: str, fields: Mapping[str, Any], *, deadline_s: float) -> Any:
            """Any other command; what its reply carries."""

        async def acall(self, command: str, fields: Mapping[str, Any], *, deadline_s: float) -> Any:
            """The same, awaited."""


class RemoteEngine:
    """The engine at the other end of the socket."""

    __slots__ = ("_aio", "_app", "_client", "_path", "_token")

    def __init__(self, path: str, app: str, token: str | None) -> None:
        self._path = path
        self._app = app
        self._token = token
        self._client: Client | None = None
        self._aio: Any = None

    def enqueue(self, runs: "Sequence[NewRun]", *, deadline_s: float, immediate: bool = False) -> "list[Enqueued]":
        """Store runs in one transaction."""
        if "opentelemetry.trace" in sys.modules:
            from tako.sdk import spans

            with spans.enqueueing(runs):
                return self._enqueue(runs, deadline_s)
        return self._enqueue(runs, deadline_s)

    def _enqueue(self, runs: "Sequence[NewRun]", deadline_s: float) -> "list[Enqueued]":
        data = (self._client or self._open()).call("enqueue_runs", {"runs": runs}, deadline_s=told(deadline_s))
        return mark_new(data["runs"], runs)

    def call(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float) -> "Any":
        """Any other command."""
        return (self._client or self._open()).call(command, fields, deadline_s=deadline_s)

    async def aenqueue(
        self, runs: "Sequence[NewRun]", *, deadline_s: float, immediate: bool = False
    ) -> "list[Enqueued]":
        """As `enqueue`, awaited."""
        if "opentelemetry.trace" in sys.modules:
            from tako.sdk import spans

            with spans.enqueueing(runs):
                return await self._aenqueue(runs, deadline_s)
        return await self._aenqueue(runs, deadline_s)

    async def _aenqueue(self, runs: "Sequence[NewRun]", deadline_s: float) -> "list[Enqueued]":
        data = await (self._aio or self._aopen()).call("enqueue_runs", {"runs": runs}, deadline_s=told(deadline_s))
        return mark_new(data["runs"], runs)

    async def acall(self, command: str, fields: "Mapping[str, Any]", *, deadline_s: float) -> "Any":
        """As `call`, awaited."""
        return await (self._aio or self._aopen()).call(command, fields, deadline_s=deadline_s)

    def close(self) -> None:
        """Close the blocking connection. Connections of event loops end with their loops."""
        if self._client is not None:
            self._client.close()

    def _open(self) -> "Client":
        from tako.rpc.client import Client

        self._client = Client(self._path, self._app, self._token)
        return self._client

    def _aopen(self) -> "Any":
        from tako.rpc.aio import AsyncClient

        self._aio = AsyncClient(self._path, self._app, self._token)
        return self._aio


def told(deadline_s: float) -> float:
    """The deadline that the engine is told of an enqueue. Its answer, if only "too late", must come by the caller's."""
    return max(deadline_s - GRACE_S, deadline_s / 2)


def mark_new(stored: "list[Enqueued]", runs: "Sequence[NewRun]") -> "list[Enqueued]":
    """A run that was stored under the id we chose is new, also when it took two requests to be told so."""
    for one, run in zip(stored, runs, strict=True):
        if one["id"] == run["id"]:
            one["is_new"] = True
    return stored
