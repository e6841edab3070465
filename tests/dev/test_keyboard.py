from __future__ import annotations

import asyncio
import os
import pty
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tako.dev.keyboard import Key, Keyboard

DEADLINE_S = 10


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pseudo terminal: our end, and the program's. We are in its foreground as far as the code can see."""
    ours, theirs = pty.openpty()
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp())
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def settings(fd: int) -> int:
    flags: int = termios.tcgetattr(fd)[3]
    return flags


def press(ours: int, theirs: int, typed: list[bytes]) -> list[str]:
    """Which keys were pressed by what was typed; typing ends with a `q`."""
    pressed: list[str] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        quit_ = asyncio.Event()
        one_read = asyncio.Event()

        def record(key: str) -> None:
            pressed.append(key)
            one_read.set()

        keys = {
            "r": Key("restart", lambda: record("r")),
            "q": Key("quit", quit_.set),
            "x": Key("x", lambda: record("x")),
        }
        keyboard = Keyboard(theirs, loop, keys)
        try:
            for data in typed:
                os.write(ours, data)
                if data in (b"r", b"x", b"R"):
                    async with asyncio.timeout(DEADLINE_S):
                        await one_read.wait()
                    one_read.clear()
            os.write(ours, b"q")
            async with asyncio.timeout(DEADLINE_S):
                await quit_.wait()
        finally:
            keyboard.close()

    asyncio.run(story())
    return pressed


def test_a_key_works_without_enter_in_either_case(terminal: tuple[int, int]) -> None:
    assert press(*terminal, [b"r", b"R", b"x"]) == ["r", "r", "x"]


def test_a_key_that_means_nothing_does_nothing(terminal: tuple[int, int]) -> None:
    assert press(*terminal, [b"z", b"\xff", b" "]) == []


def test_the_terminal_is_given_back_as_it_was(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = settings(theirs)

    async def story() -> int:
        keyboard = Keyboard(theirs, asyncio.get_running_loop(), {})
        during = settings(theirs)
        keyboard.close()
        keyboard.close()
        return during

    during = asyncio.run(story())

    assert before & termios.ECHO
    assert before & termios.ICANON
    assert not during & (termios.ECHO | termios.ICANON)
    assert during & termios.ISIG, "Ctrl-C must keep its meaning"
    assert settings(theirs) == before


def test_without_a_terminal_there_is_no_keyboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stdin").touch()

    async def story(stdin: object) -> Keyboard | None:
        monkeypatch.setattr("sys.stdin", stdin)
        return Keyboard.of_this_process(asyncio.get_running_loop(), {})

    with (tmp_path / "stdin").open() as file:
        assert asyncio.run(story(file)) is None
    assert asyncio.run(story(None)) is None


def test_in_the_background_the_terminal_is_left_alone(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, theirs = terminal
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() + 1)
    before = settings(theirs)

    async def story(stdin: object) -> Keyboard | None:
        monkeypatch.setattr("sys.stdin", stdin)
        return Keyboard.of_this_process(asyncio.get_running_loop(), {})

    with os.fdopen(os.dup(theirs)) as stdin:
        assert asyncio.run(story(stdin)) is None
    assert settings(theirs) == before
