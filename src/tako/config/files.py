"""Read a file that somebody else may have put there: in a cloned repository, `tako.toml` may be a link to anything."""

import errno
import os
import stat
from pathlib import Path


def read(path: Path, *, most: int) -> bytes:
    """The file's bytes, or `most` and one more if it is larger.

    Raises:
        OSError: it cannot be opened, or is no file: a device has no end, and a pipe keeps who reads it waiting.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if stat.S_ISDIR(mode := os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "It is a device or a pipe, and no file", str(path))
        return file.read(most + 1)
