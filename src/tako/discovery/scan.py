"""Which files of an app declare workflows, of which groups: a static scan, cheap enough for every save and enqueue.

`workflows/` lies beside the app or in a package of it (`<package>/workflows/`); subfolders count. Not workflow files:
`test_*.py`, `*_test.py`, `conftest.py`, and what begins with `_` or `.`. A file is read again only when its
modification time or size has changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tako.discovery import declarations
from tako.discovery.declarations import Declaration, Unreadable

FOLDER = "workflows"
Stamp = tuple[int, int]  # modification time in nanoseconds, size
_GONE: Stamp = (0, -1)


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """A file below `workflows/`. `groups` is empty for one that declares nothing; `error` says why it was not read."""

    path: str  # relative to the app's root, with slashes
    groups: tuple[str, ...]
    declarations: tuple[Declaration, ...]
    error: str | None
    stamp: Stamp

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its workflows, aliases left out."""
        return tuple(found.name for found in self.declarations)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A name that stands in more than one place, whatever the groups."""

    name: str
    places: tuple[str, ...]  # "workflows/mail.py:12"

    def words(self) -> str:
        """The sentence for people."""
        return f"two workflows are named {self.name!r}: {' and '.join(self.places)}"


@dataclass(frozen=True, slots=True)
class Scan:
    """What `scan` found."""

    files: tuple[WorkflowFile, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups that have files, sorted."""
        return tuple(sorted({group for file in self.files for group in file.groups}))

    def files_of(self, group: str) -> list[str]:
        """The files that a worker of this group imports."""
        return [file.path for file in self.files if group in file.groups]

    def group_of(self, name: str) -> str | None:
        """The group of a workflow, by name or alias; None if no file declares it."""
        for file in self.files:
            for found in file.declarations:
                if name == found.name or name in found.aliases:
                    return found.group
        return None

    def errors(self) -> list[str]:
        """What is wrong, a sentence each: files that cannot be read, names that stand twice."""
        unread = [file.error for file in self.files if file.error is not None]
        return unread + [duplicate.words() for duplicate in self.duplicates]

    def is_current(self, root: Path, *, group: str | None = None) -> bool:
        """Whether the files of a group (None: all) are as they were: a stat each. New files need a new scan."""
        above = f"{root}/"  # not a Path for each file: every enqueue asks
        return all(
            _stamp(above + file.path) == file.stamp for file in self.files if group is None or group in file.groups
        )


def scan(root: Path, previous: Scan | None = None) -> Scan:
    """Scan an app. `previous` saves reading what has not changed, and remembers the groups of files now broken."""
    known = {file.path: file for file in previous.files} if previous else {}
    files = tuple(_file(root, path, known.get(path)) for path in sorted(set(_paths(root))))
    return Scan(files=files, duplicates=_duplicates(files))


def is_workflow_file(path: str) -> bool:
    """Whether a path, relative to the root and with slashes, is one that a scan would read."""
    *folders, name = path.split("/")
    if folders[:1] == [FOLDER]:
        inner = folders[1:]
    elif folders[1:2] == [FOLDER]:
        inner = folders[2:]
    else:
        return False
    return _is_file_name(name) and all(_is_folder_name(folder) for folder in inner)


def _paths(root: Path) -> Iterator[str]:
    for folder in _workflow_folders(root):
        yield from _walk(root, folder)


def _workflow_folders(root: Path) -> Iterator[str]:
    """`workflows` and `<package>/workflows`, as far as they are there."""
    if (root / FOLDER).is_dir():
        yield FOLDER
    for entry in _entries(root):
        package = Path(entry.path)
        if not entry.is_dir() or not _is_folder_name(entry.name) or entry.name == FOLDER:
            continue
        # Folders of other things (virtual environments, node_modules) have no __init__.py.
        if (package / "__init__.py").is_file() and (package / FOLDER).is_dir():
            yield f"{entry.name}/{FOLDER}"


def _walk(root: Path, folder: str) -> Iterator[str]:
    for entry in _entries(root / folder):
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):  # a link to a folder above would have no end
            if _is_folder_name(entry.name):
                yield from _walk(root, path)
        elif _is_file_name(entry.name) and entry.is_file():
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []  # gone since its name was read, or not ours to read: then there is nothing to import in it either


def _is_file_name(name: str) -> bool:
    if not name.endswith(".py") or name.startswith(("_", ".", "test_")):
        return False
    return not name.endswith("_test.py") and name != "conftest.py"


def _is_folder_name(name: str) -> bool:
    return not name.startswith(("_", "."))


def _file(root: Path, path: str, known: WorkflowFile | None) -> WorkflowFile:
    # Stamp first: a file that is saved while it is read has an old stamp and is read again.
    stamp = _stamp(root / path)
    if known is not None and known.stamp == stamp:
        return known
    source = b""
    try:
        source = (root / path).read_bytes()
        found = declarations.read(source, path=path)
    except Unreadable as error:
        return _broken(path, known, source, str(error), stamp)
    except OSError as error:
        return _broken(path, known, source, f"{path}: {error.strerror}", stamp)
    groups = tuple(sorted({one.group for one in found}))
    return WorkflowFile(path=path, groups=groups, declarations=found, error=None, stamp=stamp)


def _broken(path: str, known: WorkflowFile | None, source: bytes, error: str, stamp: Stamp) -> WorkflowFile:
    """A file that was not read: it keeps what was last known, so that the right group learns of it."""
    if known is not None and known.declarations:
        return WorkflowFile(path, groups=known.groups, declarations=known.declarations, error=error, stamp=stamp)
    groups = declarations.groups_in_text(source)
    return WorkflowFile(path, groups=groups, declarations=(), error=error, stamp=stamp)


def _stamp(path: Path | str) -> Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116  (on the way of every enqueue)
    except OSError:
        return _GONE
    return found.st_mtime_ns, found.st_size


def _duplicates(files: tuple[WorkflowFile, ...]) -> tuple[Duplicate, ...]:
    places: dict[str, list[str]] = {}
    for file in files:
        for found in file.declarations:
            for name in dict.fromkeys((found.name, *found.aliases)):
                places.setdefault(name, []).append(f"{file.path}:{found.line}")
    return tuple(Duplicate(name, tuple(where)) for name, where in sorted(places.items()) if len(where) > 1)
