"""The mails that mailserver.py has taken, for the page that shows them."""

from email import message_from_bytes, policy
from email.utils import parseaddr
from typing import NamedTuple

import mailer


class Mail(NamedTuple):
    to: str
    subject: str
    text: str


def newest_first() -> list[Mail]:
    files = sorted(mailer.mailbox().glob("*.eml"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [_read(path.read_bytes()) for path in files]


def _read(content: bytes) -> Mail:
    message = message_from_bytes(content, policy=policy.default)
    body = message.get_body(("plain",))
    return Mail(parseaddr(str(message["To"]))[1], str(message["Subject"]), str(body.get_content()) if body else "")
