"""Requests and responses on ASGI: as much of HTTP as the pages need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

# The dashboard's forms are short; the longest field is the value of a signal, which may have 1 MiB.
MAX_BODY_BYTES = 3_200_000

# Nothing of a page may come from elsewhere, be kept by the browser, or be shown inside of another page.
SAFE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # The address holds the key. `same-origin`, not `no-referrer`: that would blank the Origin of our own forms, too.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class TooLarge(Exception):
    """The body of a request is larger than any form of ours."""


class Request:
    """What a browser asked for. Of a parameter that comes several times, the first counts."""

    def __init__(self, scope: Mapping[str, Any], receive: Any) -> None:
        self.method: str = "GET" if scope["method"] == "HEAD" else scope["method"]
        self.is_head: bool = scope["method"] == "HEAD"
        self.path: str = scope["path"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.query = _fields(scope["query_string"])
        self.form: dict[str, str] = {}
        self._receive = receive

    async def read_form(self) -> None:
        """Fill `form` from the body. Raises TooLarge."""
        body = bytearray()
        while True:
            message = await self._receive()
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise TooLarge
            if not message.get("more_body"):
                break
        self.form = _fields(bytes(body))

    async def gone(self) -> None:
        """Return when the browser has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _fields(encoded: bytes) -> dict[str, str]:
    try:
        found = parse_qs(encoded.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100)
    except ValueError:  # more fields than any form of ours has
        return {}
    return {name: values[0] for name, values in found.items()}


class Response:
    """An answer: a text that is there, or a stream of pieces."""

    def __init__(
        self,
        body: str | bytes | AsyncGenerator[bytes, None],
        *,
        status: int = 200,
        content_type: str = "text/html; charset=utf-8",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body.encode("utf-8", "replace") if isinstance(body, str) else body
        self.headers = {"content-type": content_type, **SAFE_HEADERS, **(headers or {})}

    async def send(self, request: Request, send: Any) -> None:
        """Send it. A stream ends when it, or the browser, does."""
        body = self.body
        if isinstance(body, bytes):
            self.headers["content-length"] = str(len(body))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": b"" if request.is_head else body})
            return
        await _pump(body, request, send)


async def _pump(pieces: AsyncGenerator[bytes, None], request: Request, send: Any) -> None:
    # `send` waits while the browser does not read; the stream's own task is what is held up then, and nothing else.
    sending = asyncio.ensure_future(_send_pieces(pieces, send))
    leaving = asyncio.ensure_future(request.gone())
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        for task in (sending, leaving):
            with suppress(asyncio.CancelledError):
                await task
        await pieces.aclose()


async def _send_pieces(pieces: AsyncGenerator[bytes, None], send: Any) -> None:
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def redirect(location: str) -> Response:
    """Go there with a GET."""
    return Response("", status=303, headers={"location": location})
