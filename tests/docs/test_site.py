"""`make site`: the pages as a site, without a warning, and without a request to another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site() -> Path:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "zensical"), "build", "--strict", "--clean"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build/site"


def test_every_page_of_the_docs_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}

    assert {page for page in pages if not page.startswith("decisions/") and page not in menu} == set()


def test_the_site_asks_no_other_host(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|link|img)[^>]*(?:src|href)=["'](https?:)?//""")

    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert [
        str(page) for page in pages if loaded.search(re.sub(r'<link rel="canonical"[^>]*>', "", page.read_text()))
    ] == []
