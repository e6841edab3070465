"""What goes wrong, by a seed: somebody is killed or frozen every third of a second, and at times something worse."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reliability.chaos import disk, shop
from reliability.daemon import Daemon, processes_in

EVERY_S = 0.35
RESTART_S = 0.2  # what a service manager waits
FREEZE_WORKER_S = (1.0, 40.0)
FREEZE_DAEMON_S = (0.5, 5.0)
FULL_S, FULL_EVERY_S = 2.0, 30.0
BROKEN_S, BROKEN_EVERY_S = 5.0, 40.0


class Nemesis:
    """Acts from `run` until its time is over; then everything is mended and thawed."""

    def __init__(self, daemon: Daemon, *, seed: int, note: Callable[..., None], pause_s: float) -> None:
        self._daemon = daemon
        self._rng = random.Random(seed)
        self._note = note
        self._pause_s = pause_s
        self._app: subprocess.Popen[bytes] | None = None
        self._apps = 0
        self._releases = 0
        self._broken: tuple[str, float] | None = None  # group, and when it is mended
        self._ballast: tuple[Path, float] | None = None
        self._frozen: dict[int, float] = {}
        self._is_over = threading.Event()
        self.counts: Counter[str] = Counter()

    # --- its time ---------------------------------------------------------------------------------------------------

    def run(self, seconds: float, *, kills: int = 0) -> None:
        """Do harm for so long, and on until so many were killed, which a machine that is busy with others takes longer
        for; four times as long at most. The daemon must have been started."""
        self.start_app()
        keeper = threading.Thread(target=self._keep_daemon)
        keeper.start()
        began = time.monotonic()
        full_at, broken_at = began + FULL_EVERY_S / 3, began + BROKEN_EVERY_S / 2
        strike_at = began
        while (now := time.monotonic()) < began + seconds or (self.kills < kills and now < began + 4 * seconds):
            strike_at = max(strike_at + EVERY_S * self._rng.uniform(0.5, 1.5), now - 3 * EVERY_S)
            self._heal(now)
            if now >= full_at:
                full_at += FULL_EVERY_S
                self._ballast = disk.fill(self._daemon.folder), now + FULL_S
                self.counts["disk full"] += 1
            elif now >= broken_at and now < began + seconds - BROKEN_S:
                broken_at += BROKEN_EVERY_S
                self._break_code(now)
            else:
                self._strike()
            time.sleep(max(0.0, strike_at - time.monotonic()))
        self._heal(float("inf"))
        self.kill_app()
        self._is_over.set()
        keeper.join()

    @property
    def kills(self) -> int:
        """Processes that were killed."""
        return sum(self.counts[what] for what in ("worker", "daemon", "app"))

    def _strike(self) -> None:
        x = self._rng.random()
        if x < 0.50:
            self._kill_worker()
        elif x < 0.70:
            self._kill_daemon()
        elif x < 0.80:
            self.kill_app()
            self.start_app()
        elif x < 0.90:
            self._freeze()
        elif x < 0.95:
            self._kill_tree()
        else:
            self._deploy()

    # --- processes --------------------------------------------------------------------------------------------------

    def _kill_worker(self) -> None:
        if workers := self._daemon.workers():
            self._kill(self._rng.choice(workers), "worker")

    def _kill_daemon(self) -> None:
        process = self._daemon.process
        if process is not None and process.poll() is None:
            self._kill(process.pid, "daemon")

    def _kill_tree(self) -> None:
        self.counts["whole tree"] += 1
        self._kill_daemon()
        for worker in self._daemon.workers():
            self._kill(worker, "worker")
        self.kill_app()
        self.start_app()

    def _kill(self, pid: int, what: str) -> None:
        with suppress(ProcessLookupError):
            self._note("killed", pid, what)  # before, so that the books know of a death whoever sees it first
            os.kill(pid, signal.SIGKILL)
            self.counts[what] += 1

    def start_app(self) -> None:
        """Start the process that enqueues, under a name of its own."""
        self._apps += 1
        self._app = subprocess.Popen(
            [sys.executable, "app.py", f"app{self._apps}", str(self._pause_s)], cwd=self._daemon.folder,
            env={**os.environ, **self._daemon.app_environment()}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill_app(self) -> None:
        """End it in the middle of whatever it does."""
        if self._app is not None and self._app.poll() is None:
            self._kill(self._app.pid, "app")
            self._app.wait()

    def _freeze(self) -> None:
        if self._rng.random() < 0.2:
            process = self._daemon.process
            pids, seconds, what = [process.pid] if process is not None else [], FREEZE_DAEMON_S, "daemon frozen"
        else:
            pids, seconds, what = self._daemon.workers(), FREEZE_WORKER_S, "worker frozen"
        if pids:
            pid = self._rng.choice(pids)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self._frozen[pid] = time.monotonic() + self._rng.uniform(*seconds)
                self.counts[what] += 1

    # --- code and disk ----------------------------------------------------------------------------------------------

    def _deploy(self) -> None:
        self._save(self._rng.choice(shop.GROUPS))
        self.counts["code changed"] += 1

    def _break_code(self, now: float) -> None:
        if self._broken is None:
            group = self._rng.choice(shop.GROUPS)
            self._broken = group, now + BROKEN_S
            self._save(group)
            self.counts["code broken"] += 1

    def _save(self, group: str) -> None:
        self._releases += 1
        is_broken = self._broken is not None and self._broken[0] == group
        text = (shop.broken if is_broken else shop.flows)(group, release=self._releases)
        with suppress(OSError):  # the disk is full: the developer will save it again
            self._daemon.write({f"workflows/{group}.py": text})

    def _heal(self, now: float) -> None:
        if self._ballast is not None and now >= self._ballast[1]:
            self._ballast[0].unlink()
            self._ballast = None
        if self._broken is not None and now >= self._broken[1] and self._ballast is None:
            group, self._broken = self._broken[0], None
            self._save(group)
        for pid in [pid for pid, until in self._frozen.items() if now >= until]:
            del self._frozen[pid]
            if pid in (*processes_in(self._daemon.folder),):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    # --- the service manager ----------------------------------------------------------------------------------------

    def _keep_daemon(self) -> None:
        while not self._is_over.is_set():
            process = self._daemon.process
            assert process is not None
            try:
                code = process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            if code != -signal.SIGKILL:
                self.counts[f"daemon ended with {code}"] += 1
            time.sleep(RESTART_S)
            self._daemon.start(wait=False)
