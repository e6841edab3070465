"""A mail server for the demo, in a process of its own: it takes every mail and keeps it as a file for /mailbox to show.

    python mailserver.py [FOLDER]

FOLDER is `.tako/data/mailbox` unless given. A mail whose Message-ID is there already is taken and not kept twice.
"""

import asyncio
import hashlib
import signal
import sys
from email import message_from_bytes, policy
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """Keeps each mail as FOLDER/<hash of its Message-ID>.eml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        mail = message_from_bytes(content, policy=policy.default)
        message_id = str(mail["Message-ID"])
        path = self.folder / (hashlib.sha256(message_id.encode()).hexdigest()[:16] + ".eml")
        if path.exists():
            print(f"again {mail['To']}: {mail['Subject']}", flush=True)
            return "250 OK, this mail is here already"
        # Renamed into place, so that the page never shows half a mail.
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.rename(path)
        print(f"mail {mail['To']}: {mail['Subject']}", flush=True)
        return "250 OK"


async def serve(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    # Any free port, so that two checkouts can run beside each other; the app finds it in the folder.
    server = await loop.create_server(lambda: SMTP(Mailbox(folder), hostname="localhost"), "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        (folder / "address.partial").write_text(f"{host} {port}")
        (folder / "address.partial").rename(folder / "address")
        print(f"listening on {host}:{port}", flush=True)
        await stop.wait()
        (folder / "address").unlink()


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".tako/data/mailbox")
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(folder))
