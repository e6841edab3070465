from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tako.dev.printer import Printer

DEADLINE_S = 10


class Paper:
    """Takes what is written; can be paused, as a terminal by Ctrl-S, and hung up."""

    def __init__(self) -> None:
        self.text = ""
        self.writes = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_waiting = threading.Event()
        self.is_gone = False

    def write(self, text: str) -> None:
        if not self.is_open.is_set():
            self.is_waiting.set()
            assert self.is_open.wait(DEADLINE_S)
        if self.is_gone:
            raise OSError(5, "Input/output error")
        self.writes += 1
        self.text += text

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def make(paper: Paper) -> Iterator[Callable[..., Printer]]:
    made: list[Printer] = []

    def build(*, pinned: tuple[str, ...] = (), max_lines: int = 10_000) -> Printer:
        printer = Printer(
            paper.write,
            size=lambda: (80, 24),
            pinned=lambda columns, rows: pinned,
            dropped=lambda count: f"{count} dropped",
            max_lines=max_lines,
        )
        made.append(printer)
        return printer

    yield build
    paper.is_open.set()
    for printer in made:
        printer.close()


def test_lines_come_out_in_order(paper: Paper, make: Callable[..., Printer]) -> None:
    printer = make()

    for number in range(1000):
        printer.print([str(number)])

    assert printer.flush(timeout_s=DEADLINE_S)
    assert paper.lines == [str(number) for number in range(1000)]


def test_a_paused_terminal_holds_nobody_up_and_loses_the_oldest_lines(
    paper: Paper, make: Callable[..., Printer]
) -> None:
    printer = make(max_lines=10)
    paper.is_open.clear()
    printer.print(["first"])
    assert paper.is_waiting.wait(DEADLINE_S)

    for number in range(100):
        printer.print([str(number)])
    assert not printer.flush(timeout_s=0)
    paper.is_open.set()

    assert printer.flush(timeout_s=DEADLINE_S)
    assert paper.lines == ["first", "90 dropped", *(str(number) for number in range(90, 100))]


def test_many_lines_above_a_pinned_one_are_few_frames(paper: Paper, make: Callable[..., Printer]) -> None:
    printer = make(pinned=("PINNED",))

    for number in range(5000):
        printer.print([str(number)])

    assert printer.flush(timeout_s=DEADLINE_S)
    assert paper.writes < 500
    assert paper.lines[-1] == "PINNED"


def test_a_terminal_that_is_gone_is_given_up(paper: Paper, make: Callable[..., Printer]) -> None:
    printer = make()
    paper.is_gone = True

    printer.print(["to nobody"])
    printer.close()
    printer.print(["nor this"])

    assert paper.text == ""


def test_closing_writes_what_is_queued_and_twice_is_harmless(paper: Paper, make: Callable[..., Printer]) -> None:
    printer = make(pinned=("PINNED",))
    printer.print(["last words"])

    printer.close()
    printer.close()

    assert paper.lines == ["last words", "PINNED"]


def test_closing_does_not_wait_for_ever_for_a_paused_terminal(paper: Paper, make: Callable[..., Printer]) -> None:
    printer = make()
    paper.is_open.clear()
    printer.print(["x"])
    assert paper.is_waiting.wait(DEADLINE_S)

    printer.close(timeout_s=0.01)

    assert paper.text == ""
