"""The command `tako-server`: the daemon, and what others start on this machine to talk with it.

`dial-stdio` joins stdin and stdout to its management socket; `run` has it run a command of an app.
"""

from __future__ import annotations

import argparse
import asyncio
import grp
import json
import os
import resource
import shutil
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from tako.errors import TakoError
from tako.server import caddy

DATA = Path("/var/lib/tako")
RUN = Path("/run/tako")
FILES = 65_536
KEPT = "TAKO_SERVER_KEPT"  # what an execution of ours before this one has kept open


def main() -> int:
    """Run the command; its exit code."""
    parser = _parser()
    args = parser.parse_args()
    if args.command == "dial-stdio":
        return dial_stdio(args.run_dir / "tako.sock")
    if args.command == "run":
        from tako.server import one_off

        return one_off.run_here(args.run_dir / "tako.sock", args.wanted)
    try:
        return _serve(args)
    except TakoError as error:
        print(f"tako-server: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tako-server", description="The daemon that runs apps on a server.")
    parser.add_argument("--version", action="version", version=f"tako-server {version('tako-py')}")
    parser.add_argument("--run-dir", type=Path, default=RUN, help="sockets and marks (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="everything that lasts (default: %(default)s)")
    parser.add_argument(
        "--foreground", action="store_true", help="without systemd; Ctrl-C drains all apps and ends them with us"
    )
    parser.add_argument("--http", type=_address, metavar="HOST:PORT", help="answer for the apps here, without Caddy")
    parser.add_argument("--metrics", type=_address, metavar="HOST:PORT", help="answer GET /metrics here")
    parser.add_argument(
        "--spawner",
        choices=("systemd", "plain"),
        help="scopes of systemd, or nothing but a process (default: by what is there)",
    )
    parser.add_argument("--users", action="store_true", help="run each app as a user of its own, tako-APP (root only)")
    parser.add_argument("--group", help="a group whose members may manage the server, besides root")
    parser.add_argument(
        "--ingress", type=Path, metavar="FILE", help="the settings of the Caddy beside us: hosts get certificates there"
    )
    parser.add_argument("--listener-group", help="a group that may connect to the apps' sockets: the ingress's")
    parser.add_argument("--venv", type=Path, help="one environment for all releases, which has all that they need")
    parser.add_argument("--uv", help="uv, to build environments with (default: the one in PATH; else venv and pip)")
    parser.add_argument("--wheels", type=Path, help="a folder with wheels that environments may be built from")
    parser.add_argument("--memory", type=_bytes, metavar="BYTES", help="limit of each process, such as 512M")
    parser.add_argument(
        "--watch", type=float, default=10.0, metavar="SECONDS", help="how long a new release is watched"
    )
    parser.add_argument("command", nargs="?", choices=("dial-stdio", "run"))
    parser.add_argument("wanted", nargs="?", default="{}", metavar="JSON", help="of run: app, env, argv and by")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _bytes(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number = text[:-1] if text[-1:].upper() in units else text
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 512M")
    return int(number) * units.get(text[-1:].upper(), 1)


def _serve(args: argparse.Namespace) -> int:
    import uvloop

    from tako.server import notify, spawner
    from tako.server.daemon import Options
    from tako.server.environments import Tools
    from tako.server.layout import Layout

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, FILES) if most > 0 else FILES, most))
    kept = {**notify.kept(), **_kept_by_us()}
    options = Options(
        layout=Layout(args.data_dir.absolute(), args.run_dir.absolute()),
        http=args.http,
        metrics=args.metrics,
        systemd=args.spawner == "systemd" if args.spawner else spawner.has_systemd() and not args.foreground,
        users=args.users,
        group=_group(args.group),
        listener_group=_group(args.listener_group),
        ingress=_ingress(args.ingress),
        tools=Tools(
            fixed=args.venv.absolute() if args.venv else None,
            uv=args.uv or shutil.which("uv"),
            wheels=args.wheels.absolute() if args.wheels else None,
        ),
        limits=spawner.Limits(memory_bytes=args.memory),
        watch_s=args.watch,
    )
    return uvloop.run(_Life(options, foreground=args.foreground).run(kept))


