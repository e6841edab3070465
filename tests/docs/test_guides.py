"""The guides do what they say: the files of a page are written into a folder, and their tests run there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages

DOCS = Path(__file__).parents[2] / "docs"
# tests/contrib/test_howto.py has those about frameworks.
ELSEWHERE = {"django.md", "fastapi.md", "flask.md", "testing.md"}
GUIDES = sorted(
    page
    for page in (*DOCS.glob("howto/*.md"), *DOCS.glob("migrate/*.md"))
    if page.name not in ELSEWHERE and "<!-- file: tests/" in page.read_text()
)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_works_as_it_is_printed(page: Path, tmp_path: Path) -> None:
    pages.works(tmp_path, {"workflows/__init__.py": "", **pages.files_of(page)})


def test_there_are_guides() -> None:
    assert len(GUIDES) >= 5
