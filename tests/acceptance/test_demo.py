"""`make demo`, as CI sees it: without a terminal it takes its tour, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_demo_tells_the_founding_story_for_real() -> None:
    tour = subprocess.run(
        [sys.executable, ROOT / "scripts/demo"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=180,
    )  # fmt: skip

    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert "worker unhealthy: worker exited with status 1 after " in tour.stdout
    assert "and five runs succeeded" in tour.stdout
    assert tour.stderr == ""


def test_a_demo_that_cannot_go_on_says_where_and_exits_1(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    (root / "scripts/demo").write_text((ROOT / "scripts/demo").read_text())
    example = root / "examples/signup"
    example.mkdir(parents=True)
    (example / "tako.toml").write_text('[workflows]\nidle_timeout = "1m"\nno_such_key = 1\n')
    (example / "mailserver.py").write_text((ROOT / "examples/signup/mailserver.py").read_text())

    tour = subprocess.run(
        [sys.executable, root / "scripts/demo"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip

    assert tour.returncode == 1
    assert "✘ tako dev exited with 1." in tour.stderr
    assert "no_such_key" in tour.stderr
