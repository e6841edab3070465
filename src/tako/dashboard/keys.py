"""The key that every address of the dashboard begins with: made once, kept in a file that its owner alone can read.

It outlives the engine, so that bookmarks and open pages do, too. Remove the file for a new one.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

_KEY = re.compile(r"[A-Za-z0-9_-]{22,}", re.ASCII)


def load(path: Path) -> str:
    """The key in the file; made if it is not there, is damaged, or could be read by others."""
    try:
        if not stat.S_IMODE(path.stat().st_mode) & 0o077 and _KEY.fullmatch(key := path.read_text().strip()):
            return key
    except (OSError, ValueError):
        pass
    key = secrets.token_urlsafe(16)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(f"{key}\n")
    temporary.replace(path)
    return key
