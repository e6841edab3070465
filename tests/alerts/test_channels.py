"""Each way to tell, against a real receiver on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tako.alerts import channels
from tako.alerts.alert import Alert, Notice, Sender, subject, text
from tako.alerts.channels import Command, Email, Undelivered, Webhook, channels_of
from tako.config.model import Alerts, EmailAlert
from tests.support.receivers import Hook, Mailbox, program

SENDER = Sender(app="shop", environment="production", machine="fra1")
DEAD = Alert(
    kind="dead_run",
    cause="charge TimeoutError",
    what="charge is dead: TimeoutError",
    detail="run 0198",
    cure="See `tako runs show 0198`.",
)
ONE = Notice(alert=DEAD, count=1, first_ms=1_700_000_000_000, last_ms=1_700_000_000_000)
MANY = Notice(alert=DEAD, count=500, first_ms=1_700_000_000_000, last_ms=1_700_000_042_000)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


# --- words ----------------------------------------------------------------------------------------------------------


def test_a_message_says_who_where_what_and_what_to_do() -> None:
    assert text(ONE, SENDER).splitlines() == [
        "shop (production on fra1): charge is dead: TimeoutError",
        "  run 0198",
        "  At 2023-11-14 22:13:20 UTC.",
        "  See `tako runs show 0198`.",
    ]


def test_a_summary_says_how_often_and_since_when() -> None:
    assert subject(MANY, SENDER) == "shop (production on fra1): 500 × charge is dead: TimeoutError"
    assert "  500 times since 2023-11-14 22:13:20 UTC, last at 2023-11-14 22:14:02 UTC." in text(MANY, SENDER)


# --- webhook --------------------------------------------------------------------------------------------------------


def test_a_webhook_is_posted_json_that_chats_and_programs_can_read(hook: Hook) -> None:
    Webhook(hook.url).send(MANY, SENDER)

    (got,) = hook.wait()
    assert got["text"] == text(MANY, SENDER)
    assert got["content"] == got["text"]
    assert (got["app"], got["environment"], got["machine"]) == ("shop", "production", "fra1")
    assert (got["kind"], got["count"], got["first_ms"], got["last_ms"]) == (
        "dead_run", 500, 1_700_000_000_000, 1_700_000_042_000,
    )  # fmt: skip


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_webhook_that_answers_an_error_is_undelivered(hook: Hook, status: int) -> None:
    hook.answers = [status]

    with pytest.raises(Undelivered, match=f"the webhook answered {status}"):
        Webhook(hook.url).send(ONE, SENDER)


def test_a_redirected_webhook_is_undelivered_since_the_redirect_would_lose_the_message(hook: Hook) -> None:
    hook.answers = [302]

    with pytest.raises(Undelivered, match="the webhook answered 302"):
        Webhook(hook.url).send(ONE, SENDER)


def test_a_webhook_that_nobody_serves_is_undelivered_and_its_url_is_not_told() -> None:
    url = f"http://127.0.0.1:{closed_port()}/hooks/t0ken"

    with pytest.raises(Undelivered, match=r"could not be reached.*refused") as caught:
        Webhook(url).send(ONE, SENDER)

    assert "t0ken" not in str(caught.value)


def test_a_webhook_that_speaks_no_http_is_undelivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Undelivered, match="webhook"):
        Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/").send(ONE, SENDER)


# --- command --------------------------------------------------------------------------------------------------------


def test_a_command_reads_the_message_on_its_standard_input_in_the_folder_of_the_app(tmp_path: Path) -> None:
    Command(program(tmp_path), root=tmp_path).send(ONE, SENDER)

    assert (tmp_path / "told.txt").read_text() == f"dead_run|{text(ONE, SENDER)}\n"


def test_a_command_that_fails_is_undelivered_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="the command exited with status 3: no route to the pager"):
        Command(program(tmp_path, exit_code=3, says="no route to the pager"), root=tmp_path).send(ONE, SENDER)


def test_a_command_that_is_not_there_is_undelivered(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="could not be started: No such file or directory: 'not-installed'"):
        Command("not-installed --now", root=tmp_path).send(ONE, SENDER)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "COMMAND_TIMEOUT_S", 0.3)

    with pytest.raises(Undelivered, match=r"did not end within 0\.3s"):
        Command('sh -c "sleep 60 & sleep 60"', root=tmp_path).send(ONE, SENDER)


def test_a_command_runs_without_a_shell(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="could not be started"):
        Command("true;touch pwned", root=tmp_path).send(ONE, SENDER)

    assert not (tmp_path / "pwned").exists()


def test_a_command_that_was_meant_for_a_shell_says_so(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match=r"status 1: .*; no shell runs it, so >> was an argument: .* sh -c"):
        Command("cat >> told.txt", root=tmp_path).send(ONE, SENDER)


# --- mail -----------------------------------------------------------------------------------------------------------


def test_a_mail_arrives_with_its_subject_and_text(mailbox: Mailbox) -> None:
    Email(EmailAlert(to="ops@example.com", smtp=mailbox.url)).send(MANY, SENDER)

    (mail,) = mailbox.wait()
    assert mail["To"] == "ops@example.com"
    assert mail["Subject"] == "shop (production on fra1): 500 × charge is dead: TimeoutError"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"] and mail["Message-ID"] and mail["From"].startswith("tako@")
    assert mail.get_content().splitlines() == text(MANY, SENDER).splitlines()


def test_a_mail_that_is_refused_is_undelivered_with_the_servers_words(mailbox: Mailbox) -> None:
    mailbox.refusal = "550 no such mailbox"

    with pytest.raises(Undelivered, match="the mail server answered 550 no such mailbox"):
        Email(EmailAlert(to="ops@example.com", smtp=mailbox.url)).send(ONE, SENDER)


def test_a_mail_server_that_is_not_there_is_undelivered() -> None:
    with pytest.raises(Undelivered, match="the mail server could not be used: Connection refused"):
        Email(EmailAlert(to="ops@example.com", smtp=f"smtp://127.0.0.1:{closed_port()}")).send(ONE, SENDER)


def test_a_mail_server_that_takes_the_connection_and_says_nothing_is_undelivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(Undelivered, match=r"the mail server did not answer within 0\.2s"):
            Email(EmailAlert(to="ops@example.com", smtp=url)).send(ONE, SENDER)


def test_a_password_that_the_server_does_not_want_is_not_in_the_error(mailbox: Mailbox) -> None:
    url = mailbox.url.replace("smtp://", "smtp://ann:hunter22@")

    with pytest.raises(Undelivered, match="mail server") as caught:
        Email(EmailAlert(to="ops@example.com", smtp=url)).send(ONE, SENDER)

    assert "hunter22" not in str(caught.value)


def test_a_subject_with_line_breaks_makes_no_header_of_its_own(mailbox: Mailbox) -> None:
    forged = Notice(
        alert=Alert(kind="dead_run", cause="x", what="dead\r\nBcc: everybody@example.com"),
        count=1, first_ms=0, last_ms=0,
    )  # fmt: skip

    Email(EmailAlert(to="ops@example.com", smtp=mailbox.url)).send(forged, SENDER)

    (mail,) = mailbox.wait()
    assert mail["Bcc"] is None


# --- settings -------------------------------------------------------------------------------------------------------


def test_every_key_of_alerts_is_a_channel(tmp_path: Path) -> None:
    settings = Alerts(webhook="http://h/", command="true", email=EmailAlert(to="a@b", smtp="smtp://h"))

    assert [channel.name for channel in channels_of(settings, root=tmp_path)] == ["webhook", "command", "email"]
    assert channels_of(Alerts(), root=tmp_path) == []
