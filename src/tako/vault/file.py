"""The development secrets of an app: `.tako/secrets.json`, mode 0600 in a folder of mode 0700, ignored by git.

Plain text: whoever can read the file can also read the memory of the processes that need the secrets. What the file
must never be is readable by others, half written, or committed; so it is created with its mode, replaced by rename,
and lies in a folder whose `.gitignore` is `*`. A secret's value stands in no message of this module.
"""

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tako.errors import TakoError
from tako.vault import names as names_of_secrets

ENVIRONMENT = "development"
MAX_FILE_BYTES = 4 * 1_048_576


def load(path: Path) -> dict[str, str]:
    """The secrets in the file, by name; none when there is no file.

    Raises:
        TakoError: others can read the file or replace it, or it is not what this module writes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TakoError(
            f"{path} cannot be read: {error.strerror}.", cure="Check that it is a file of yours, and no link."
        ) from error
    with os.fdopen(fd, "rb") as file:
        _check_private(path, os.fstat(file.fileno()))
        return _read(path, file.read(MAX_FILE_BYTES + 1))


def names(path: Path) -> list[str]:
    """The names of the secrets, sorted. Raises what `load` raises."""
    return sorted(load(path))


def set(path: Path, name: str, value: str) -> bool:
    """Store a secret; it is on disk when this returns. False when the name was there before, True when it is new.

    Raises:
        TakoError: the name or value cannot be one, or what `load` raises; nothing was changed.
    """
    names_of_secrets.check(name, value)
    with _locked(path):
        secrets = load(path)
        is_new = name not in secrets
        _write(path, {**secrets, name: value})
    return is_new


def remove(path: Path, name: str) -> bool:
    """Remove a secret. False when there was none of this name. Raises what `load` raises."""
    if name not in load(path):
        return False
    with _locked(path):
        secrets = load(path)
        if secrets.pop(name, None) is None:
            return False
        _write(path, secrets)
    return True


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise TakoError(f"{path} is not a file.", cure="Move it away; `tako secrets set` makes a new one.")
    if found.st_uid != os.geteuid():
        raise TakoError(f"{path} belongs to another user.", cure=f"Make it yours: sudo chown {os.geteuid()} {path}")
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        what = "read" if mode & 0o044 else "change"
        shown = f"{stat.S_IMODE(found.st_mode):04o}"
        raise TakoError(
            f"{path} holds secrets and others can {what} it (mode {shown}), so it was not used.",
            cure=f"Close it: chmod 600 {path}    If others use this machine, replace the secrets too.",
        )
    folder = path.parent.stat()
    if stat.S_IMODE(folder.st_mode) & 0o022:
        raise TakoError(
            f"Others can replace {path}: its folder has mode {stat.S_IMODE(folder.st_mode):04o}, so it was not used.",
            cure=f"Close it: chmod 700 {path.parent}",
        )


def _read(path: Path, data: bytes) -> dict[str, str]:
    if len(data) > MAX_FILE_BYTES:
        raise TakoError(f"{path} is larger than {MAX_FILE_BYTES} bytes.", cure="Is it the right file?")
    try:
        document = json.loads(data)
        secrets = document[ENVIRONMENT]["secrets"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Without `from`: the text of a JSON error's document must not reach a traceback.
        raise _damaged(path, "it is not what `tako secrets set` writes") from None
    if not isinstance(secrets, dict):
        raise _damaged(path, "its secrets are not a table")
    for name, value in secrets.items():
        if not names_of_secrets.NAME.fullmatch(name):
            raise _damaged(path, f"{name[:64]!r} cannot be the name of a secret")
        if not isinstance(value, str) or not value:
            raise _damaged(path, f"the value of {name} is not a text")
    return secrets


def _damaged(path: Path, why: str) -> TakoError:
    return TakoError(f"{path} cannot be used: {why}.", cure="Mend it, or move it away and set the secrets again.")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder for a read-change-write, so that two `tako secrets set` at once both count. Makes the folder."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TakoError(
            f"The folder {path.parent} cannot be used: {error.strerror}.", cure="Check that it is a folder of yours."
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _keep_out_of_git(path.parent)
        yield
        os.fsync(fd)
    finally:
        os.close(fd)


def _keep_out_of_git(folder: Path) -> None:
    try:
        with (folder / ".gitignore").open("x") as file:
            file.write("*\n")
    except FileExistsError:
        pass


def _write(path: Path, secrets: Mapping[str, str]) -> None:
    document = {ENVIRONMENT: {"secrets": dict(sorted(secrets.items()))}}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    fd, temporary = tempfile.mkstemp(prefix=".secrets-", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        _sync_names(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_names(folder: Path) -> None:
    """A power cut would otherwise bring back the file that was replaced."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
