"""The spool of a process: every line once, in order, harmless to a terminal, and bounded on the disk."""

# ruff: noqa: ASYNC240, ASYNC110 -- a test's loop has nobody else to wait for

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tako.supervisor import inotify, output

DEADLINE_S = 20


@pytest.fixture(params=["inotify", "poll"])
def watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of noticing growth."""
    if request.param == "poll":

        def no_inotify(*_: object) -> None:
            raise OSError("no inotify here")

        monkeypatch.setattr(inotify, "_Inotify", no_inotify)
        monkeypatch.setattr(inotify, "_POLL_S", 0.005)


def on_a_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), DEADLINE_S))


class Lines(list[str]):
    """Lines that came, and a wait for a number of them."""

    async def until(self, count: int) -> list[str]:
        while len(self) < count:
            await asyncio.sleep(0.002)
        return list(self)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "w.spool"


def append(spool: Path, content: bytes) -> None:
    with spool.open("ab", buffering=0) as file:
        file.write(content)


def all_lines(spool: Path, **options: Any) -> list[str]:
    """What a follower makes of a spool whose process has ended."""
    lines: list[str] = []

    async def work() -> None:
        await output.follow(spool, lines.append, **options).finish()

    on_a_loop(work)
    return lines


@pytest.mark.usefixtures("watching")
def test_each_line_is_handed_over_when_it_is_written_and_once(spool: Path) -> None:
    async def work() -> None:
        lines = Lines()
        append(spool, b"before\n")
        follower = output.follow(spool, lines.append)
        await lines.until(1)
        append(spool, b"half")
        append(spool, b" a line\nanother\n")

        assert await lines.until(3) == ["before", "half a line", "another"]
        await follower.finish()
        assert lines == ["before", "half a line", "another"]

    on_a_loop(work)


def test_a_file_that_does_not_grow_wakes_nobody(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        lines = Lines()
        append(spool, b"one\n")
        follower = output.follow(spool, lines.append)
        await lines.until(1)
        reads = 0
        read = os.pread

        def count(fd: int, length: int, at: int) -> bytes:
            nonlocal reads
            reads += 1
            return read(fd, length, at)

        monkeypatch.setattr(os, "pread", count)
        quiet = False
        while not quiet:  # the event of the last write may still be on its way; a poll would never be quiet
            reads = 0
            await asyncio.sleep(0.2)
            quiet = reads == 0
        follower.detach()

    on_a_loop(work)


def test_what_was_printed_by_now_can_be_had_at_once(spool: Path) -> None:
    async def work() -> None:
        lines: list[str] = []
        follower = output.follow(spool, lines.append)
        append(spool, b"one\ntwo\nhalf")

        output.catch_up()  # no other turn of the loop before the next line

        assert lines == ["one", "two"]
        await follower.finish()
        assert lines == ["one", "two", "half"]
        output.catch_up()

    on_a_loop(work)


def test_the_last_line_counts_without_its_newline(spool: Path) -> None:
    append(spool, b"one\nMemoryError")

    assert all_lines(spool) == ["one", "MemoryError"]


def test_the_last_200_lines_are_kept(spool: Path) -> None:
    append(spool, b"".join(b"%d\n" % n for n in range(1000)))

    async def work() -> None:
        follower = output.follow(spool, lambda line: None)
        await follower.finish()
        assert list(follower.tail) == [str(n) for n in range(800, 1000)]

    on_a_loop(work)


def test_a_line_over_64_kib_is_cut_with_a_mark_and_the_next_one_is_whole(spool: Path) -> None:
    append(spool, b"x" * 300_000 + b"\nnext\n" + b"y" * 65_537)

    lines = all_lines(spool)

    assert [line[:3] for line in lines] == ["xxx", "nex", "yyy"]
    assert lines[0] == "x" * 65_536 + " … (cut: a line may have 64 KiB)"
    assert lines[1] == "next"
    assert lines[2].endswith("64 KiB)")


def test_control_characters_can_neither_forge_a_line_nor_move_the_cursor() -> None:
    assert output.clean("a\rb") == "a\\rb"
    assert output.clean("\x1b]0;title\x07\x1b[2Jx") == "\\x1b]0;title\\x07\\x1b[2Jx"
    assert output.clean("a\x00b\x7fc\x9bd\x85e") == "a\\x00b\\x7fc\\x9bd\\x85e"
    assert output.clean("a\u2028b\u202ec") == "a\\u2028b\\u202ec"


def test_colours_and_a_carriage_return_at_the_end_are_taken_out_and_tabs_and_letters_stay() -> None:
    assert output.clean("\x1b[1;31mred\x1b[0m\tgrün ✔\r") == "red\tgrün ✔"


def test_bytes_that_are_no_text_are_shown_as_such(spool: Path) -> None:
    append(spool, b"\xff\xfe ok\n")

    assert all_lines(spool) == ["\ufffd\ufffd ok"]


def test_secrets_are_taken_out_before_anybody_sees_or_keeps_a_line(spool: Path) -> None:
    append(spool, b"key is hunter22\n")

    async def work() -> None:
        lines: list[str] = []
        follower = output.follow(spool, lines.append, redact=lambda text: text.replace("hunter22", "[secret KEY]"))
        await follower.finish()

        assert lines == list(follower.tail) == ["key is [secret KEY]"]

    on_a_loop(work)


def test_what_was_read_is_given_back_to_the_disk(spool: Path) -> None:
    async def work() -> None:
        lines = Lines()
        follower = output.follow(spool, lines.append)
        for _ in range(16):
            append(spool, b"".join(b"%0100d\n" % n for n in range(5_000)))
        await lines.until(80_000)
        await asyncio.sleep(0.05)

        assert spool.stat().st_size > 8_000_000
        assert spool.stat().st_blocks * 512 < 2_000_000
        follower.detach()

    on_a_loop(work)


def test_a_file_system_that_cannot_punch_holes_is_truncated_instead(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_punch_hole", lambda fd, end: False)

    async def work() -> None:
        lines = Lines()
        follower = output.follow(spool, lines.append)
        for _ in range(3):
            count = len(lines)
            append(spool, b"".join(b"%0100d\n" % n for n in range(15_000)))
            await lines.until(count + 15_000)
        assert spool.stat().st_size < 3_000_000
        append(spool, b"still heard\n")
        assert (await lines.until(45_001))[-1] == "still heard"
        follower.detach()

    on_a_loop(work)


def test_output_that_comes_faster_than_it_can_be_read_is_skipped_and_said_to_be(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_BACKLOG_BYTES", 1 << 20)
    append(spool, b"".join(b"%0399d\n" % n for n in range(10_000)))

    lines = all_lines(spool)

    assert lines[0] == "… 2.8 MiB of output skipped: it was printed faster than it could be read"
    assert lines[-1] == f"{9_999:0399d}"
    assert 2_500 < len(lines) < 2_700
    assert {len(line) for line in lines[1:]} == {399}, "no line was cut in two"


def test_the_next_engine_goes_on_where_this_one_stopped(spool: Path) -> None:
    async def work() -> None:
        lines = Lines()
        append(spool, b"one\ntwo\nthr")
        first = output.follow(spool, lines.append)
        await lines.until(2)
        first.detach()
        append(spool, b"ee\nfour\n")
        second = output.follow(spool, lines.append)

        assert await lines.until(4) == ["one", "two", "three", "four"]
        await second.finish()
        assert list(spool.parent.iterdir()) == []

    on_a_loop(work)


def test_what_a_process_printed_while_no_engine_ran_is_not_lost(spool: Path) -> None:
    append(spool, b"last words\n")

    assert all_lines(spool) == ["last words"]


def test_stopping_twice_does_no_harm_and_leaves_nothing_open(spool: Path) -> None:
    async def work() -> None:
        before = sum(1 for _ in Path("/proc/self/fd").iterdir())
        follower = output.follow(spool, lambda line: None)
        await follower.finish()
        await follower.finish()
        follower.detach()
        assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before

    on_a_loop(work)


def test_many_spools_share_one_inotify(tmp_path: Path) -> None:
    def inotifies() -> int:
        return sum("inotify" in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())

    async def work() -> None:
        lines, before = Lines(), inotifies()
        followers = [output.follow(tmp_path / f"{n}.spool", lines.append) for n in range(5)]
        await asyncio.sleep(output.PAUSE_S * 2)
        for n in range(5):
            append(tmp_path / f"{n}.spool", b"%d\n" % n)

        assert sorted(await lines.until(5)) == ["0", "1", "2", "3", "4"]
        assert inotifies() == before + 1
        for follower in followers:
            follower.detach()
        assert inotifies() == before

    on_a_loop(work)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"msg": "draining", "level": "info"}', "draining"),
        ('{"msg": "a\\u001b[2Jb"}', "a\\x1b[2Jb"),
        ('{"msg"', '{"msg"'),
        ("KeyError: 'x'", "KeyError: 'x'"),
    ],
)
def test_a_structured_line_is_shown_by_its_message(line: str, shown: str) -> None:
    assert output.plain(line) == shown


def test_a_flood_of_lines_is_read_in_turns_that_leave_the_loop_to_others(spool: Path) -> None:
    turns: list[int] = []
    lines = Lines()

    async def work() -> None:
        append(spool, b"\n" * 100_000)
        follower = output.follow(spool, lines.append)
        seen = 0
        while len(lines) < 20_000:
            await asyncio.sleep(0)
            if len(lines) > seen:
                turns.append(len(lines) - seen)
                seen = len(lines)
        follower.discard()

    on_a_loop(work)

    assert max(turns) <= output.SLICE_LINES


def test_the_exit_of_a_process_that_flooded_its_spool_waits_for_its_last_words_only(spool: Path) -> None:
    append(spool, b"\n" * 5_000_000 + b"".join(b"%d\n" % n for n in range(20_000)))

    lines = all_lines(spool)

    assert lines[0].endswith("MiB of output skipped: it was printed faster than it could be read")
    assert "lines of output skipped: its last 10,000 follow" in lines[1]
    assert lines[-1] == "19999"
    assert len(lines) <= output.MAX_LAST_LINES + 2


def test_a_line_full_of_control_characters_costs_no_more_than_another(spool: Path) -> None:
    def seconds(text: str) -> float:
        began = time.process_time()
        output.clean(text)
        return time.process_time() - began

    text = "\x01" * 65_536

    assert output.clean(text) == "\\x01" * 65_536
    assert min(seconds(text) for _ in range(5)) < 0.02


def test_a_secret_that_was_printed_is_gone_from_the_disk_when_its_line_has_been_read(spool: Path) -> None:
    lines = Lines()

    async def work() -> None:
        append(spool, b"the key is hunter2!\nand half a ")
        follower = output.follow(spool, lines.append, redact=lambda text: text.replace("hunter2!", "[secret KEY]"))
        await lines.until(1)
        while b"hunter2!" in spool.read_bytes():
            await asyncio.sleep(0.002)
        append(spool, b"line\n")
        await lines.until(2)
        follower.discard()

    on_a_loop(work)

    assert lines == ["the key is [secret KEY]", "and half a line"]
