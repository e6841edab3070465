"""How processes of apps are put into the world: under a user of their own, in a scope with limits."""

from __future__ import annotations

import dataclasses
import hashlib
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tako.errors import TakoError
from tako.server import notify
from tako.supervisor.spawn import SpawnRequest

INSTANCE = "TAKO_INSTANCE"  # by which a later daemon finds processes that nobody has written down
SLICE = "tako-apps.slice"
MAX_USER = 31


@dataclass(frozen=True, slots=True)
class User:
    """Whom processes of an app run as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of each process with all that it starts; None is none."""

    memory_bytes: int | None = None
    tasks: int | None = 1024


class Spawner:
    """`systemd`: each process in a scope of its own. `users`: each app under a user of its own (root only)."""

    def __init__(self, *, systemd: bool, users: bool, limits: Limits | None = None) -> None:
        self.has_scopes = systemd
        self.has_users = users
        self._limits = limits or Limits()

    def user_of(self, app: str) -> User | None:
        """The app's user, made when there is none yet; None when all run as we do.

        Raises:
            TakoError: it cannot be made.
        """
        if not self.has_users:
            return None
        name = f"tako-{app}"
        if len(name) > MAX_USER:
            name = f"{name[: MAX_USER - 7]}-{hashlib.sha256(app.encode()).hexdigest()[:6]}"
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            _add_user(name, outside=self.has_scopes)
            found = pwd.getpwnam(name)
        return User(name, found.pw_uid, found.pw_gid)

    def wrap(self, request: SpawnRequest, name: str, *, app: str, env: str) -> SpawnRequest:
        """The same process, marked, in its scope and under its user."""
        environ = {**request.env, INSTANCE: name}
        user = self.user_of(app)
        if user is not None:
            environ |= {"USER": user.name, "LOGNAME": user.name}
        argv = list(request.argv)
        if "/" in argv[0] and not argv[0].startswith("/"):
            argv[0] = str(request.cwd / argv[0])
        prefix = _plain(user)
        if self.has_scopes:
            limit = min((each for each in (request.memory_bytes, self._limits.memory_bytes) if each), default=None)
            prefix = [*self._scope(name, app=app, env=env, memory_bytes=limit), *_ordinary(), *prefix]
        return dataclasses.replace(request, argv=[*prefix, *argv], env=environ)

    def _scope(self, name: str, *, app: str, env: str, memory_bytes: int | None) -> list[str]:
        line = ["/usr/bin/systemd-run", "--scope", "--quiet", "--collect", f"--slice={SLICE}"]
        line.append(f"--unit={self.unit(name, app=app, env=env)}")
        line.append(f"--description=Tako: {name} of {app} in {env}")
        if memory_bytes is not None:
            line += [f"--property=MemoryMax={memory_bytes}", "--property=MemorySwapMax=0"]
        if self._limits.tasks is not None:
            line.append(f"--property=TasksMax={self._limits.tasks}")
        # Not --uid=: systemd-run would look the user up for a login of its own; setpriv is exec and nothing else.
        return [*line, "--"]

    def unit(self, name: str, *, app: str, env: str) -> str:
        """The scope of a process."""
        return f"tako-app-{app}-{env}-{name}.scope"

    def end_scope(self, name: str, *, app: str, env: str) -> None:
        """The process is gone: whatever it had started and left behind goes too. Does not wait."""
        if self.has_scopes:
            line = ["/usr/bin/systemctl", "kill", "--signal=SIGKILL", self.unit(name, app=app, env=env)]
            subprocess.Popen(
                line, env=notify.for_children(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip


def _ordinary() -> list[str]:
    """For the kernel that is out of memory an app is no better than others; it would inherit our better place."""
    choom = shutil.which("choom")
    return [choom, "-n", "0", "--"] if choom else []


def _plain(user: User | None) -> list[str]:
    if user is None:
        return []
    setpriv = shutil.which("setpriv") or "/usr/bin/setpriv"
    return [setpriv, f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--no-new-privs", "--"]


def _add_user(name: str, *, outside: bool) -> None:
    """`outside`: as a unit of its own, since to us, in our sandbox, /etc is read-only."""
    line: Sequence[str] = [
        *(["/usr/bin/systemd-run", "--quiet", "--wait", "--collect", "--pipe"] if outside else []),
        "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
        "--shell", "/usr/sbin/nologin", name,
    ]  # fmt: skip
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=30, env=notify.for_children())
    except OSError as error:
        raise TakoError(f"The user {name} cannot be made: {error.strerror}.") from error
    if done.returncode not in (0, 9):  # 9: it exists, made in the same moment
        raise TakoError(f"The user {name} cannot be made: {done.stderr.strip()}")


def has_systemd() -> bool:
    """Whether systemd runs this machine, so that there can be scopes."""
    return Path("/run/systemd/system").is_dir() and Path("/usr/bin/systemd-run").exists()
