"""What is compared, each as its own documentation says for work that must not be lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path

from reliability.daemon import processes_in, until
from reliability.peers.managed import Caller, Managed
from reliability.peers.services import Postgres, RabbitMQ, Redis, Service, free_port
from tako.errors import TakoError
from tako.protocol import env
from tako.rpc.client import Client

APPS = Path(__file__).with_name("apps")
BROKEN = "raise ModuleNotFoundError(\"No module named 'invoices'\")\n"


class Stack:
    """One of them, in a folder of its own. `data` is what must survive: it may lie on a disk of its own."""

    name = ""
    settings = ""
    packages: tuple[str, ...] = ()
    app = ""
    services: tuple[type[Service], ...] = ()
    schedules = True

    def __init__(self, folder: Path, *, python: Path, data: Path | None = None) -> None:
        self.folder, self.python = folder, python
        self.data = data or folder / "data"
        self.root = folder / "app"
        self.ledger = folder / "ledger"
        self.running = [service(self.data / service.name, port=free_port()) for service in self.services]
        self.workers: list[Managed] = []
        self.schedulers: list[Managed] = []
        self.caller = Caller(
            [str(python), "-u", "client.py"], folder=self.root, environ=self.client_environ, log=folder / "client.log"
        )

    # --- life -------------------------------------------------------------------------------------------------------

    def up(self, *, scheduled: bool = False) -> None:
        """Start everything."""
        self.write_app()
        for service in self.running:
            service.start()
        self.workers = [self.managed(argv, "worker") for argv in self.worker_commands()]
        self.schedulers = [self.managed(argv, "scheduler") for argv in self.scheduler_commands()] if scheduled else []
        for each in (*self.workers, *self.schedulers):
            each.start()

    def down(self) -> None:
        """End everything."""
        self.caller.close()
        for each in (*self.schedulers, *self.workers):
            each.stop()
        for service in self.running:
            service.close()

    def write_app(self) -> None:
        """The app's files."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        for name in ("bodies.py", "breaks.py", "client.py"):
            shutil.copy(APPS / name, self.root / name)
        shutil.copy(APPS / self.app, self.root / "app.py")

    def client_environ(self) -> dict[str, str]:
        """Of callers."""
        return self.environ("client")

    def environ(self, role: str) -> dict[str, str]:
        """Of workers and callers."""
        found = {name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "XDG_", "PYTHON"))}
        found |= {
            "PEERS_ROLE": role, "PEERS_LEDGER": str(self.ledger), "PEERS_DATA": str(self.data),
            "PYTHONPATH": str(self.root), "PATH": f"{self.python.parent}:{os.environ['PATH']}",
        }  # fmt: skip
        for service in self.running:
            found[f"PEERS_{service.name.upper()}"] = service.url
        if self.running:
            found["PEERS_BROKER"] = self.running[0].url
        return found

    def managed(self, argv: list[str], role: str) -> Managed:
        """A process under the service manager."""
        environ = self.environ("worker") | ({"PEERS_SCHEDULE": "1"} if role == "scheduler" else {})
        program = str(self.python.parent / argv[0])
        return Managed([program, *argv[1:]], folder=self.root, environ=environ, log=self.folder / f"{role}.log")

    def worker_commands(self) -> list[list[str]]:
        """What runs tasks."""
        raise NotImplementedError

    def scheduler_commands(self) -> list[list[str]]:
        """What fires schedules, if workers do not."""
        return []

    # --- what faults do ---------------------------------------------------------------------------------------------

    def kill_workers(self) -> None:
        """SIGKILL to all that runs tasks, whatever groups of processes it makes; it is started again."""
        for pid in processes_in(self.root):
            if pid != self.caller.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def break_code(self) -> None:
        """A release that workers cannot import."""
        (self.root / "breaks.py").write_text(BROKEN)
        self.kill_workers()

    def mend_code(self) -> None:
        """The next release."""
        shutil.copy(APPS / "breaks.py", self.root / "breaks.py")
        self.kill_workers()

    def has_broker(self) -> bool:
        """Whether there is one to kill."""
        return bool(self.running)

    def kill_broker(self) -> None:
        """SIGKILL."""
        self.running[0].kill()

    def start_broker(self) -> None:
        """As its service manager does."""
        self.running[0].start()

    def freeze_broker(self) -> None:
        """It is there, and says nothing."""
        self.running[0].signal(signal.SIGSTOP)

    def thaw_broker(self) -> None:
        """It goes on."""
        self.running[0].signal(signal.SIGCONT)

    def revive(self) -> None:
        """What ended for want of space is started again."""
        for service in self.running:
            if service.process is not None and service.process.poll() is not None:
                service.start()

    @classmethod
    def versions(cls, python: Path) -> str:
        """Of what is compared."""
        words = "import importlib.metadata as m, sys; print(' '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
        asked = subprocess.run(
            [str(python), "-c", words, *cls.packages], capture_output=True, text=True, check=True
        )  # fmt: skip
        return asked.stdout.strip()


class _Celery(Stack):
    app = "celery_app.py"
    packages = ("celery", "kombu")

    def worker_commands(self) -> list[list[str]]:
        return [["celery", "-A", "app", "worker", "--concurrency=2", "--loglevel=INFO"]]

    def scheduler_commands(self) -> list[list[str]]:
        return [["celery", "-A", "app", "beat", f"--schedule={self.data}/beat"]]


class CeleryRabbitMQ(_Celery):
    name = "Celery, RabbitMQ"
    settings = "`task_acks_late`, `task_reject_on_worker_lost`, quorum queues, publisher confirms, results in Redis"
    services = (RabbitMQ, Redis)


