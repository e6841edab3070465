"""What the processes of one release are started with: environment, arguments, envelope. One code for all of them.

Workers, web instances and commands, in development and on a server, of the release that serves and of one that is only
being tried: each is a `Launch` and a request made from it. What differs between two machines differs here or nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tako.config.model import Config
from tako.discovery import webapp
from tako.host.places import Places
from tako.protocol import control, env, envelope
from tako.supervisor.spawn import SpawnRequest

# What `python -m tako.worker` does, without the 4 ms of finding out what that means.
WORKER = "from tako.worker.__main__ import serve; serve()"


def _as_it_is(request: SpawnRequest, name: str) -> SpawnRequest:
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One release of an app in one environment, as its processes see it.

    `secrets` is asked at each start. `wrap` may put a process into a scope and under a user of its own: it gets the
    request and the process's name. `urls` is where this app and its neighbours answer, by name.
    """

    config: Config
    environment: str
    release: str
    places: Places
    secrets: Callable[[], dict[str, str]]
    variables: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    wrap: Callable[[SpawnRequest, str], SpawnRequest] = _as_it_is

    @property
    def python(self) -> str:
        """The interpreter as it is started and shown: relative to the app's root if it lies in it."""
        path = Path(self.config.python)
        if not path.is_relative_to(self.config.root):
            return str(path)
        inside = str(path.relative_to(self.config.root))
        return inside if "/" in inside else f"./{inside}"  # without a slash it would be looked for in PATH

    def environ(
        self, *, worker: Mapping[str, str] | None = None, web: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The environment of every process of this release."""
        urls = {env.url_variable(name): url for name, url in self.urls.items() if url}
        return env.build(
            inherited=os.environ,
            variables={**self.variables, **urls},
            app=self.config.name,
            socket=str(self.places.internal_socket),
            environment=self.environment,
            release=self.release,
            data_dir=str(self.places.data),
            worker=worker,
            web=web,
        )

    def worker(self, group: str, *, worker_id: str, solo: bool, token: str, files: list[str]) -> SpawnRequest:
        """What to start for a worker of this group, which imports `files`."""
        settings = self.config.group(group)
        own = {
            env.GROUP: group,
            env.CONCURRENCY: "1" if solo else str(settings.concurrency),
            env.IDLE_TIMEOUT_MS: str(round(settings.idle_timeout_s * 1000)),
            env.BOOT_TIMEOUT_MS: str(round(settings.boot_timeout_s * 1000)),
            env.DRAIN_TIMEOUT_MS: str(round(settings.drain_timeout_s * 1000)),
        }
        request = SpawnRequest(
            argv=[self.python, "-c", WORKER],
            env=self.environ(worker=own),
            cwd=self.config.root,
            envelope=envelope.build(token=token, secrets=self.secrets(), worker_id=worker_id, files=files),
            spool=self.places.spool / f"{worker_id}.spool",
            memory_bytes=settings.memory_bytes,
        )
        return self.wrap(request, worker_id)

    def command(
        self, argv: Sequence[str], *, name: str, token: str, fds: Mapping[int, int] | None = None
    ) -> SpawnRequest:
        """What to start for a command of the app. `fds` may give it a stdin, stdout and stderr of its own."""
        request = SpawnRequest(
            argv=argv,
            env=self.environ(),
            cwd=self.config.root,
            envelope=envelope.build(token=token, secrets=self.secrets()),
            spool=self.places.spool / f"{name}.spool",
            fds=fds or {},
        )
        return self.wrap(request, name)

    def web(
        self,
        app: webapp.WebApp | None,
        *,
        instance_id: str,
        web: Mapping[str, str],
        token: str,
        access_log: bool = True,
        orphan_timeout_ms: int = 0,
    ) -> SpawnRequest:
        """What to start for an instance of the app (None: of the `command` in `tako.toml`)."""
        settings = self.config.web
        arguments = control.Arguments(
            main="" if settings.command or app is None else app.target,
            command=settings.command or (),
            listen=settings.listen,
            access_log=access_log,
            start_timeout_ms=round(settings.start_timeout_s * 1000),
            drain_timeout_ms=round(settings.drain_timeout_s * 1000),
            orphan_timeout_ms=orphan_timeout_ms,
        )
        request = SpawnRequest(
            argv=control.argv(self.python, arguments),
            env=self.environ(web=web),
            cwd=self.config.root,
            envelope=envelope.build(token=token, secrets=self.secrets()),
            spool=self.places.spool / f"{instance_id}.spool",
            memory_bytes=settings.memory_bytes,
        )
        return self.wrap(request, instance_id)
