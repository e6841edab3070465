"""A disk of its own for the daemon, small enough to be filled: a tmpfs, in a namespace when we are not root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE_MIB = 160
_INSIDE = "TAKO_CHAOS_INSIDE"


def enter_namespace() -> None:
    """Become root of a namespace of our own, by starting anew, if we are not root. Raises FileNotFoundError."""
    if os.geteuid() == 0 or os.environ.get(_INSIDE):
        return
    os.environ[_INSIDE] = "1"
    words = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", "reliability.chaos"]
    os.execvp(words[0], [*words, *sys.argv[1:]])


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of SIZE_MIB, mounted at `folder`, which is made."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Take all the room that is left; remove the file that is returned to give it back."""
    ballast = folder / ".ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024 * 1024))
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast
