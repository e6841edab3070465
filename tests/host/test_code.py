"""The code on disk, as the engine sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tako.host.code import Code

SAVED_MS = 1_795_424_400_250


def code_saved_at(root: Path, saved_ms: int) -> Code:
    path = root / "workflows" / "greet.py"
    path.parent.mkdir()
    path.write_text("from tako import workflow\n")
    for folder_or_file in (path.parent, path):
        os.utime(folder_or_file, ns=(saved_ms * 1_000_000,) * 2)
    code = Code(root, on_change=lambda _: None)
    code.start(python=sys.executable)
    return code


def test_a_process_that_starts_within_two_seconds_of_a_save_leaves_no_caches(tmp_path: Path) -> None:
    code = code_saved_at(tmp_path, SAVED_MS)

    assert not code.is_settled(now_ms=SAVED_MS)
    assert not code.is_settled(now_ms=SAVED_MS + 1_999)
    assert code.is_settled(now_ms=SAVED_MS + 2_000)


def test_a_file_from_the_future_does_not_forbid_caches_for_ever(tmp_path: Path) -> None:
    code = code_saved_at(tmp_path, SAVED_MS)

    assert not code.is_settled(now_ms=SAVED_MS - 1_000)
    assert code.is_settled(now_ms=SAVED_MS - 60_000)


def test_without_any_code_everything_is_settled(tmp_path: Path) -> None:
    code = Code(tmp_path, on_change=lambda _: None)

    assert code.is_settled(now_ms=SAVED_MS)