def _ingress(path: Path | None) -> caddy.Settings | None:
    try:
        return caddy.settings_of(path) if path is not None else None
    except ValueError as error:
        raise TakoError(f"{error}.", cure="Mend it, then restart: systemctl restart tako-server") from error


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise TakoError(f"There is no group {name}.", cure=f"Make it: groupadd --system {name}") from None


def _kept_by_us() -> dict[str, int]:
    found: dict[str, int] = json.loads(os.environ.pop(KEPT, "{}"))
    for fd in found.values():
        os.set_inheritable(fd, False)
    return found


class _Life:
    """One execution of the daemon, from start to the signal that ends it."""

    def __init__(self, options: object, *, foreground: bool) -> None:
        from tako.server.daemon import Daemon, Options

        assert isinstance(options, Options)
        self._daemon = Daemon(options)
        self._foreground = foreground
        self._stop = asyncio.Event()
        self._drain = foreground

    async def run(self, kept: dict[str, int]) -> int:
        from tako.host import garbage
        from tako.server import notify

        loop = asyncio.get_running_loop()
        # SIGTERM: let go, and leave everything running; in the foreground SIGINT drains and ends all.
        loop.add_signal_handler(signal.SIGTERM, self._end, False)
        loop.add_signal_handler(signal.SIGINT, self._end, self._foreground)
        loop.add_signal_handler(signal.SIGHUP, self._daemon.restart_wanted.set)
        await self._daemon.start(kept)
        garbage.settle()
        where = (
            f" http://{self._daemon.options.http[0]}:{self._daemon.options.http[1]}"
            if self._daemon.options.http
            else ""
        )
        print(f"tako-server {version('tako-py')} is ready at {self._daemon.layout.socket}{where}", flush=True)  # noqa: T201
        notify.notify(f"READY=1\nSTATUS={len(self._daemon.sites)} apps")
        watchdog = loop.create_task(self._tell_we_live(notify.watchdog_s()))
        stopping = loop.create_task(self._stop.wait())
        restarting = loop.create_task(self._daemon.restart_wanted.wait())
        await asyncio.wait({stopping, restarting}, return_when=asyncio.FIRST_COMPLETED)
        is_restart = not self._stop.is_set()
        for task in (watchdog, stopping, restarting):
            task.cancel()
        if is_restart:
            notify.notify("RELOADING=1")
            kept_fds = self._daemon.keep_listeners()
            await self._daemon.detach()
            self._execute(kept_fds)
        notify.notify("STOPPING=1")
        await (self._daemon.stop() if self._drain else self._daemon.detach())
        return 0

    def _end(self, drain: bool) -> None:
        self._drain = drain
        self._stop.set()

    async def _tell_we_live(self, every_s: float | None) -> None:
        from tako.server import notify

        while every_s is not None:
            notify.notify("WATCHDOG=1")
            await asyncio.sleep(every_s)

    def _execute(self, kept: dict[str, int]) -> None:
        """Become the installed version of ourselves: same pid, same children, same listeners."""
        for fd in kept.values():
            os.set_inheritable(fd, True)
        os.environ[KEPT] = json.dumps(kept)
        program = shutil.which(sys.argv[0]) or sys.argv[0]
        os.execv(program, [program, *sys.argv[1:]])


# --- dial-stdio -----------------------------------------------------------------------------------------------------


def dial_stdio(path: Path) -> int:
    """Join stdin and stdout to the management socket, until either ends. A thread for each way: a slow reader of one
    must not stop the other."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except OSError as error:
        print(  # noqa: T201
            f"tako-server does not answer at {path}: {error.strerror}.\n"
            "  See `systemctl status tako-server` and `journalctl -u tako-server`.",
            file=sys.stderr,
        )
        return 1
    up = threading.Thread(target=_pump_up, args=(sock,), daemon=True)
    up.start()
    _pump_down(sock)
    return 0


def _pump_up(sock: socket.socket) -> None:
    with suppress(OSError):
        while data := os.read(0, 65_536):
            sock.sendall(data)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _pump_down(sock: socket.socket) -> None:
    with suppress(OSError):
        while data := sock.recv(65_536):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]


if __name__ == "__main__":
    sys.exit(main())
