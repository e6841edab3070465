"""The three ways to tell: a webhook, a command, a mail. Each `send` blocks, and raises Undelivered with one sentence.

They are called in a thread. Neither a URL nor a password is in any error: both may open somebody's door.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import smtplib
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from tako.alerts import alert
from tako.alerts.alert import Notice, Sender
from tako.config.model import Alerts, EmailAlert

TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Undelivered(Exception):
    """A notice did not reach its receiver; the text says why."""


class Channel(Protocol):
    """A way to tell. `name` is what people call it."""

    @property
    def name(self) -> str:
        """`webhook`, `command` or `email`."""
        ...

    def send(self, notice: Notice, sender: Sender) -> None:
        """Deliver. Blocks; raises Undelivered."""
        ...


def channels_of(settings: Alerts, *, root: Path) -> list[Channel]:
    """The channels that `[alerts]` names. `root` is where a command runs."""
    found: list[Channel] = []
    if settings.webhook is not None:
        found.append(Webhook(settings.webhook))
    if settings.command is not None:
        found.append(Command(settings.command, root=root))
    if settings.email is not None:
        found.append(Email(settings.email))
    return found


class Webhook:
    """POSTs a JSON object; any 2xx is a delivery."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, notice: Notice, sender: Sender) -> None:
        """Deliver. Raises Undelivered."""
        body = json.dumps(alert.document(notice, sender), ensure_ascii=False).encode("utf-8", "backslashreplace")
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "tako"}
        try:
            request = urllib.request.Request(self._url, data=body, headers=headers)
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            with error:
                raise Undelivered(f"the webhook answered {error.code} {error.reason}".rstrip()) from None
        except urllib.error.URLError as error:
            raise Undelivered(f"the webhook could not be reached: {error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Undelivered(f"the webhook did not answer as one: {type(error).__name__}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Following one turns our POST into a GET without a body: answered well, and nobody was told."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class Command:
    """Runs a program, without a shell, with the message on its standard input; exit code 0 is a delivery."""

    name = "command"

    def __init__(self, command: str, *, root: Path) -> None:
        self._command = command
        self._root = root

    def send(self, notice: Notice, sender: Sender) -> None:
        """Deliver. Raises Undelivered."""
        try:
            argv = shlex.split(self._command)
        except ValueError as error:
            raise Undelivered(f"the command cannot be read: {error}") from None
        told = {"TAKO_ALERT_KIND": notice.alert.kind, "TAKO_ALERT_APP": sender.app}
        try:
            process = subprocess.Popen(
                argv, cwd=self._root, env={**os.environ, **told}, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise Undelivered(f"the command could not be started: {error.strerror}: {argv[0]!r}") from None
        with process:
            try:
                message = alert.text(notice, sender) + "\n"
                _, said = process.communicate(message.encode("utf-8", "backslashreplace"), timeout=COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise Undelivered(f"the command did not end within {COMMAND_TIMEOUT_S:g}s") from None
        if process.returncode != 0:
            raise Undelivered(_exited(process.returncode, said) + _shell_words(argv))


def _exited(code: int, said: bytes) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
    last = said.decode(errors="replace").strip().rsplit("\n", 1)[-1][:200]
    return f"the command {how}: {last}" if last else f"the command {how}"


def _shell_words(argv: list[str]) -> str:
    """A hint for who wrote a line of a shell."""
    word = next(
        (word for word in argv if word.lstrip("012&")[:1] in ("|", "<", ">") or word in ("&&", "||", ";")), None
    )
    if word is None:
        return ""
    return f"; no shell runs it, so {word} was an argument: put the line into sh -c '...'"


class Email:
    """A mail through an SMTP server: `smtps://` is TLS from the first byte, `smtp://` STARTTLS where it is offered.

    A password is sent over an encrypted connection only, or to this machine itself.
    """

    name = "email"

    def __init__(self, settings: EmailAlert) -> None:
        self._to = settings.to
        parts = urlsplit(settings.smtp)
        self._is_tls = parts.scheme == "smtps"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (465 if self._is_tls else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")

    def send(self, notice: Notice, sender: Sender) -> None:
        """Deliver. Raises Undelivered."""
        try:
            with self._connected() as server:
                server.send_message(self._mail(notice, sender))
        except smtplib.SMTPRecipientsRefused as error:
            raise Undelivered(f"the mail server refused the recipient: {_refusals(error)}") from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"the mail server answered {_answer(error.smtp_code, error.smtp_error)}") from None
        except ssl.SSLError as error:
            raise Undelivered(f"the mail server's TLS failed: {error.reason or type(error).__name__}") from None
        except (OSError, smtplib.SMTPException) as error:
            if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
                raise Undelivered(f"the mail server did not answer within {TIMEOUT_S:g}s") from None
            words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Undelivered(f"the mail server could not be used: {words or type(error).__name__}") from None

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        server: smtplib.SMTP
        if self._is_tls:
            server = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        try:
            server.ehlo()
            is_safe = self._is_tls or self._host in LOOPBACK
            if not self._is_tls and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                is_safe = True
            if self._user:
                if not is_safe:
                    raise Undelivered("the mail server offers no TLS, so the password was not sent; use smtps://")
                server.login(self._user, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, notice: Notice, sender: Sender) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = " ".join(alert.subject(notice, sender).split())[:200]
        mail["From"] = self._user if "@" in self._user else f"tako@{socket.gethostname()}"
        mail["To"] = self._to
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=socket.gethostname())
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(alert.text(notice, sender) + "\n")
        return mail


def _refusals(error: smtplib.SMTPRecipientsRefused) -> str:
    return "; ".join(_answer(*refused) for refused in error.recipients.values())


def _answer(code: int, said: bytes | str) -> str:
    words = said.decode(errors="replace") if isinstance(said, bytes) else said
    return f"{code} {' '.join(words.split())[:200]}".rstrip()
