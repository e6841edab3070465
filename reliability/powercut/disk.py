"""The log of the shim, and the disk as it may be when the power is cut after any of its records.

What was written and not yet synced may be on the disk or not. Three models bound what disks do: `gone`, all of it is
lost; `torn`, each sector of 512 bytes is kept or lost by chance; `kept`, all of it is there. The same holds for names:
a file that was made, renamed or removed is so for certain only after a sync of its folder, which is what POSIX says and
is stricter than ext4 and XFS are.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

Model = Literal["gone", "torn", "kept"]
MODELS: tuple[Model, ...] = ("gone", "torn", "kept")
SECTOR = 512
_HEAD = struct.Struct("<cIQIH")


class Record(NamedTuple):
    """One line of the log; iolog.c says what its letters mean."""

    op: str
    fd: int
    path: str
    offset: int
    data: bytes


def read(log: Path) -> list[Record]:
    """All whole records; a killed process may have cut the last one short."""
    blob = log.read_bytes()
    found, at = [], 0
    while at + _HEAD.size <= len(blob):
        op, fd, offset, size, length = _HEAD.unpack_from(blob, at)
        start = at + _HEAD.size
        at = start + length + size
        if at > len(blob):
            break
        path = blob[start : start + length].decode()
        found.append(Record(op.decode(), fd, path, offset, blob[start + length : at]))
    return found


def size_of(record: Record) -> int:
    """How many bytes of the log it takes."""
    return _HEAD.size + len(record.path.encode()) + len(record.data)


@dataclass(slots=True, eq=False)
class File:
    """A file, whatever its name: what is on the disk for certain, and what was asked for since its last sync."""

    safe: bytearray = field(default_factory=bytearray)
    asked: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class _NameChange:
    """A folder's entry that was made, changed or removed (None), and not yet synced."""

    path: str
    file: File | None


class Disk:
    """Takes records one after the other; `cut` says what would be left at this moment."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._names: dict[str, File] = {}  # as processes see them
        self._safe_names: dict[str, File] = {}
        self._asked_names: list[_NameChange] = []
        self._folders: set[str] = set()  # made since, and not safe in their own parent
        self._open: dict[int, File] = {}

    def apply(self, record: Record) -> None:
        """One operation was done."""
        op = record.op
        if op in "WT":
            self._open[record.fd].asked.append(record)
        elif op == "S":
            self._sync(record)
        elif op == "O":
            file = self._names.get(record.path)
            if file is None:
                file = self._names[record.path] = File()
                self._asked_names.append(_NameChange(record.path, file))
            self._open[record.fd] = file
        elif op == "U":
            self._names.pop(record.path, None)
            self._asked_names.append(_NameChange(record.path, None))
        elif op == "N":
            target = record.data.decode()
            file = self._names[target] = self._names.pop(record.path)
            self._asked_names += [_NameChange(target, file), _NameChange(record.path, None)]
        elif op == "M":
            self._folders.add(record.path)

    def _sync(self, record: Record) -> None:
        file = self._names.get(record.path)
        if file is None and not self._is_folder(record.path):
            file = self._open.get(record.fd)  # removed, or renamed, while it was open
        if file is not None:
            for asked in file.asked:
                _change(file.safe, asked)
            file.asked = []
            return
        mine = [change for change in self._asked_names if _parent(change.path) == record.path]
        self._asked_names = [change for change in self._asked_names if _parent(change.path) != record.path]
        for change in mine:
            _rename(self._safe_names, change)
        self._folders -= {folder for folder in self._folders if _parent(folder) == record.path}

    def _is_folder(self, path: str) -> bool:
        return path == self._root or any(name.startswith(path + "/") for name in self._names) or path in self._folders

    def cut(self, model: Model, rng: random.Random) -> dict[str, bytes]:
        """The files that are left, by their paths relative to the root."""
        names = dict(self._safe_names)
        for change in self._asked_names:
            if model == "kept" or (model == "torn" and rng.random() < 0.5):
                _rename(names, change)
        lost = {folder for folder in self._folders if model == "gone" or (model == "torn" and rng.random() < 0.5)}
        found = {}
        for path, file in names.items():
            if not any(path.startswith(folder + "/") for folder in lost):
                found[path.removeprefix(self._root + "/")] = bytes(_left(file, model, rng))
        return found


def _left(file: File, model: Model, rng: random.Random) -> bytearray:
    if model == "gone" or not file.asked:
        return file.safe
    left = bytearray(file.safe)
    for asked in file.asked:
        if model == "kept":
            _change(left, asked)
        elif asked.op == "T":
            if rng.random() < 0.5:
                _change(left, asked)
        else:
            for part in _sectors(asked):
                if rng.random() < 0.5:
                    _change(left, part)
    return left


def _sectors(write: Record) -> Iterator[Record]:
    start = 0
    while start < len(write.data):
        end = min(len(write.data), start + SECTOR - (write.offset + start) % SECTOR)
        yield write._replace(offset=write.offset + start, data=write.data[start:end])
        start = end


def _change(content: bytearray, record: Record) -> None:
    if record.op == "T":
        del content[record.offset :]
        content.extend(bytes(record.offset - len(content)))
        return
    content.extend(bytes(max(0, record.offset - len(content))))
    content[record.offset : record.offset + len(record.data)] = record.data


def _rename(names: dict[str, File], change: _NameChange) -> None:
    if change.file is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.file


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
