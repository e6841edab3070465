"""The power is cut at 2,000 places of a daemon's life, and its disk fails at each of its first 300 calls."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from reliability.powercut import failing, failing_daemon, judge, record
from reliability.powercut.failing_daemon import Fault
from reliability.powercut.judge import Verdict

pytestmark = pytest.mark.timeout(600)

CUTS = 2_000
CUTS_OF_THE_PROOF = 100
CALLS = 300


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim."""
    return record.build(tmp_path_factory.mktemp("shim") / "iolog.so")


def cut(folder: Path, *, durability: str, cuts: int) -> Verdict:
    made = record.record(folder, seconds=4, durability=durability)
    return judge.judge(made.log, made.root, cuts=cuts, seed=1, migrates_at=made.migrates_at, durability=durability)


def test_a_power_cut_anywhere_loses_nothing_that_was_acknowledged_and_leaves_a_sound_file(tmp_path: Path) -> None:
    verdict = cut(tmp_path, durability="full", cuts=CUTS)

    assert verdict.examples == []
    assert (verdict.lost, verdict.broken) == (0, 0)
    assert verdict.images == CUTS * 3
    assert verdict.facts >= 300, "too few for a proof"


def test_with_durability_process_the_rig_finds_losses_and_never_a_broken_file(tmp_path: Path) -> None:
    verdict = cut(tmp_path, durability="process", cuts=CUTS_OF_THE_PROOF)

    assert verdict.lost >= CUTS_OF_THE_PROOF // 10
    assert verdict.broken == 0, verdict.examples


def test_whichever_call_the_disk_fails_at_nothing_acknowledged_is_lost_and_nobody_is_told_yes_wrongly(
    tmp_path: Path,
) -> None:
    report = failing.fail_everywhere(tmp_path, range(1, CALLS + 1))

    assert report.problems == []
    ends = report.ends
    for error in ("EIO", "ENOSPC"):
        # A sync that failed is never passed over; of writes, only those for which there was no space.
        assert ends[f"sync {error}: stopped"] + ends[f"sync {error}: not started"] == CALLS
    assert ends["write EIO: stopped"] + ends["write EIO: not started"] == CALLS
    assert ends["write ENOSPC: carried on"] + ends["write ENOSPC: not started"] == CALLS
    assert ends["write ENOSPC: carried on"] >= 100
    assert ends["truncate EIO: stopped"] >= 100


@pytest.mark.parametrize(
    "fault",
    [Fault("S", 33, errno.EIO), Fault("W", 301, errno.EIO), Fault("W", 302, errno.ENOSPC), Fault("S", 2, errno.EIO)],
    ids=str,
)
def test_the_daemon_says_which_file_failed_and_ends_or_goes_on_when_there_is_room_again(
    fault: Fault, tmp_path: Path, library: Path
) -> None:
    outcome = failing_daemon.fail(tmp_path / "app", fault, library=library)

    assert outcome.problems == [], outcome.words
    assert outcome.code == (0 if fault.is_full else 1)
