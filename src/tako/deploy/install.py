"""Make a server of a machine, and bring it to another version. The old one stays until the new one has said READY."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tako.deploy import payload, probe, remote
from tako.deploy.channel import Channel
from tako.deploy.probe import Probe
from tako.deploy.ssh import Ssh
from tako.errors import TakoError

STEP_S = 600.0
READY_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that is over: what it did, and how long it took."""

    text: str
    ms: int


class Installer:
    """One server. `tell` gets each step when it is done, `doing` what begins."""

    def __init__(
        self, ssh: Ssh, *, cache: Path, offline: bool, tell: Callable[[Done], None], doing: Callable[[str], None]
    ) -> None:
        self._ssh = ssh
        self._cache = cache
        self._offline = offline
        self._tell = tell
        self._doing = doing
        self.name = ssh.server.name

    def probe(self) -> Probe:
        """What the machine is. Raises what `Ssh.run` raises."""
        return probe.parse(self._run(remote.script(), stdin=probe.SCRIPT.encode()))

    def check(self, found: Probe, *, needs_ports: bool) -> None:
        """Raises TakoError with everything that keeps the machine from being a server."""
        if wrong := list(probe.problems(found, needs_ports=needs_ports)):
            listed = "".join(f"\n  {each}" for each in wrong)
            raise TakoError(f"{self.name} cannot be made a server. Nothing was changed on it:{listed}")

    def install(self, found: Probe, *, settings: str) -> str:
        """Install, or upgrade; the version that runs now.

        Raises:
            TakoError: a step failed. What ran before runs.
        """
        with self._step("Gathering what it needs…", "Gathered uv and tako"):
            platform = payload.Platform(machine=found.machine, libc=found.libc, python=found.python_version)
            load = payload.gather(platform, offline=self._offline, cache=self._cache)
        with self._step("Sending it…", "Sent"):
            self._run(remote.prepare())
            present = [line.split()[0] for line in self._run(remote.present()).splitlines() if line]
            self._run(remote.unpack(), stdin=load.tar(present=present))
            self._run(remote.place_tools())
        with self._step("Building its environment…", "Built its environment"):
            self._run(remote.environment(load.version, python=found.python))
            self._run(remote.install_dependencies(load.version, offline=self._offline))
            self._run(remote.install_ours(load.version, load.wheel))
        self._run(remote.write_settings(), stdin=settings.encode())
        before = self._run(remote.current_version()).strip() or None
        caddy_changed = "changed" in self._run(remote.configure(load.version))
        with self._step("Starting…", "Started"):
            self._switch(load.version, before=before)
        if caddy_changed:
            # The one moment in which connections of visitors are refused: not in a deploy, only here, and told.
            with self._step(
                "Starting Caddy…", "Started Caddy" if before is None else "Restarted Caddy, which was renewed"
            ):
                self._start("tako-caddy.service")
        self._run(remote.tidy(load.version, *([before] if before else [])))
        return load.version

    def _switch(self, version: str, *, before: str | None) -> None:
        self._run(remote.point(version))
        try:
            self._start("tako-server.service")
            self._greet(version)
        except TakoError as error:
            if before is None or before == version:
                raise
            self._run(remote.point(before))
            self._start("tako-server.service")
            raise TakoError(
                f"{version} did not start on {self.name}; {before} runs again. Apps were not touched.\n{error.message}",
                cure=error.cure,
            ) from error

    def _start(self, unit: str) -> None:
        done = self._ssh.run(remote.start(unit), timeout_s=READY_S)
        if done.code:
            words = self._ssh.run(remote.last_words(unit)).out.decode(errors="replace").strip()
            said = "".join(f"\n  {line}" for line in words.splitlines())
            raise TakoError(f"{unit} did not become ready on {self.name}.{said}", cure=f"tako servers logs {self.name}")

    def _greet(self, version: str) -> None:
        with Channel(self._ssh) as channel:
            if channel.hello["version"] != version:
                raise TakoError(f"{self.name} answers as version {channel.hello['version']}, not {version}.")

    def _run(self, argv: list[str], *, stdin: bytes | None = None) -> str:
        done = self._ssh.run(argv, stdin=stdin, timeout_s=STEP_S)
        if done.code:
            lines = done.err.strip().splitlines()[-8:] or [f"exit code {done.code}"]
            listed = "".join(f"\n  {line}" for line in lines)
            raise TakoError(f"A step failed on {self.name}:{listed}", cure="What ran there before still runs.")
        return done.out.decode(errors="replace")

    @contextlib.contextmanager
    def _step(self, doing: str, done: str) -> Iterator[None]:
        self._doing(doing)
        started = time.monotonic()
        yield
        self._tell(Done(text=done, ms=round((time.monotonic() - started) * 1000)))