class CeleryRedis(_Celery):
    name = "Celery, Redis"
    settings = "`task_acks_late`, `task_reject_on_worker_lost`, `appendfsync always`"
    services = (Redis,)


class RQ(Stack):
    name = "RQ"
    settings = "`Retry(max=3)`, `--with-scheduler`, `appendfsync always`"
    packages = ("rq", "redis")
    app = "rq_app.py"
    services = (Redis,)

    def write_app(self) -> None:
        super().write_app()
        shutil.copy(APPS / "rq_cron.py", self.root / "cron.py")

    def worker_commands(self) -> list[list[str]]:
        return [["rq", "worker", "--with-scheduler", "--url", self.running[0].url, "default"] for _ in range(2)]

    def scheduler_commands(self) -> list[list[str]]:
        return [["rq", "cron", "--url", self.running[0].url, "cron.py"]]


class Huey(Stack):
    name = "Huey"
    settings = "`SqliteHuey(fsync=True)`, worker processes, `retries=3`"
    packages = ("huey",)
    app = "huey_app.py"

    def worker_commands(self) -> list[list[str]]:
        return [["huey_consumer", "app.huey", "-k", "process", "-w", "2"]]


class Dramatiq(Stack):
    name = "Dramatiq"
    settings = "RabbitMQ, `confirm_delivery=True`, `max_retries=3`, results in Redis"
    packages = ("dramatiq", "pika")
    app = "dramatiq_app.py"
    schedules = False
    services = (RabbitMQ, Redis)

    def worker_commands(self) -> list[list[str]]:
        return [["dramatiq", "app", "--processes", "2", "--threads", "2"]]


class DBOS(Stack):
    name = "DBOS"
    settings = "Postgres (synced commits), a queue, steps, one executor id; `automatic_backfill=True` for the schedule"
    packages = ("dbos", "psycopg")
    app = "dbos_app.py"
    services = (Postgres,)

    def worker_commands(self) -> list[list[str]]:
        return [["python", "app.py"]]

    def up(self, *, scheduled: bool = False) -> None:
        self._is_scheduled = scheduled
        super().up(scheduled=scheduled)

    def environ(self, role: str) -> dict[str, str]:
        return super().environ(role) | ({"PEERS_SCHEDULE": "1"} if getattr(self, "_is_scheduled", False) else {})


class Tako(Stack):
    """Its daemon is broker, scheduler and supervisor of workers; the app folder holds its store."""

    name = "Tako"
    settings = "as it comes"
    packages = ("tako-py",)
    app = "tako_app.py"

    def __init__(self, folder: Path, *, python: Path, data: Path | None = None) -> None:
        self._runtime = Path(tempfile.mkdtemp(prefix="tako-peers-", dir="/tmp"))
        super().__init__(folder, python=Path(sys.executable), data=data)
        self.root = self.data / "app"
        argv = [sys.executable, "-u", "client.py"]
        self.caller = Caller(argv, folder=self.root, environ=self.client_environ, log=folder / "client.log")

    def write_app(self) -> None:
        super().write_app()
        (self.root / "workflows").mkdir(exist_ok=True)
        (self.root / "workflows/__init__.py").touch()
        shutil.copy(APPS / "tako_flows.py", self.root / "workflows/flows.py")
        # Its workers do not inherit what the daemon was started with.
        (self.root / ".env").write_text(f"PEERS_LEDGER={self.ledger}\n")
        (self.root / "tako.toml").write_text('name = "shop"\n\n[workflows]\nconcurrency = 2\n')

    def environ(self, role: str) -> dict[str, str]:
        return super().environ(role) | {"XDG_RUNTIME_DIR": str(self._runtime)}

    def worker_commands(self) -> list[list[str]]:
        return [["python", "-m", "tako", "dev", "--no-web", "--plain"]]

    def up(self, *, scheduled: bool = False) -> None:
        super().up(scheduled=scheduled)
        until(self.place, what="the daemon answers", timeout_s=60)

    def down(self) -> None:
        super().down()
        self.kill_workers()
        shutil.rmtree(self._runtime, ignore_errors=True)

    def place(self) -> dict[str, str] | None:
        """Where the app finds it; None until it answers."""
        try:
            found = json.loads((self.root / ".tako/engine.json").read_text())
            with closing(Client(found["socket"], found["app"])) as client:
                client.call("health", {}, deadline_s=2)
        except (OSError, ValueError, TakoError):
            return None
        return {env.APP_NAME: found["app"], env.INTERNAL_SOCKET: found["socket"]}

    def client_environ(self) -> dict[str, str]:
        return super().client_environ() | (self.place() or {})

    def break_code(self) -> None:
        (self.root / "breaks.py").write_text(BROKEN)

    def mend_code(self) -> None:
        shutil.copy(APPS / "breaks.py", self.root / "breaks.py")

    def has_broker(self) -> bool:
        return True

    def kill_broker(self) -> None:
        for worker in self.workers:
            worker.kill()

    def start_broker(self) -> None:
        until(self.place, what="the daemon answers", timeout_s=60)

    def freeze_broker(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw_broker(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for worker in self.workers:
            if worker.process is not None:
                worker.process.send_signal(number)

    @classmethod
    def versions(cls, python: Path) -> str:
        return f"tako {metadata.version('tako-py')}"


STACKS: tuple[type[Stack], ...] = (Tako, CeleryRabbitMQ, CeleryRedis, RQ, Huey, Dramatiq, DBOS)
