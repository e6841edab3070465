from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, cast

import pytest

from tako.logs.files import LogFiles, last_crash, read
from tako.logs.filters import Filter
from tako.protocol.messages import LogLine

DAY_MS = 86_400_000
TODAY_MS = 1_795_435_200_000  # 2026-11-23 12:00 UTC


def line(message: str, *, ts_ms: int = TODAY_MS, **more: Any) -> LogLine:
    return cast(LogLine, {"ts_ms": ts_ms, "level": "info", "scope": "worker", "message": message, **more})


def messages(lines: list[LogLine]) -> list[str]:
    return [entry["message"] for entry in lines]


def test_what_was_written_is_read_back_oldest_first(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    for number in range(5):
        files.write(line(f"{number} ü\n\ud800"))
    files.close()

    assert [text[0] for text in messages(read(tmp_path / "logs", limit=3))] == ["2", "3", "4"]


def test_a_file_is_of_one_day_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs")
    files.write(line("a"))
    files.write(line("b", ts_ms=TODAY_MS + DAY_MS))
    files.close()

    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "tako-20261123.jsonl",
        "tako-20261124.jsonl",
    ]
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "logs").iterdir())


def test_a_full_file_is_followed_by_another_of_the_same_day(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, max_file_bytes=300)
    for number in range(12):
        files.write(line(f"{number:03}"))
    files.close()

    assert all(path.stat().st_size <= 300 for path in tmp_path.iterdir())
    assert messages(read(tmp_path, limit=100)) == [f"{number:03}" for number in range(12)]


def test_more_than_nine_files_of_a_day_keep_their_order(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, max_file_bytes=80)
    for number in range(30):
        files.write(line(f"{number:03}"))
    files.close()

    assert messages(read(tmp_path, limit=100)) == [f"{number:03}" for number in range(30)]


def test_old_files_are_removed(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, max_age_days=14)
    for days in (0, 10, 20):
        files.write(line(str(days), ts_ms=TODAY_MS + days * DAY_MS))
    files.close()

    assert messages(read(tmp_path, limit=100)) == ["10", "20"]


def test_the_oldest_files_go_when_the_sum_is_too_large(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, max_file_bytes=100, max_total_bytes=350)
    for number in range(40):
        files.write(line(f"{number:03}"))
    files.close()

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 450
    assert messages(read(tmp_path, limit=100))[-1] == "039"


def test_a_restart_goes_on_in_the_same_file_also_after_a_torn_line(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.write(line("before"))
    files.close()
    with (tmp_path / "tako-20261123.jsonl").open("ab") as file:
        file.write(b'{"ts_ms": 17')

    files = LogFiles(tmp_path)
    files.write(line("after"))
    files.close()

    assert messages(read(tmp_path, limit=10)) == ["before", "after"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_stops_nobody_and_the_loss_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LogFiles(tmp_path)
    files.write(line("before"))
    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        if files.lost:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        files.write(line("lost 1"))
        files.write(line("lost 2"))
    assert files.lost == 2
    files.write(line("after"))
    files.close()

    assert messages(read(tmp_path, limit=10)) == [
        "before",
        "2 log lines could not be written to this file (disk full?) and are not in it",
        "after",
    ]


def test_reading_takes_a_filter_and_a_time(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.write(line("old", run_id="r1"))
    files.write(line("mine", ts_ms=TODAY_MS + 1000, run_id="r1"))
    files.write(line("other", ts_ms=TODAY_MS + 1000, run_id="r2"))
    files.close()

    assert messages(read(tmp_path, Filter(run="r1"), limit=10, since_ms=TODAY_MS + 500)) == ["mine"]


def test_damaged_and_foreign_lines_are_skipped(tmp_path: Path) -> None:
    good = json.dumps(line("good"))
    (tmp_path / "tako-20261123.jsonl").write_text(f'nonsense\n[]\n{{"a": 1}}\n{good}\n\xff')
    (tmp_path / "notes.txt").write_text("not a log")

    assert messages(read(tmp_path, limit=10)) == ["good"]
    assert read(tmp_path / "nowhere", limit=10) == []


def test_the_last_crash_is_found_in_the_files(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    files.write(line("Traceback", pid=1))
    files.write(line("worker exited", pid=1, fields={"crash": True}))
    files.write(line("next day", ts_ms=TODAY_MS + DAY_MS, pid=2))
    files.close()

    assert messages(last_crash(tmp_path)) == ["Traceback", "worker exited"]
    assert last_crash(tmp_path, group="mail") == []


def test_reading_ends_where_older_lines_begin(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, max_file_bytes=200)
    for second in range(20):
        files.write({"ts_ms": 1_800_000_000_000 + second * 1_000, "level": "info", "scope": "web", "message": "x" * 60})
    files.close()
    kept = sorted(tmp_path.iterdir())
    assert len(kept) > 5

    for path in kept[:-3]:
        path.write_bytes(b"this file must not be read: it would be found\n" + path.read_bytes())
    found = read(tmp_path, limit=100, since_ms=1_800_000_000_000 + 17_000)

    assert [line["ts_ms"] % 100_000 // 1000 for line in found] == [17, 18, 19]
    assert len(read(tmp_path, limit=100, max_files=2)) < 5
