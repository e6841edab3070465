"""A small file system that a test may fill. Needs the right to mount, which the machines that run these tests have."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


class Disk:
    """A file system of its own in `folder`. `full` fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @contextlib.contextmanager
    def full(self, *, but_for: int = 0) -> Iterator[None]:
        """No room on it, but for so many bytes."""
        found = os.statvfs(self.folder)
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            size = found.f_bavail * found.f_frsize - but_for
            os.posix_fallocate(fd, 0, max(4096, size - size % 4096))
            if not but_for:
                with contextlib.suppress(OSError):
                    while os.write(fd, b"x" * 4096):
                        pass
            yield
        finally:
            os.close(fd)
            self._filler.unlink()

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
