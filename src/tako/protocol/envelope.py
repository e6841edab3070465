"""What comes on fd 3: the token, the secrets, and for workers what to import. Never in environment or arguments."""

import os

from tako.protocol import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class Envelope(TypedDict):
        """The object on fd 3."""

        token: str
        secrets: dict[str, str]
        storages: dict[str, object]
        worker_id: NotRequired[str]
        files: NotRequired[list[str]]  # workflow files of the worker's group, relative to the app's root


ENVELOPE_FD = 3
ENVELOPE_FD_VARIABLE = "TAKO_ENVELOPE_FD"


def build(
    *,
    token: str,
    secrets: dict[str, str],
    worker_id: str | None = None,
    files: list[str] | None = None,
) -> bytes:
    """The bytes that a spawner writes to the child's fd 3."""
    envelope: Envelope = {"token": token, "secrets": secrets, "storages": {}}
    if worker_id is not None:
        envelope["worker_id"] = worker_id
    if files is not None:
        envelope["files"] = files
    return json_text.encode_ascii(envelope).encode()


def read(fd: int = ENVELOPE_FD) -> "Envelope":
    """Read fd 3 to its end and close it.

    Raises:
        OSError: nothing is open there: the process was not started by Tako.
        ValueError: what came is not an envelope; the text does not say what it was instead.
    """
    chunks = []
    try:
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    finally:
        os.close(fd)
    try:
        envelope: Envelope = json_text.decode(b"".join(chunks).decode())
        secrets = envelope["secrets"]
        if type(envelope["token"]) is str and all(type(value) is str for value in secrets.values()):
            return envelope
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("it holds no token and secrets")
