"""Secrets at rest: AES-GCM with the server's own key. What is written down is of no use without `secret.key`."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tako.errors import StoreDamaged, TakoError

KEY_BYTES = 32
NONCE_BYTES = 12


class Sealer:
    """Seals and opens with one key, which is made when there is none."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of(cls, path: Path) -> Sealer:
        """The key of systemd's credential `secret.key`, else of the file, made if it is not there.

        Raises:
            TakoError: others can read the file, or it is no key.
        """
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder and (credential := Path(folder, path.name)).exists():
            return cls(_key(credential, credential.read_bytes()))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if path.stat().st_mode & 0o077:
                raise TakoError(
                    f"{path} is the key of all secrets here, and others can read it (mode {path.stat().st_mode:04o}).",
                    cure=f"Close it: chmod 600 {path}    Then replace the secrets too.",
                ) from None
            return cls(_key(path, path.read_bytes()))
        key = secrets.token_bytes(KEY_BYTES)
        with os.fdopen(fd, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    def seal(self, values: dict[str, str], *, app: str, env: str) -> bytes:
        """What to store. Of no use for another app or environment."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, json.dumps(values).encode(), _context(app, env))

    def open(self, sealed: bytes, *, app: str, env: str) -> dict[str, str]:
        """What was sealed. Raises StoreDamaged: with another key, for another app, or damaged."""
        if not sealed:
            return {}
        try:
            text = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _context(app, env))
        except InvalidTag:
            raise StoreDamaged(
                f"the secrets of {app} in {env} cannot be opened with the key that this server has",
                cure="Put the right secret.key back, or send them anew: `tako secrets sync`.",
            ) from None
        values: dict[str, str] = json.loads(text)
        return values


def _key(path: Path, data: bytes) -> bytes:
    if len(data) != KEY_BYTES:
        raise TakoError(f"{path} is no key: it has {len(data)} bytes, not {KEY_BYTES}.", cure="Put the right one back.")
    return data


def _context(app: str, env: str) -> bytes:
    return f"tako/v1/{app}/{env}".encode()
