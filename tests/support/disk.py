"""A small file system that a test may fill. Needs the right to mount, which the machines that run these tests have."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PAGE = 4096


class Disk:
    """A file system of its own in `folder`. `full` fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @contextlib.contextmanager
    def full(self, *, but_for: int = 0) -> Iterator[None]:
        """No room on it, but for so many bytes."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            self._take(fd, but_for)
            if not but_for:
                with contextlib.suppress(OSError):
                    while os.write(fd, b"x" * _PAGE):
                        pass
            yield
        finally:
            os.close(fd)
            self._filler.unlink()

    def _take(self, fd: int, but_for: int) -> None:
        """What is free, as far as it goes: others may write meanwhile, so a little less each time that it does not."""
        left = self._free() - but_for
        while left >= _PAGE:
            try:
                os.posix_fallocate(fd, 0, left - left % _PAGE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                left = min(left - _PAGE, self._free() - but_for)
            else:
                return

    def _free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def without_inodes(self) -> Iterator[None]:
        """Room for bytes, but for no further file."""
        folder = self.folder / "many"
        folder.mkdir()
        try:
            with contextlib.suppress(OSError):
                for number in range(10_000):
                    (folder / str(number)).touch()
            yield
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


@contextlib.contextmanager
def small_disk(folder: Path, *, options: str = "size=24m") -> Iterator[Disk]:
    """Mount one at `folder`, which is there. `options` are those of a tmpfs."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
