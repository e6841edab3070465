"""Serve the user's ASGI or WSGI app with uvicorn's protocols, on a listener that is lent and can be let go of.

uvicorn's own `Server` closes what it listens on and polls ten times a second; what is used of it are its HTTP and
websocket protocols, its lifespan, and its middleware for forwarded headers.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, cast

import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from tako.protocol import control
from tako.web import load, partings, records
from tako.web.access import AccessLog, App
from tako.web.line import Line, Message, bind_private

BACKLOG = 2048
GRACE_S = 0.3
WSGI_THREADS = 16


def run(arguments: control.Arguments, *, began: float) -> int:
    """Serve `arguments.main` until drained. The exit code: 0 drained, 1 the app could not be imported or started."""
    with asyncio.Runner(loop_factory=_loop_factory()) as loops:
        # What an app makes at import may ask for the loop: the one it will run in.
        asyncio.set_event_loop(loops.get_loop())
        try:
            app, interface = load.app(arguments.main)
        except load.NotLoaded:
            return 1
        return loops.run(Runner(app, interface, arguments, began=began).run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class Runner:
    """The instance of an ASGI or WSGI app."""

    def __init__(self, app: Callable[..., Any], interface: str, arguments: control.Arguments, *, began: float) -> None:
        asgi = _from_wsgi(app) if interface == load.WSGI else cast(App, app)
        self._arguments = arguments
        self._began = began
        self._public = _config(AccessLog(asgi) if arguments.access_log else asgi)
        self._private = _config(asgi)
        self._lifespan = LifespanOn(self._public)
        self._line = Line(self, orphan_timeout_s=arguments.orphan_timeout_ms / 1000)
        self._state = _State(self._line.changed)
        self._shared: socket.socket | None = None
        self._serving: asyncio.Server | None = None
        self._drain = asyncio.Event()
        self._is_cut_off = False
        self._drain_timeout_s = arguments.drain_timeout_ms / 1000

    async def run(self) -> int:
        """Start, say so, serve when told, and return the exit code when drained."""
        loop = asyncio.get_running_loop()
        self._shared = _inherited_listener()
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            print("The app's startup failed.", file=sys.stderr, flush=True)  # noqa: T201 - its traceback stands above
            return 1
        # Not before: what the start prints is told as the reason that it failed, as it stands there.
        records.bridge()
        private = await self._listen_privately()
        await self._line.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain, None)
        faulthandler.cancel_dump_traceback_later()
        boot_ms = round((time.monotonic() - self._began) * 1000)
        self._line.tell(ev="ready", pid=os.getpid(), boot_ms=boot_ms)
        await self._drain.wait()
        await self._end(private)
        return 0

    # --- what the daemon asks ---------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Accept from the shared listener."""
        if self._serving is None and self._shared is not None and not self._drain.is_set():
            # A copy, since closing the server closes its socket: the queue lives on in the original.
            self._serving = await self._listen(self._shared.dup(), self._public, self._state)

    async def pause(self) -> None:
        """Stop accepting. Connections that wait for their next request are closed, so that it goes to the next
        instance; those that have not said anything yet may still, and websockets stay."""
        self._stop_accepting()
        for connection in list(self._state.connections):
            if getattr(connection, "cycle", None) is not None:
                connection.shutdown()

    def drain(self, timeout_s: float | None) -> None:
        """Begin to drain; `timeout_s` None is as long as configured."""
        if timeout_s is not None:
            self._drain_timeout_s = timeout_s
        self._drain.set()

    def status(self) -> Message:
        """What a daemon wants to know of an instance."""
        return {
            "pid": os.getpid(),
            "serving": self._serving is not None,
            "inflight": len(self._state.tasks),
            "done": self._state.total_requests,
        }

    # --- sockets ----------------------------------------------------------------------------------------------------

    async def _listen(self, sock: socket.socket, config: uvicorn.Config, state: ServerState) -> asyncio.Server:
        factory = cast(Callable[..., asyncio.Protocol], config.http_protocol_class)
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            return factory(config=config, server_state=state, app_state=self._lifespan.state)

        return await loop.create_server(protocol, sock=sock, backlog=BACKLOG)

    async def _listen_privately(self) -> asyncio.Server | None:
        path = os.environ.get(control.PRIVATE_SOCKET)
        if not path:
            return None
        # A state of its own: a health probe is no request, and must not keep the instance awake.
        return await self._listen(bind_private(path), self._private, _State(lambda: None))

    def _stop_accepting(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.close()

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _end(self, private: asyncio.Server | None) -> None:
        """1 accept no more; 2 hear out who was just accepted; 3 finish what is in flight; 4 the app's shutdown."""
        self._stop_accepting()
        # A connection that was accepted just now may not have sent its first byte; closing it would lose its request.
        await asyncio.sleep(GRACE_S)
        for _ in range(3):  # on a busy machine this is the first turn since then: read before anything is closed
            await asyncio.sleep(0)
        leaving = []
        for connection in list(self._state.connections):
            if partings.can_part(connection):
                leaving.append(asyncio.ensure_future(partings.part(connection, within_s=self._drain_timeout_s)))
            else:
                connection.shutdown()
        await self._finish()
        for parting in leaving:
            parting.cancel()
        if private is not None:
            private.close()
        try:
            await asyncio.wait_for(self._lifespan.shutdown(), timeout=5.0)
        except TimeoutError:
            print("The app's shutdown took longer than 5s; it was not waited for.", file=sys.stderr)  # noqa: T201
        await self._line.stop()
        if self._is_cut_off:
            # Threads cannot be cancelled, and the interpreter would wait for those that still work on a request.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    async def _finish(self) -> None:
        deadline = time.monotonic() + self._drain_timeout_s
        while (tasks := set(self._state.tasks)) and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(tasks, timeout=left)
        if not tasks:
            await self._flush(deadline)
            return
        who = "1 request" if len(tasks) == 1 else f"{len(tasks)} requests"
        were = "was" if len(tasks) == 1 else "were"
        print(f"{who} did not end within {self._drain_timeout_s:g}s and {were} cut off.", file=sys.stderr)  # noqa: T201
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
        self._is_cut_off = True

    async def _flush(self, deadline: float) -> None:
        """Wait until what was answered has left for the client, as long as the client takes it, and until websockets
        have parted."""
        while time.monotonic() < deadline and any(map(_is_open, self._state.connections)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # no event tells that a transport's buffer is empty


def _is_open(connection: Any) -> bool:
    transport = getattr(connection, "transport", None)
    has_unsent = transport is not None and transport.get_write_buffer_size() > 0
    return has_unsent or partings.is_parting(connection)


class _State(ServerState):
    """uvicorn's shared state, which tells of changes and makes the date header when it is needed, not ten times a
    second."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._headers_second = 0
        self._total = 0
        self._changed: Callable[[], None] = lambda: None  # not before all is there
        super().__init__()
        self._changed = changed
        self.tasks = _Tasks(changed)

    @property
    def total_requests(self) -> int:
        """Requests that were answered."""
        return self._total

    @total_requests.setter
    def total_requests(self, value: int) -> None:
        self._total = value
        self._changed()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response."""
        second = int(time.time())
        if second != self._headers_second:
            self._headers_second = second
            self._headers = [(b"date", formatdate(second, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, value: list[tuple[bytes, bytes]]) -> None:
        """uvicorn's constructor sets it; it has nothing to say."""


class _Tasks(set[asyncio.Task[None]]):
    """The requests in flight, and who wants to know when one begins or ends."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, task: asyncio.Task[None], /) -> None:
        super().add(task)
        self._changed()

    def discard(self, task: object, /) -> None:
        super().discard(cast("asyncio.Task[None]", task))
        self._changed()


def _config(app: App) -> uvicorn.Config:
    config = uvicorn.Config(
        cast(Any, app),
        interface="asgi3",
        http="auto",
        ws="auto",
        lifespan="auto",
        log_config=None,
        log_level="warning",
        access_log=False,
        # Whoever may connect to the socket, which is closed to other users, is the ingress.
        proxy_headers=True,
        forwarded_allow_ips="*",
        server_header=False,
        timeout_keep_alive=75,
        backlog=BACKLOG,
    )
    config.load()
    return config


def _from_wsgi(app: Callable[..., Any]) -> App:
    import a2wsgi

    bridge = cast(App, a2wsgi.WSGIMiddleware(app, workers=WSGI_THREADS))

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            # The path of a unix socket is no server name; WSGI wants a name and a port.
            scope = {**scope, "server": _server(scope), "client": scope.get("client") or ("127.0.0.1", 0)}
        await bridge(scope, receive, send)

    return asgi


def _server(scope: Any) -> tuple[str, int]:
    host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
    name, _, port = host.partition(":") if not host.startswith("[") else (host, "", "")
    return name, int(port) if port.isdecimal() else 443 if scope.get("scheme") == "https" else 80


def _inherited_listener() -> socket.socket | None:
    """The app's listening socket on fd 5; None when the process was started by hand."""
    try:
        return socket.socket(fileno=control.LISTENER_FD)
    except OSError:
        return None
