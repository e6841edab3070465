"""What a booting process prints is shown once: in the stream if it boots, in the box if it does not."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tako.dev import boots
from tako.dev.boots import BootLines
from tako.protocol.messages import LogLine


def line(text: str, *, pid: int = 7, scope: str = "worker", group: str | None = "mail") -> LogLine:
    found = {"ts_ms": 1, "level": "info", "scope": scope, "message": text, "pid": pid}
    return cast(LogLine, found if group is None else {**found, "group": group})


class Scene:
    def __init__(self) -> None:
        self.shown: list[str] = []
        self.booting = {7}
        self.lines = BootLines(
            show=lambda line: self.shown.append(line["message"]), is_booting=lambda pid: pid in self.booting
        )


def test_lines_of_a_boot_that_succeeds_are_shown_when_it_does() -> None:
    async def story() -> None:
        scene = Scene()
        scene.lines.line(line("one"))
        scene.lines.line(line("two"))
        assert scene.shown == []
        scene.booting.clear()
        scene.lines.settle()
        assert scene.shown == ["one", "two"]

    asyncio.run(story())


@pytest.mark.parametrize(("scope", "group"), [("worker", "mail"), ("web", None)])
def test_lines_of_a_boot_that_fails_are_left_to_the_box(scope: str, group: str | None) -> None:
    async def story() -> None:
        scene = Scene()
        scene.lines.line(line("Traceback", scope=scope, group=group))
        scene.booting.clear()
        scene.lines.drop(scope=scope, group=group)
        scene.lines.settle()
        assert scene.shown == []

    asyncio.run(story())


def test_lines_of_another_group_stay() -> None:
    async def story() -> None:
        scene = Scene()
        scene.lines.line(line("mine"))
        scene.booting.clear()
        scene.lines.drop(scope="worker", group="other")
        scene.lines.settle()
        assert scene.shown == ["mine"]

    asyncio.run(story())


def test_a_boot_that_hangs_shows_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boots, "HELD_S", 0.0)

    async def story() -> None:
        scene = Scene()
        released = asyncio.Event()

        def show(line: LogLine) -> None:
            scene.shown.append(line["message"])
            released.set()

        scene.lines = BootLines(show=show, is_booting=lambda pid: True)
        scene.lines.line(line("connecting to the database…"))
        async with asyncio.timeout(5):
            await released.wait()
        assert scene.shown == ["connecting to the database…"]

    asyncio.run(story())


def test_what_a_working_process_prints_is_shown_at_once() -> None:
    async def story() -> None:
        scene = Scene()
        scene.lines.line(line("hello", pid=8))
        scene.lines.line(line("Stopping…", pid=0, scope="tako", group=None))
        assert scene.shown == ["hello", "Stopping…"]

    asyncio.run(story())
