"""The guides do what they say: the files of a page are written into a folder, and their tests run there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# tests/contrib/test_howto.py has those about frameworks.
ELSEWHERE = {"django.md", "fastapi.md", "flask.md", "testing.md"}
GUIDES = sorted(
    page
    for page in (*DOCS.glob("howto/*.md"), *DOCS.glob("migrate/*.md"))
    if page.name not in ELSEWHERE and "<!-- file: tests/" in page.read_text()
)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_works_as_it_is_printed(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    files = FILE.findall(text)
    assert len(files) == len(re.findall("^<!-- file:", text, re.MULTILINE)), "a block whose file was not found"
    for name, content in [("workflows/__init__.py", ""), *files]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed", done.stdout)


def test_there_are_guides() -> None:
    assert len(GUIDES) >= 5
