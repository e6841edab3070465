"""Where a browser finds an app of `tako dev`: a plain port of its own, and its name at the port that all share."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tako.errors import TakoError
from tako.ingress import hosts, pages, ports, routes
from tako.ingress.pages import Page
from tako.ingress.relay import Relay, Target

SHARED_PORT = 7777
FOLDER = "dev"  # in Tako's folder of sockets: one entry for each app that runs
# Nothing tells when a port is free again, and who holds it may be any program: so it is tried, slowly. The flock of
# another `tako dev` would tell, but not of a web server that was in the way and is gone.
RETRY_S = 1.0


class Addresses:
    """The ports of one app. `notes` are sentences about what does not answer, and why; `close` gives all back."""

    def __init__(self, app: str, *, port: int, shared_port: int) -> None:
        self.app = app
        self.port = port
        self.notes: list[str] = []
        self.route: routes.Route | None = None
        self._shared_port = shared_port
        self._closing: list[Relay] = []
        self._taking_over: asyncio.Task[None] | None = None

    def urls(self) -> tuple[str, ...]:
        """Where a browser finds the app; the plain one last."""
        plain = f"http://localhost:{self.port}"
        return (f"http://{self.app}.{hosts.SUFFIX}:{self._shared_port}", plain) if self.route else (plain,)

    async def close(self) -> None:
        """Withdraw the name and free the ports; another `tako dev` takes the shared one over. Twice does no harm."""
        if self.route is not None:
            self.route.withdraw()
        task, self._taking_over = self._taking_over, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while self._closing:
            await self._closing.pop().close()

    async def serve_plain(self, listener: Path, *, port: int | None) -> None:
        """Answer at a port of the app's own. Raises what `open_addresses` raises."""
        sockets = ports.listen_on_free() if port is None else ports.listen(port)
        self.port = sockets[0].getsockname()[1]
        relay = Relay(OneApp(self.app, listener, port=self.port))
        self._closing.append(relay)
        await relay.serve(sockets)

    async def serve_shared(self, folder: Path) -> None:
        """Answer for all apps of the machine, now or as soon as who does so ends."""
        if not await self._try_shared(folder):
            self._note_holder(folder)
            self._taking_over = asyncio.get_running_loop().create_task(self._take_over(folder))

    async def _take_over(self, folder: Path) -> None:
        while not await self._try_shared(folder):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_S)

    async def _try_shared(self, folder: Path) -> bool:
        try:
            sockets = ports.listen(self._shared_port)
        except TakoError:
            return False
        relay = Relay(AllApps(folder, port=self._shared_port))
        self._closing.append(relay)
        await relay.serve(sockets)
        return True

    def _note_holder(self, folder: Path) -> None:
        holder = ports.holder_of(self._shared_port)
        if holder is None or holder.pid in {app.pid for app in routes.running(folder)}:
            return  # another `tako dev`, which answers for us too
        self.notes.append(
            f"Port {self._shared_port} is taken by {holder}, so {self.urls()[0]} does not answer until it is free."
        )


async def open_addresses(
    app: str, *, listener: Path, runtime: Path, root: Path, port: int | None = None, shared_port: int = SHARED_PORT
) -> Addresses:
    """Open `http://localhost:PORT` and `http://APP.localhost:7777`, both leading to the socket `listener`.

    `runtime` is Tako's folder of sockets; `port` None is the next free one from 8000. When the name belongs to another
    folder's app, the plain port is all there is, and `notes` says so.

    Raises:
        PortTaken: somebody listens on `port`; says who.
        TakoError: `port` may not be used.
    """
    folder = runtime / FOLDER
    found = Addresses(app, port=0, shared_port=shared_port)
    await found.serve_plain(listener, port=port)
    try:
        found.route = routes.publish(folder, app, socket=listener, root=root, port=found.port)
    except routes.NameTaken as error:
        found.notes.append(f"{error.message} This one answers at {found.urls()[-1]} only. {error.cure}")
    except OSError as error:
        found.notes.append(f"The folder {folder} cannot be used: {error.strerror}. No app is found by its name.")
        return found
    await found.serve_shared(folder)
    return found


class AllApps:
    """Routes by the folder of sockets."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self._folder = folder
        self._port = port

    def route(self, name: str | None, host: str) -> Target | Page:
        """The app that the name, or the nearest name above it, belongs to."""
        if name is None or (name not in hosts.LOOPBACK and not hosts.candidates(name)):
            return pages.foreign(host)
        for candidate in hosts.candidates(name):
            if (socket := routes.find(self._folder, candidate)) is not None:
                return Target(candidate, socket)
        apps = routes.running(self._folder)
        if name in hosts.LOOPBACK:
            return pages.index(apps, port=self._port)
        return pages.unknown(name.removesuffix(f".{hosts.SUFFIX}"), apps, port=self._port)


class OneApp:
    """Routes everything to one app, but only under names that nobody else can have."""

    def __init__(self, app: str, socket: Path, *, port: int) -> None:
        self._app = app
        self._target = Target(app, socket)
        self._port = port

    def route(self, name: str | None, host: str) -> Target | Page:
        """The app, if the name is loopback's or its own."""
        if name is not None and hosts.is_of(name, self._app):
            return self._target
        return pages.foreign(host)
