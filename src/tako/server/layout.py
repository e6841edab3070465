"""Where everything of a server lies: what lasts under the data folder, sockets and marks under the run folder."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from tako.errors import TakoError
from tako.host.places import Places

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one server."""

    data: Path
    run: Path

    @property
    def database(self) -> Path:
        """The server's own store."""
        return self.data / "state.db"

    @property
    def key(self) -> Path:
        """What secrets are encrypted with at rest."""
        return self.data / "secret.key"

    @property
    def lock(self) -> Path:
        """Held by the daemon that has this data folder."""
        return self.data / "server.lock"

    @property
    def blobs(self) -> Path:
        """Files of releases, by their hash."""
        return self.data / "blobs"

    @property
    def environments(self) -> Path:
        """Virtual environments, by the hash of what is in them."""
        return self.data / "venvs"

    @property
    def socket(self) -> Path:
        """The management socket."""
        return self.run / "tako.sock"

    @property
    def hosts(self) -> Path:
        """What the ingress looks at, by host name."""
        return self.run / "hosts"

    def app(self, app: str, env: str) -> AppLayout:
        """The folders of one app in one environment."""
        return AppLayout(app, env, self.data / "apps" / app / env, self.run / "apps" / app / env)


@dataclass(frozen=True, slots=True)
class AppLayout:
    """The folders of one app in one environment."""

    app: str
    env: str
    data: Path
    run: Path

    @property
    def releases(self) -> Path:
        """One folder for each release; `current` beside it leads to the one that serves."""
        return self.data / "releases"

    @property
    def current(self) -> Path:
        """A link to the release that serves."""
        return self.data / "current"

    def release(self, release: str) -> Path:
        """A release that is complete."""
        return self.releases / release

    def partial(self, release: str) -> Path:
        """A release that is being put together; removed at the next start."""
        return self.releases / f".{release}.partial"

    def source(self, release: str) -> Path:
        """The files of a release: its root, and `sys.path[0]` of its processes."""
        return self.release(release) / "src"

    @property
    def listener(self) -> Path:
        """The app's listening socket."""
        return self.run / "app.sock"

    @property
    def instances(self) -> Path:
        """Control and health sockets of web instances; the app's user may write here, and nowhere else in `run`."""
        return self.run / "inst"

    def places(self, root: Path) -> Places:
        """The places of the app's engine, with this release's files."""
        state = self.data / "data" / "tako"
        return Places(
            root=root,
            state=state,
            sockets=self.run,
            database=state / "runs.db",
            lock=state / "engine.lock",
            engine_json=state / "engine.json",
            secrets=state / "no-secrets-here",
            logs=self.data / "logs",
            spool=self.data / "spool",
            data=self.data / "data" / "app",
            internal_socket=self.run / "internal.sock",
            listener_socket=self.listener,
        )


def require_names(app: str, env: str) -> None:
    """Refuse what could lead out of the folders. Raises TakoError."""
    for what, name in (("app", app), ("environment", env)):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise TakoError(
                f"{str(name)[:60]!r} cannot be the name of an {what}.",
                cure="Use lower-case letters, digits and hyphens, at most 40.",
            )


def require_release(release: str) -> None:
    """Refuse what cannot be a release's id. Raises TakoError."""
    if not isinstance(release, str) or not RELEASE.fullmatch(release):
        raise TakoError(
            f"{str(release)[:80]!r} cannot be the id of a release.",
            cure="Use letters, digits, dots, hyphens and _, at most 64, a letter or digit first.",
        )


def make(layout: Layout) -> None:
    """Make the server's folders. The run folder may be entered by others, who find in it what is theirs.

    Raises:
        TakoError: a folder cannot be made, or belongs to somebody else.
    """
    for folder, mode in ((layout.data, 0o750), (layout.run, 0o755)):
        try:
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            raise TakoError(f"{folder} cannot be made: {error.strerror}.", cure="Start tako-server as root.") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise TakoError(f"{folder} is not a folder of ours.", cure=f"Look at `ls -ld {folder}` and move it away.")
    layout.blobs.mkdir(mode=0o700, exist_ok=True)
    layout.blobs.chmod(0o700)  # the files of all apps
    for folder in (layout.environments, layout.data / "apps"):
        folder.mkdir(mode=0o755, exist_ok=True)
    for folder in (layout.hosts, layout.run / "apps"):
        folder.mkdir(mode=0o755, exist_ok=True)


def make_app(layout: AppLayout, *, uid: int | None) -> None:
    """Make an app's folders: what its processes write belongs to their user, everything else to us."""
    own = -1 if uid is None else uid
    for folder, mode, owner in (
        (layout.data, 0o755, -1),
        (layout.releases, 0o755, -1),
        (layout.data / "logs", 0o700, -1),
        (layout.data / "spool", 0o700, -1),
        (layout.data / "data", 0o755, -1),
        (layout.data / "data" / "tako", 0o700, -1),
        (layout.data / "data" / "app", 0o700, own),
        (layout.run, 0o755, -1),
        (layout.instances, 0o700, own),
    ):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        folder.chmod(mode)
        if owner >= 0:
            os.chown(folder, owner, -1)
