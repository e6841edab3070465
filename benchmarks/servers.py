"""The servers that other systems need, each with an empty store, on sockets and ports that nobody else uses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from benchmarks import processes

POSTGRES_BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("/usr/bin"))


class Server:
    """Something that runs beside the system under test. `environment` tells the system where it is."""

    environment: dict[str, str]

    def stop(self) -> None:
        """End it."""
        raise NotImplementedError


class Postgres(Server):
    """PostgreSQL with fsync and synchronous_commit on, and room for its work: as a careful operator would run it."""

    SETTINGS = ("max_connections=200", "shared_buffers=512MB", "max_wal_size=4GB", "fsync=on", "synchronous_commit=on")

    def __init__(self, folder: Path) -> None:
        # Its superuser may not be root, and it must be able to enter its folder.
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        folder.mkdir()
        for path in (folder, folder.parent):
            path.chmod(0o755)
        data = folder / "data"
        if self._user:
            shutil.chown(folder, "postgres", "postgres")
            if subprocess.run([*self._user, "test", "-w", folder], check=False).returncode != 0:
                raise RuntimeError(f"the user postgres cannot enter {folder}: set TMPDIR=/var/tmp and try again.")
        subprocess.run(
            [*self._user, POSTGRES_BIN / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-locale",
             "--encoding=UTF8"],
            check=True, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        settings = [word for setting in (*self.SETTINGS, "listen_addresses=") for word in ("-c", setting)]
        log = folder.parent / "postgres.log"
        self._process = processes.start(
            [*self._user, POSTGRES_BIN / "postgres", "-D", data, "-k", folder, *settings], log=log, cwd=Path("/")
        )
        processes.wait_until(folder / ".s.PGSQL.5432", self._process, log=log)
        self._pid_file = data / "postmaster.pid"
        self.environment = {"BENCH_POSTGRES": str(folder)}

    def stop(self) -> None:
        """Fast shutdown."""
        try:
            os.kill(int(self._pid_file.read_text().splitlines()[0]), signal.SIGINT)
            self._process.wait(20)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            pass
        processes.end(self._process)


class Redis(Server):
    """Redis as queues usually have it: in memory only. With `synced`, each write is synced before it is answered."""

    def __init__(self, folder: Path, *, synced: bool = False) -> None:
        folder.mkdir()
        saves = ["--appendonly", "yes", "--appendfsync", "always"] if synced else ["--appendonly", "no"]
        path, log = folder / "redis.sock", folder / "redis.log"
        self._process = processes.start(
            ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", *saves], log=log
        )
        processes.wait_until(path, self._process, log=log)
        self.environment = {"BENCH_REDIS": str(path)}

    def stop(self) -> None:
        """End it."""
        processes.end(self._process)


class Floor(Server):
    """The bare server of `systems/floor_sqlite.py`."""

    def __init__(self, folder: Path, *, python: Path, file: Path) -> None:
        folder.mkdir()
        path, log = folder / "floor.sock", folder / "floor.log"
        self._process = processes.start([python, file, "serve", path], log=log, cwd=file.parent)
        processes.wait_until(path, self._process, log=log)
        self.environment = {"BENCH_FLOOR": str(path)}

    def stop(self) -> None:
        """End it."""
        processes.end(self._process)


class Restate(Server):
    """restate-server, from its npm package, with its settings as they ship; it retries an absent worker each 100 ms."""

    def __init__(self, folder: Path, *, binary: Path) -> None:
        folder.mkdir()
        ingress, admin, node, service = free_ports(4)
        log = folder / "restate.log"
        environment = {
            **os.environ,
            "RESTATE_BASE_DIR": str(folder / "data"),
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "50ms",
            "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL": "100ms",
            "DO_NOT_TRACK": "1",
            "RUST_LOG": "warn",
        }
        self._process = processes.start([binary], log=log, cwd=folder, environment=environment)
        _wait_for_http(f"http://127.0.0.1:{admin}/health", self._process, log=log)
        version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.split()
        self.environment = {
            "BENCH_RESTATE_INGRESS": str(ingress),
            "BENCH_RESTATE_ADMIN": str(admin),
            "BENCH_RESTATE_SERVICE": str(service),
            "BENCH_RESTATE_VERSION": version[1] if len(version) > 1 else "",
        }

    def stop(self) -> None:
        """End it."""
        processes.end(self._process)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for_http(url: str, process: subprocess.Popen[bytes], *, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{url} does not answer:\n{processes.last_lines(log)}") from None
            time.sleep(0.1)
