"""Loud: alerts reach people by every channel, grouped, and it is shown when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.acceptance.apps import greeting_app
from tests.support.dev import Dev, write
from tests.support.loud import Shopkeeper
from tests.support.receivers import Hook, Mailbox, program

FAILS = (
    "from tako import Context, workflow\n\n@workflow(retries=0)\ndef charges(ctx: Context, card: str) -> None:\n"
    "    raise ValueError(f'bad card {card}')\n"
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def app(**alerts: str) -> dict[str, str]:
    lines = "\n".join(f"{name} = {value}" for name, value in alerts.items())
    return {
        **greeting_app(),
        "workflows/charges.py": FAILS,
        "tako.toml": f'name = "shop"\n[alerts]\n{lines}\n',
    }


def test_a_dead_run_is_told_by_webhook_command_and_mail_and_a_test_tries_them(folder: Path) -> None:
    with Hook() as hook, Mailbox() as mailbox:
        mail = f'{{ to = "ops@example.com", smtp = "{mailbox.url}" }}'
        write(folder, app(webhook=f'"{hook.url}"', command=f'"{program(folder)}"', email=mail))
        with Dev(folder) as dev:
            dev.wait_for("alerts go out by webhook, command, email")
            ended = dev.tako("enqueue", "charges", "card=4242", "--wait")
            assert "ended as dead" in ended.stderr, ended.stderr

            assert hook.wait_of("dead_run")[0]["what"] == "charges is dead: ValueError"
            assert "charges is dead: ValueError" in mailbox.wait()[0]["Subject"]
            tried = dev.tako("alerts", "test")
            assert tried.returncode == 0, tried.stderr
            assert [line for line in tried.stderr.splitlines() if line.startswith("✔")] == [
                "✔ webhook delivered a test.", "✔ command delivered a test.", "✔ email delivered a test.",
            ]  # fmt: skip
            assert "4242" not in json.dumps(hook.items) + (folder / "told.txt").read_text()


def test_without_alerts_nobody_is_told(folder: Path) -> None:
    with Hook() as hook:
        write(folder, app(webhook=f'"{hook.url}"'))
        with Dev(folder, "--no-alerts") as dev:
            assert dev.tako("enqueue", "charges", "card=4242", "--wait").returncode == 1
            assert "No channel is set" in dev.tako("alerts", "test").stderr
        assert hook.items == []


def test_an_alert_that_is_not_delivered_is_a_problem_until_a_test_succeeds(shop: Shopkeeper) -> None:
    with shop(FAILS) as it:
        it.host.alarms.alerter._retry_delays_s = (0.01, 0.01)
        it.hook.answers = [503] * 3
        it.dead(it.enqueue("charges", card="4242"))

        problem = it.problem("undelivered_alerts")
        assert problem["what"] == "1 alert not delivered by webhook: the webhook answered 503 Service Unavailable"
        it.logged("error", "an alert was not delivered by webhook: the webhook answered 503")

        assert it.ok("test_alerts") == {"channels": [{"channel": "webhook", "error": None}]}
        it.no_problem("undelivered_alerts")


def test_a_hundred_deaths_of_one_cause_are_two_messages(shop: Shopkeeper) -> None:
    with shop(FAILS) as it:
        runs = [it.enqueue("charges", card=str(number)) for number in range(100)]
        for run_id in runs:
            it.ended(run_id, status="dead")
        it.alerted("dead_run")

    told = it.hook.of("dead_run")
    assert [alert["count"] for alert in told] == [1, 100]
    assert "100 × charges is dead: ValueError" in told[-1]["text"]
