"""Alerts delivered beside the engine's work, tried again, and shown when nobody could be reached."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tako.alerts.alert import Alert, Sender
from tako.alerts.alerter import MAX_WAITING, Alerter
from tako.config.model import Alerts, EmailAlert
from tests.support.clock import FakeClock
from tests.support.receivers import Hook, Mailbox, program

PATIENCE_S = 20.0


class Desk:
    """An alerter, and what it logged."""

    def __init__(self, settings: Alerts, root: Path, *, retry_delays_s: tuple[float, ...] = (0.01, 0.01)) -> None:
        self.clock = FakeClock()
        self.logged: list[tuple[str, str]] = []
        self.alerter = Alerter(
            settings,
            sender=Sender(app="shop", environment="development", machine="here"),
            root=root,
            clock=self.clock,
            log=lambda level, text: self.logged.append((level, text)),
            redact=lambda text: text.replace("hunter22", "[secret]"),
            retry_delays_s=retry_delays_s,
        )

    def strike(self, times: int = 1, *, cause: str = "TimeoutError") -> None:
        for _ in range(times):
            self.alerter.tell(Alert(kind="dead_run", cause=cause, what=f"charge is dead: {cause}"))

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 -- it may be anything
                await asyncio.sleep(0.002)


def on_a_loop(story: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(story(), PATIENCE_S * 2))


def test_an_alert_reaches_every_channel(tmp_path: Path, hook: Hook) -> None:
    with Mailbox() as mailbox:
        settings = Alerts(
            webhook=hook.url, command=program(tmp_path), email=EmailAlert(to="ops@example.com", smtp=mailbox.url)
        )

        async def story() -> None:
            desk = Desk(settings, tmp_path)
            desk.strike()
            await desk.alerter.stop()
            assert desk.alerter.failures() == []

        on_a_loop(story)

        assert hook.wait()[0]["count"] == 1
        assert "charge is dead" in mailbox.wait()[0]["Subject"]
        assert "charge is dead" in (tmp_path / "told.txt").read_text()


def test_500_deaths_are_two_messages_the_first_at_once_and_the_summary_at_the_end(tmp_path: Path, hook: Hook) -> None:
    async def story() -> None:
        desk = Desk(Alerts(webhook=hook.url), tmp_path)
        desk.strike(500)
        await desk.until(lambda: hook.items)
        assert [item["count"] for item in hook.items] == [1]
        await desk.alerter.stop()

    on_a_loop(story)

    assert [item["count"] for item in hook.wait(2)] == [1, 500]


def test_telling_does_not_wait_for_a_slow_receiver(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(Alerts(command="sleep 60"), tmp_path)
        loop = asyncio.get_running_loop()
        before = loop.time()
        for number in range(MAX_WAITING * 3):
            desk.strike(cause=f"cause {number}")
        assert loop.time() - before < 1.0
        (failure,) = desk.alerter.failures()
        assert failure.lost >= MAX_WAITING
        for line in desk.alerter._lines:
            assert line.task is not None
            line.task.cancel()
        await desk.alerter.stop()

    on_a_loop(story)


def test_a_delivery_that_fails_is_tried_again(tmp_path: Path, hook: Hook) -> None:
    hook.answers = [500, 503]

    async def story() -> None:
        desk = Desk(Alerts(webhook=hook.url), tmp_path)
        desk.strike()
        await desk.until(lambda: len(hook.items) == 3)
        await desk.alerter.stop()
        assert desk.alerter.failures() == []
        assert desk.logged == []

    on_a_loop(story)


def test_a_delivery_that_fails_for_good_is_shown_and_logged_once(tmp_path: Path, hook: Hook) -> None:
    hook.answers = [500] * 6

    async def story() -> None:
        desk = Desk(Alerts(webhook=hook.url), tmp_path)
        desk.strike(cause="one")
        desk.strike(cause="two")
        await desk.until(lambda: [failure.lost for failure in desk.alerter.failures()] == [2])
        (failure,) = desk.alerter.failures()
        assert (failure.channel, failure.since_ms) == ("webhook", desk.clock.now_ms())
        assert failure.why == "the webhook answered 500 Internal Server Error"
        assert [level for level, _ in desk.logged] == ["error"]

        desk.strike(cause="three")
        await desk.until(lambda: not desk.alerter.failures())
        assert desk.logged[-1] == ("info", "alerts reach their webhook again")
        await desk.alerter.stop()

    on_a_loop(story)


def test_one_broken_channel_does_not_keep_the_others_from_telling(tmp_path: Path, hook: Hook) -> None:
    async def story() -> None:
        desk = Desk(Alerts(webhook=hook.url, command="not-installed"), tmp_path)
        desk.strike()
        await desk.until(lambda: hook.items and desk.alerter.failures())
        assert [failure.channel for failure in desk.alerter.failures()] == ["command"]
        await desk.alerter.stop()

    on_a_loop(story)


def test_the_words_of_a_failure_are_redacted(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(Alerts(command=program(tmp_path, exit_code=1, says="key hunter22")), tmp_path, retry_delays_s=())
        desk.strike()
        await desk.until(lambda: desk.alerter.failures())
        assert "[secret]" in desk.alerter.failures()[0].why
        assert "hunter22" not in str(desk.logged)
        await desk.alerter.stop()

    on_a_loop(story)


def test_a_test_tries_each_channel_once_tells_what_happened_and_mends_what_works_again(
    tmp_path: Path, hook: Hook
) -> None:
    hook.answers = [500]

    async def story() -> None:
        desk = Desk(Alerts(webhook=hook.url, command="not-installed"), tmp_path, retry_delays_s=())
        desk.strike()
        await desk.until(lambda: len(desk.alerter.failures()) == 2)

        found = dict(await desk.alerter.test())

        assert found["webhook"] is None
        assert found["command"] is not None and "could not be started" in found["command"]
        assert [failure.channel for failure in desk.alerter.failures()] == ["command"]
        assert hook.items[-1]["kind"] == "test"
        await desk.alerter.stop()

    on_a_loop(story)


def test_without_a_channel_nothing_is_gathered_and_nothing_started(tmp_path: Path) -> None:
    async def story() -> None:
        desk = Desk(Alerts(), tmp_path)
        threads = threading.active_count()
        desk.strike(10)
        assert not desk.alerter.is_used
        assert threading.active_count() == threads
        assert await desk.alerter.test() == []
        await desk.alerter.stop()
        await desk.alerter.stop()

    on_a_loop(story)


def test_changed_settings_are_those_of_the_next_alert(tmp_path: Path, hook: Hook) -> None:
    async def story() -> None:
        desk = Desk(Alerts(command="not-installed"), tmp_path, retry_delays_s=())
        desk.strike(cause="one")
        await desk.until(lambda: desk.alerter.failures())
        desk.alerter.reconfigure(Alerts(webhook=hook.url))
        assert desk.alerter.failures() == []
        desk.strike(cause="two")
        await desk.until(lambda: hook.items)
        await desk.alerter.stop()

    on_a_loop(story)
