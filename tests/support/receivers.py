"""Real receivers on this machine: an HTTP server, a mail server, a program that writes down what it is told."""

from __future__ import annotations

import asyncio
import http.server
import json
import sys
import threading
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller

PATIENCE_S = 20.0


class Inbox:
    """What has come; a test waits for it with a deadline."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.news = threading.Condition()

    def put(self, item: Any) -> None:
        with self.news:
            self.items.append(item)
            self.news.notify_all()

    def wait(self, count: int = 1) -> list[Any]:
        """The items, as soon as there are so many."""
        with self.news:
            there = self.news.wait_for(lambda: len(self.items) >= count, PATIENCE_S)
            assert there, f"{len(self.items)} of {count} came: {self.items}"
            return list(self.items)


class Hook(Inbox):
    """A webhook's receiver; `answers` are the statuses of the next requests, then 204."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[int] = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.put(json.loads(body))  # before the answer: who has that may look at once
                self.send_response(hook.answers.pop(0) if hook.answers else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/t0ken"

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Those of one kind."""
        with self.news:
            return [item for item in self.items if item["kind"] == kind]

    def wait_of(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Those of one kind, as soon as there are so many."""
        with self.news:
            there = self.news.wait_for(lambda: len(self.of(kind)) >= count, PATIENCE_S)
            assert there, f"{count} of {kind}: {self.items}"
            return self.of(kind)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


class Mailbox(Inbox):
    """A mail server. `refusal` is what it answers to a message, if set."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = ""
        self._controller = _Controller(self, hostname="127.0.0.1", port=0)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusal:
            return self.refusal
        mail: Message = message_from_bytes(envelope.content, policy=default)
        self.put(mail)
        return "250 OK"

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._controller.port}"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()


class _Controller(Controller):
    """One that may choose its port: aiosmtpd connects to the port that it was given, which 0 is not."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def program(folder: Path, *, exit_code: int = 0, says: str = "") -> str:
    """A command that adds what it reads, and what it was told of it, to `told.txt` in its working directory."""
    path = folder / "tell.py"
    path.write_text(
        "import os, sys\n"
        "with open('told.txt', 'a') as file:\n"
        "    file.write(os.environ['TAKO_ALERT_KIND'] + '|' + sys.stdin.read())\n"
        f"print({says!r}, file=sys.stderr)\n"
        f"sys.exit({exit_code})\n"
    )
    return f"{sys.executable} {path}"
