"""Hand a mail to the mail server. Called in a step, so a failure is tried again, and a success is not."""

import os
import smtplib
from email.message import EmailMessage
from pathlib import Path

import tako


def deliver(run_id: str, to: str, subject: str, text: str) -> str:
    """Send the mail and return its Message-ID.

    A step may run twice: when the worker dies after the server took the mail and before the step was saved. The
    Message-ID is the same both times, as it is made from the run's id, so the server can tell that it has this mail.
    """
    message = EmailMessage()
    message["Message-ID"] = f"<{run_id}@signup.example>"
    message["From"] = os.environ["MAIL_FROM"]
    message["To"] = to
    message["Subject"] = subject
    message.set_content(text)
    host, port = server_address()
    with smtplib.SMTP(host, port, timeout=10) as smtp:
        smtp.send_message(message)
    return str(message["Message-ID"])


def server_address() -> tuple[str, int]:
    """Where mailserver.py listens: it says so in the mailbox's folder. A real app has this in [vars]."""
    try:
        host, port = (mailbox() / "address").read_text().split()
    except FileNotFoundError:
        raise ConnectionRefusedError("no mail server has been started: `python mailserver.py`") from None
    return host, int(port)


def mailbox() -> Path:
    return Path(tako.current.data_dir) / "mailbox"
