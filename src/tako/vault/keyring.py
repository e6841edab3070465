"""The private keys of deployed environments: `~/.config/tako/keys/APP/ENV`, mode 0600, or TAKO_SECRET_KEY.

A file holds one key a line, the newest first. Old ones stay when a key is rotated, because older commits of the
repository are sealed for them. A key is looked for by the public key that the sealed file names.
"""

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tako.errors import TakoError
from tako.vault import sealing

VARIABLE = "TAKO_SECRET_KEY"


class Keyring:
    """The keys of this user. `folder` is where they lie; `environ` may hold TAKO_SECRET_KEY, looked at first."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ

    def path(self, app: str, environment: str) -> Path:
        """Where the keys of an environment lie."""
        return self._folder / app / environment

    def find(self, app: str, environment: str, *, public_key: str) -> str:
        """The private key that belongs to a public one.

        Raises:
            TakoError: there is none here, or the file cannot be used.
        """
        path = self.path(app, environment)
        for source, keys in ((VARIABLE, self._environ.get(VARIABLE, "").split()), (str(path), _read(path))):
            for key in keys:
                if _public_key(key, source) == public_key:
                    return key
        raise self._missing(path, environment, public_key)

    def add(self, app: str, environment: str, private_key: str) -> Path:
        """Store a key as the newest; it is on disk when this returns. Where it lies."""
        path = self.path(app, environment)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, [private_key, *(key for key in _read(path) if key != private_key)])
        except OSError as error:
            raise TakoError(
                f"The key could not be stored in {path}: {error.strerror}.", cure="Nothing else was changed."
            ) from error
        return path

    def _missing(self, path: Path, environment: str, public_key: str) -> TakoError:
        wanted = sealing.fingerprint(public_key)
        has_other = path.exists() or self._environ.get(VARIABLE)
        found = f"no key of {environment} here is the one that its secrets are sealed for ({wanted})"
        return TakoError(
            f"The secrets of {environment} cannot be read: {found}."
            if has_other
            else f"The secrets of {environment} cannot be read: the private key is not on this machine.",
            cure=f"Get the line from {path} of a colleague who has it into the same place here (mode 0600), "
            f"or set {VARIABLE}. You can add secrets without it.",
        )


def _read(path: Path) -> list[str]:
    try:
        with path.open() as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read(65_536).split()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise TakoError(f"The key file {path} cannot be read: {error}.", cure="Check what it is.") from error
    if mode & 0o077:
        raise TakoError(
            f"{path} holds private keys and others can reach it (mode {mode:04o}), so it was not used.",
            cure=f"Close it: chmod 600 {path}    If others use this machine: `tako secrets rotate-key`.",
        )
    return lines


def _write(path: Path, keys: list[str]) -> None:
    fd, temporary = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(fd, "w") as file:
            file.write("".join(f"{key}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _public_key(private_key: str, source: str) -> str:
    try:
        return sealing.public_key_of(private_key)
    except sealing.NotOurs as error:
        raise TakoError(f"A line of {source} is {error}.", cure="Copy the whole line: takosk1_…") from None
