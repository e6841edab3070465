"""An engine that nobody looks at holds one socket more; one that is looked at stays small, too (speed.md, V8)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.dashboard.bookshop import Bookshop, ask
from tests.support.dev import runtime_folder


def pss_mb(pid: int) -> float:
    """The memory that is this process's own, and its share of what it has in common with others."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1000


def test_the_pages_are_loaded_by_the_first_who_looks(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    with Bookshop(folder) as shop:
        assert shop.process is not None
        pid = shop.process.pid
        maps = Path(f"/proc/{pid}/maps")
        assert "httptools" not in maps.read_text()
        assert "markupsafe" not in maps.read_text()
        assert pss_mb(pid) < 45

        for page in ("", "runs", "schedules", "workflows", "logs"):
            assert ask(shop.pages + page).status == 200

        assert "httptools" in maps.read_text()
        assert pss_mb(pid) < 60
    shutil.rmtree(runtime_folder(folder), ignore_errors=True)
