"""Brokers and databases as real processes, each with its data in a folder of ours: started, killed, stopped, filled."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reliability.daemon import processes_in, until

START_S = 90.0
POSTGRES = Path("/usr/lib/postgresql")


class Service:
    """One broker or database. Subclasses say what to run, and as whom."""

    name = ""
    user = ""

    def __init__(self, data: Path, *, port: int) -> None:
        self.data, self.port = data, port
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data.parent / f"{self.name}.log"

    @property
    def url(self) -> str:
        """Where clients find it."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """What to run."""
        raise NotImplementedError

    def environ(self) -> Mapping[str, str]:
        """With which variables."""
        return {}

    def prepare(self) -> None:
        """Make its data, once."""

    def answers(self) -> bool:
        """Whether it serves."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def start(self) -> None:
        """Start it, and return when it serves."""
        if not self.data.exists() or not any(self.data.iterdir()):
            self.data.mkdir(parents=True, exist_ok=True)
            self._give(self.data)
            self.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.as_user(self.command()), cwd="/", env={**os.environ, **self.environ()}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(self.answers, what=f"{self.name} answers", timeout_s=START_S, every_s=0.1)

    def signal(self, number: int) -> None:
        """To all of its processes."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        """End it, and what it has started beside itself."""
        self.kill()

    def as_user(self, argv: Sequence[str]) -> list[str]:
        """The command as its user runs it, if we are root."""
        if not self.user or os.geteuid():
            return list(argv)
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *argv]

    def _give(self, folder: Path) -> None:
        if self.user and not os.geteuid():
            who = pwd.getpwnam(self.user)
            os.chown(folder, who.pw_uid, who.pw_gid)


class Redis(Service):
    """Each write in the append-only file, and synced, before it is acknowledged."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        return [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        ]  # fmt: skip

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as to:
            to.sendall(b"PING\r\n")
            return to.recv(7).startswith(b"+PONG")
        return False


class RabbitMQ(Service):
    """One node, and the name server of Erlang on a port of its own."""

    name = "rabbitmq"
    user = "rabbitmq"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def command(self) -> Sequence[str]:
        (found,) = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")
        return [str(found)]

    def environ(self) -> Mapping[str, str]:
        data = self.data
        return {
            "HOME": str(data), "RABBITMQ_NODENAME": f"peers{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.port + 20_000), "ERL_EPMD_PORT": str(self.port + 10_000),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"), "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_LOGS": "-", "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "plugins"),
            "RABBITMQ_PID_FILE": str(data / "pid"), "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }  # fmt: skip

    def close(self) -> None:
        super().close()
        environ = {**os.environ, **self.environ()}
        subprocess.run(["epmd", "-kill"], env=environ, capture_output=True, check=False)

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as to:
            to.settimeout(2)
            to.sendall(b"AMQP\x00\x00\x09\x01")
            return len(to.recv(8)) > 0
        return False


class Postgres(Service):
    """As `initdb` makes it: synced commits."""

    name = "postgres"
    user = "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/app"

    @property
    def _programs(self) -> Path:
        return max(POSTGRES.iterdir(), key=lambda path: int(path.name)) / "bin"

    def prepare(self) -> None:
        subprocess.run(self.as_user([str(self._programs / "initdb"), "-D", str(self.data), "-A", "trust"]),
                       cwd="/", check=True, capture_output=True)  # fmt: skip

    def command(self) -> Sequence[str]:
        return [
            str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", "",
            "-c", "listen_addresses=127.0.0.1", "-c", "max_wal_size=64MB", "-c", "min_wal_size=32MB",
        ]  # fmt: skip

    def signal(self, number: int) -> None:
        # Each of its processes is the leader of a group.
        for pid in processes_in(self.data):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def answers(self) -> bool:
        return self._client("psql", "-tAc", "SELECT 1").strip() == "1"

    def start(self) -> None:
        super().start()
        self._client("createdb", "app")

    def _client(self, program: str, *words: str) -> str:
        argv = [str(self._programs / program), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def free_port() -> int:
    """A port that nobody has, with room for those that are counted from it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return 10_000 + int(one.getsockname()[1]) % 20_000


def missing() -> list[str]:
    """The Debian packages that are not there."""
    found = []
    if shutil.which("redis-server") is None:
        found.append("redis-server")
    if not list(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")):
        found.append("rabbitmq-server")
    if not POSTGRES.is_dir():
        found.append("postgresql")
    return found
