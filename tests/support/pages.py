"""Pages of the docs whose files are written into a folder, as a reader would, and whose tests run there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def files_of(page: Path) -> dict[str, str]:
    """The page's files; each block that says that it is one must be found."""
    text = page.read_text()
    files = dict(FILE.findall(text))
    assert len(files) == len(re.findall("^<!-- file:", text, re.MULTILINE)), "a block whose file was not found"
    return files


def works(folder: Path, files: Mapping[str, str], *command: str) -> None:
    """Write the files, and run their tests, of which there must be some and none may fail."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))

    done = subprocess.run(
        [sys.executable, "-W", "error", *(command or PYTEST)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed|Ran [1-9]\d* test", done.stdout + done.stderr)
