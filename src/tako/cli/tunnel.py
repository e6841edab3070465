"""A port on this machine at which a server's dashboard answers: each connection of the browser is one through SSH."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

from tako.deploy.channel import Channel
from tako.deploy.ssh import Conversation, Ssh
from tako.errors import TakoError

# A browser opens six; what it leaves open lies idle.
BACKLOG = 32
PIECE_BYTES = 65_536


class Tunnel:
    """Use it in a `with`; `path` is where the app's pages begin."""

    def __init__(self, ssh: Ssh, ref: Mapping[str, str]) -> None:
        """Raises what SSH and the server have against it."""
        self._ssh = ssh
        self._ref = ref
        conversation, self.path = self._dial()
        conversation.close()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._open: set[Conversation] = set()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for conversation in list(self._open):
            conversation.close()

    @property
    def url(self) -> str:
        """The address for a browser on this machine; it holds the key."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}{self.path}"

    def serve(self) -> None:
        """Take connections until the program is interrupted."""
        while True:
            browser, _ = self._listener.accept()
            threading.Thread(target=self._relay, args=(browser,), daemon=True).start()

    def _dial(self) -> tuple[Conversation, str]:
        with Channel(self._ssh) as channel:
            return channel.browse(self._ref)

    def _relay(self, browser: socket.socket) -> None:
        """One connection, both ways, until either side ends it."""
        with browser:
            try:
                conversation, _ = self._dial()
            except TakoError as error:
                _say(browser, error)
                return
            self._open.add(conversation)
            back = threading.Thread(target=_copy, args=(conversation.socket, browser), daemon=True)
            back.start()
            _copy(browser, conversation.socket)
            back.join()
            self._open.discard(conversation)
            conversation.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """What comes from one goes to the other; the end of it, too."""
    with suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _say(browser: socket.socket, error: TakoError) -> None:
    """The server is away: the browser is told why."""
    body = f"{error}\n".encode()
    head = f"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
    with suppress(OSError):
        browser.sendall(f"{head}connection: close\r\n\r\n".encode() + body)
