"""For FastAPI, Starlette and any other ASGI app: `app.add_middleware(tako.contrib.asgi.Unhealthy)`."""

from __future__ import annotations

from tako.contrib import refusal
from tako.errors import EnqueueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]


class Unhealthy:
    """Answers 503 with `Retry-After` when an enqueue is refused for now and nobody catches the EnqueueError."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def sent(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except EnqueueError as error:
            if has_started or not refusal.is_answered(error):
                raise  # too late for another answer, so that the server cuts this one short; or not ours to answer
            refusal.tell(error)
            await _answer(error, send)


async def _answer(error: EnqueueError, send: Send) -> None:
    body = refusal.text(error).encode()
    headers = [
        (b"content-type", refusal.CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in refusal.headers(error).items()),
    ]
    await send({"type": "http.response.start", "status": refusal.STATUS, "headers": headers})
    await send({"type": "http.response.body", "body": body})
