"""The secrets of deployed environments: `tako.secrets.json`, beside tako.toml and committed with it.

Each environment has a public key, and each value is sealed for it: everybody who has the repository can add one, and
only who holds the private key can read them. A line a secret, sorted, so that two branches that add one merge.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tako.errors import TakoError
from tako.vault import names, sealing
from tako.vault.keyring import Keyring

FILE = "tako.secrets.json"
MAX_FILE_BYTES = 16 * 1_048_576


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the file holds for one environment; `secrets` are the sealed values by name."""

    public_key: str
    secrets: Mapping[str, str] = field(default_factory=dict)


class SealedFile:
    """The file of one app. Every change is a read, a change and a rename, with the folder locked."""

    def __init__(self, folder: Path, *, app: str) -> None:
        self.path = folder / FILE
        self._app = app

    def names(self, environment: str) -> list[str]:
        """The names of an environment's secrets, sorted. Raises TakoError when the file is not what we write."""
        found = self._load().get(environment)
        return sorted(found.secrets) if found else []

    def set(self, environment: str, name: str, value: str, *, keyring: Keyring) -> tuple[bool, Path | None]:
        """Seal a value; it is on disk when this returns. Whether the name is new, and where a new key was stored.

        The first secret of an environment makes its key.

        Raises:
            TakoError: the name or value cannot be one, or the file cannot be used; nothing was changed.
        """
        names.check(name, value)
        with self._locked():
            content = self._load()
            found, key_path = content.get(environment), None
            if found is None:
                private_key = sealing.new_private_key()
                found = Sealed(sealing.public_key_of(private_key))
                key_path = keyring.add(self._app, environment, private_key)
            is_new = name not in found.secrets
            text = sealing.seal(value, public_key=found.public_key, place=self._place(environment, name))
            self._write({**content, environment: Sealed(found.public_key, {**found.secrets, name: text})})
        return is_new, key_path

    def remove(self, environment: str, gone: list[str]) -> None:
        """Remove secrets, all or none. Raises TakoError when there is none of a name."""
        with self._locked():
            content = self._load()
            found = content.get(environment) or Sealed("")
            if missing := [name for name in gone if name not in found.secrets]:
                known = ", ".join(sorted(found.secrets))
                raise TakoError(
                    f"{environment} has no secret {missing[0]!r}; none was removed.",
                    cure=f"Known: {known}." if known else "It has none at all.",
                )
            rest = {name: text for name, text in found.secrets.items() if name not in gone}
            self._write({**content, environment: Sealed(found.public_key, rest)})

    def open(self, environment: str, *, keyring: Keyring) -> dict[str, str]:
        """The values, by name; none when the environment has no secrets, for which no key is needed.

        Raises:
            TakoError: the private key is not here, or a value does not open.
        """
        found = self._load().get(environment)
        if found is None or not found.secrets:
            return {}
        key = keyring.find(self._app, environment, public_key=found.public_key)
        return {name: self._open(environment, name, text, key) for name, text in sorted(found.secrets.items())}

    def rotate(self, environment: str, *, keyring: Keyring) -> tuple[int, Path]:
        """Seal everything for a new key. How many values, and where the key lies.

        The new key is on disk before the file is: a crash in between leaves a key too many and nothing unreadable.
        """
        with self._locked():
            content = self._load()
            if environment not in content:
                raise TakoError(
                    f"{environment} has no key yet, so there is none to change.",
                    cure=f"The first `tako secrets set NAME --env {environment}` makes one.",
                )
            values = self.open(environment, keyring=keyring)
            private_key = sealing.new_private_key()
            public_key = sealing.public_key_of(private_key)
            secrets = {
                name: sealing.seal(value, public_key=public_key, place=self._place(environment, name))
                for name, value in values.items()
            }
            path = keyring.add(self._app, environment, private_key)
            self._write({**content, environment: Sealed(public_key, secrets)})
        return len(values), path

    def _open(self, environment: str, name: str, text: str, key: str) -> str:
        try:
            return sealing.open_sealed(text, private_key=key, place=self._place(environment, name))
        except ValueError as error:
            raise TakoError(
                f"{FILE}: {name} of {environment} cannot be opened: {error}.",
                cure=f"Set it again: tako secrets set {name} --env {environment}",
            ) from None

    def _place(self, environment: str, name: str) -> str:
        return sealing.place_of(app=self._app, environment=environment, name=name)

    # --- the file ---

    def _load(self) -> dict[str, Sealed]:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise TakoError(f"{FILE} cannot be read: {error.strerror}.", cure="Check what it is.") from error
        if len(data) > MAX_FILE_BYTES:
            raise _damaged(f"it is larger than {MAX_FILE_BYTES} bytes")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            why = "git left a conflict in it" if b"<<<<<<<" in data else "it is not JSON"
            raise _damaged(why) from None
        if not isinstance(document, dict):
            raise _damaged("it is not a table of environments")
        return {environment: _environment(environment, value) for environment, value in document.items()}

    def _write(self, content: Mapping[str, Sealed]) -> None:
        document = {
            environment: {"public_key": sealed.public_key, "secrets": dict(sorted(sealed.secrets.items()))}
            for environment, sealed in sorted(content.items())
        }
        fd, temporary = tempfile.mkstemp(prefix=".secrets-", dir=self.path.parent)
        try:
            with os.fdopen(fd, "w") as file:
                file.write(json.dumps(document, indent=2) + "\n")
                file.flush()
                os.fchmod(fd, 0o644)  # what is sealed may be read; git would lose another mode anyway
                os.fsync(fd)
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
            os.fsync(fd)
        finally:
            os.close(fd)


def _environment(name: str, value: object) -> Sealed:
    if not isinstance(value, dict):
        raise _damaged(f"{name[:64]!r} is not a table")
    public_key, secrets = value.get("public_key"), value.get("secrets")
    if not isinstance(public_key, str) or not public_key.startswith(sealing.PUBLIC_PREFIX):
        raise _damaged(f"{name[:64]!r} has no public key")
    if not isinstance(secrets, dict):
        raise _damaged(f"the secrets of {name[:64]!r} are not a table")
    for secret, text in secrets.items():
        if not names.NAME.fullmatch(secret) or not isinstance(text, str):
            raise _damaged(f"{secret[:64]!r} of {name[:64]!r} is no secret")
    return Sealed(public_key, secrets)


def _damaged(why: str) -> TakoError:
    return TakoError(f"{FILE} cannot be used: {why}.", cure="Mend it, or take it from an older commit.")
