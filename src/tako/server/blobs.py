"""Files of releases by their hash. Each lands by itself, by rename, so that a cut costs at most one file."""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tako.errors import DeployRefused, InvalidRequest
from tako.protocol.management import MAX_PIECE_BYTES

HASH = re.compile(r"[0-9a-f]{64}")
MARGIN_BYTES = 64 << 20
SYNC_ALL_FROM = 300  # files; below, the other users of the disk are not waited for


@dataclass(slots=True)
class _Part:
    """A file that is on its way."""

    path: Path
    have: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Blobs:
    """The folder of blobs. Parts on the way are kept in memory and in `.tmp` files; they end with the connection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[tuple[str, str], _Part] = {}  # by job and hash
        self._synced: set[str] = set()

    def path(self, digest: str) -> Path:
        """Where the blob with this hash lies, or would."""
        return self.folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether it is here."""
        return self.path(digest).exists()

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Of these hashes, those that are not here, each once."""
        return [digest for digest in dict.fromkeys(wanted) if not self.has(digest)]

    def require_room(self, need_bytes: int) -> None:
        """Refuse an upload for which there is no room: twice its size and 64 MiB. Raises DeployRefused."""
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        need = 2 * need_bytes + MARGIN_BYTES
        if free < need:
            raise DeployRefused(
                f"the disk of {self.folder} has {_mib(free)} free, and this deploy needs {_mib(need)}",
                cure="Make room, for example by removing old releases (`tako releases`), and deploy again.",
                detail={"free": free, "need": need},
            )
        if found.f_files and found.f_favail < 1000:
            raise DeployRefused(
                f"the disk of {self.folder} has {found.f_favail} inodes left", cure="Remove files, and deploy again."
            )

    def put(self, job: str, digest: str, *, offset: int, data: str, is_zlib: bool, size: int) -> tuple[int, bool]:
        """Append a piece of a file of `size` bytes; how many are there now, and whether that is all.

        Raises:
            InvalidRequest: it is not the next piece, or not what it says.
            DeployRefused: the file is complete and its hash is another one. It is not kept.
        """
        if self.has(digest):
            return size, True
        key = (job, digest)
        part = self._parts.get(key)
        if part is None or offset == 0:
            part = self._parts[key] = self._begin(job, digest)
        if offset != part.have:
            raise InvalidRequest(f"invalid request: the next piece of {digest[:12]} begins at {part.have}")
        piece = _decode(data, is_zlib=is_zlib)
        if part.have + len(piece) > size:
            self._drop(key)
            raise DeployRefused(f"{digest[:12]} is longer than its manifest says ({size} bytes); it was not kept")
        try:
            with part.path.open("ab") as file:
                file.write(piece)
        except OSError as error:  # how much of the piece is there, nobody knows
            self._drop(key)
            raise DeployRefused(
                f"{self.folder} takes no more files: {error.strerror}", cure="Make room on the disk, and deploy again."
            ) from error
        part.digest.update(piece)
        part.have += len(piece)
        if part.have < size:
            return part.have, False
        del self._parts[key]
        if part.digest.hexdigest() != digest:
            part.path.unlink(missing_ok=True)
            raise DeployRefused(
                f"a file arrived with another hash than its manifest says ({digest[:12]}…); it was not kept",
                cure="It was changed while it was sent, or damaged on the way. Deploy again.",
            )
        part.path.chmod(0o444)
        part.path.rename(self.path(digest))
        return part.have, True

    def _begin(self, job: str, digest: str) -> _Part:
        folder = self.path(digest).parent
        folder.mkdir(mode=0o755, exist_ok=True)
        path = folder / f".{digest}.{job}.tmp"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        return _Part(path)

    def _drop(self, key: tuple[str, str]) -> None:
        part = self._parts.pop(key, None)
        if part is not None:
            part.path.unlink(missing_ok=True)

    def forget(self, job: str) -> None:
        """The job ends: what it has not sent completely is dropped, what it has stays for the next one."""
        for key in [key for key in self._parts if key[0] == job]:
            self._drop(key)

    def sweep(self) -> int:
        """Remove what an earlier daemon left half-way; how many there were."""
        found = list(self.folder.glob("*/.*.tmp"))
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def sync(self, digests: Iterable[str]) -> None:
        """Bring these blobs to the disk; what was brought there once is not looked at again. For a thread."""
        wanted = [digest for digest in dict.fromkeys(digests) if digest not in self._synced]
        if len(wanted) > SYNC_ALL_FROM:
            self._sync_all()
        else:
            for path in (self.path(digest) for digest in wanted):
                sync(path)
                sync(path.parent)
        self._synced.update(wanted)

    def _sync_all(self) -> None:
        """One call for the whole file system, which may hold much that is not ours."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if not hasattr(libc, "syncfs") or libc.syncfs(fd) != 0:
                os.sync()
        finally:
            os.close(fd)

    def prune(self, wanted: set[str]) -> int:
        """Remove blobs that no release has; how many bytes that were. For a thread."""
        freed = 0
        for path in self.folder.glob("??/*"):
            if HASH.fullmatch(path.name) and path.name not in wanted:
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
        return freed


def sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _decode(data: str, *, is_zlib: bool) -> bytes:
    try:
        piece = base64.b64decode(data, validate=True)
        if is_zlib:
            unpacker = zlib.decompressobj()
            piece = unpacker.decompress(piece, MAX_PIECE_BYTES + 1)
            if not unpacker.eof and len(piece) <= MAX_PIECE_BYTES:
                raise InvalidRequest("invalid request: a piece was cut short")
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InvalidRequest(f"invalid request: a piece cannot be read: {error}") from None
    if len(piece) > MAX_PIECE_BYTES:
        raise InvalidRequest(f"invalid request: a piece has more than {MAX_PIECE_BYTES} bytes")
    return piece


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
