"""The screen in a real terminal (tmux), which wraps, scrolls and resizes as people's terminals do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import session_driver
from tests.support.dev import until

pytestmark = pytest.mark.acceptance

TRACEBACK = "\n".join([
    "Traceback (most recent call last):",
    '  File "workflows/send_email.py", line 3, in <module>',
    "    from a_package_with_a_rather_long_name.and_a_module import a_name_that_is_long_as_well, another_one",
    "ModuleNotFoundError: No module named 'a_package_with_a_rather_long_name'",
])  # fmt: skip
KEY = "workflows/send_email.py"


class Tmux:
    def __init__(self, folder: Path, *, columns: int, rows: int) -> None:
        assert shutil.which("tmux"), "these tests read a real terminal: install tmux"
        self.server = ["tmux", "-f", os.devnull, "-S", str(folder / "tmux")]
        control = folder / "control"
        program = [sys.executable, str(Path(session_driver.__file__)), str(control)]
        size = ["-x", str(columns), "-y", str(rows)]
        # The shell stays when the driver ends, so that the screen it left can be read.
        command = f"PS1='$ ' TZ=UTC {' '.join(program)}; exec cat"
        environment = {**os.environ, "TERM": "screen-256color", "LC_ALL": "C.UTF-8"}
        for name in ("COLUMNS", "LINES"):  # pytest-xdist sets one; programs believe it more than the terminal
            environment.pop(name, None)
        subprocess.run([*self.server, "new-session", "-d", *size, command], check=True, env=environment)
        self.socket = until(lambda: _connected(control), what="the driver listens")
        self.replies = self.socket.makefile("r")

    def do(self, action: str, **fields: Any) -> None:
        self.socket.sendall(json.dumps([action, fields]).encode() + b"\n")
        assert self.replies.readline() == "done\n"

    def tmux(self, *words: str) -> str:
        return subprocess.run([*self.server, *words], check=True, capture_output=True, text=True).stdout

    def resize(self, columns: int, rows: int) -> None:
        """Returns when programs in it can know: what they write before is drawn for the size that was."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))
        fd = os.open(self.tmux("display", "-p", "#{pane_tty}").strip(), os.O_RDONLY | os.O_NOCTTY)
        try:
            until(lambda: os.get_terminal_size(fd) == (columns, rows), what=f"{columns} x {rows}")
        finally:
            os.close(fd)

    def screen(self) -> list[str]:
        return self.tmux("capture-pane", "-p").rstrip("\n").split("\n")

    def shows(self, wanted: Callable[[list[str]], bool], *, what: str) -> list[str]:
        """The screen, as soon as it is as wanted: a terminal does not say when it has drawn."""
        return until(lambda: (lambda screen: screen if wanted(screen) else None)(self.screen()), what=what)

    def close(self) -> None:
        self.replies.close()
        self.socket.close()
        subprocess.run([*self.server, "kill-server"], check=False, capture_output=True)


def _connected(path: Path) -> socket.socket | None:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(20)
    try:
        found.connect(str(path))
    except OSError:  # not there, or bound and not yet listening
        found.close()
        return None
    return found


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Tmux]]:
    opened: list[Tmux] = []
    with tempfile.TemporaryDirectory(prefix="tako-tmux-") as folder:  # short: it holds sockets

        def build(*, columns: int, rows: int) -> Tmux:
            opened.append(Tmux(Path(folder), columns=columns, rows=rows))
            return opened[-1]

        yield build
        for terminal in opened:
            terminal.close()


def is_last(screen: list[str]) -> bool:
    """One whole box, and nothing below it."""
    tops = [row for row in screen if row.startswith("╭")]
    return len(tops) == 1 and screen[-1].startswith("╰") and sum(row.startswith("╰") for row in screen) == 1


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_the_box_stays_last_while_lines_rush_past_and_goes_when_it_is_mended(
    open_terminal: Callable[..., Tmux], columns: int, rows: int
) -> None:
    terminal = open_terminal(columns=columns, rows=rows)
    terminal.do("header", app="my-app", version="1", urls=["http://localhost:8000"])
    terminal.do("problem", key=KEY, title=f"{KEY} cannot be imported", body=TRACEBACK)

    terminal.do("log", first=0, last=2000)
    screen = terminal.shows(lambda rows: any("GET /1999 " in row for row in rows), what="the last line")
    assert is_last(screen)
    assert all(len(row) <= columns for row in screen)

    terminal.do("mended", key=KEY)
    screen = terminal.shows(lambda rows: any("is mended" in row for row in rows), what="the good news")
    assert not any(row.startswith(("╭", "│", "╰")) for row in screen)


def test_after_every_resize_there_is_one_whole_box_and_it_is_last(open_terminal: Callable[..., Tmux]) -> None:
    terminal = open_terminal(columns=120, rows=40)
    terminal.do("problem", key=KEY, title=f"{KEY} cannot be imported", body=TRACEBACK)
    number = 0

    for columns, rows in ((80, 24), (200, 50), (60, 20), (100, 12), (120, 40)):
        terminal.resize(columns, rows)
        terminal.do("log", first=number, last=number + 50)
        number += 50
        newest = f"GET /{number - 1} "
        screen = terminal.shows(
            lambda shown, newest=newest: any(newest in row for row in shown) and is_last(shown),  # type: ignore[misc]
            what=f"one box, last, at {columns} x {rows}",
        )
        assert all(len(row) <= columns for row in screen)


def test_the_terminal_is_usable_after_the_session(open_terminal: Callable[..., Tmux]) -> None:
    terminal = open_terminal(columns=80, rows=24)
    terminal.do("problem", key=KEY, title="broken", body="why")
    assert any("Keys: q quit" in row for row in terminal.screen())

    terminal.tmux("send-keys", "q")  # a key, without Enter
    until(lambda: terminal.tmux("display", "-p", "#{pane_current_command}").strip() == "cat" or None, what="the end")
    terminal.tmux("send-keys", "echoed")

    assert terminal.shows(lambda rows: rows[-1] == "echoed", what="what was typed")[-2].startswith("╰")
