"""How a websocket ends when its instance is drained: 1012, "service restart", and the client has the last word.

uvicorn writes the 1012 and closes at once. A message that the client sends in that moment is then refused, and whoever
relays it (Caddy) takes this for a broken connection and may end it before the 1012 has passed: the client sees a
connection that was cut. So it stays open until the client has answered, or has had time for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

SERVICE_RESTART = 1012
ANSWER_WITHIN_S = 3.0
_USED = ("conn", "queue", "handshake_complete", "close_sent", "close_timer", "read_paused", "send_receive_event_to_app")


def can_part(connection: Any) -> bool:
    """Whether it is a websocket of a uvicorn whose insides are those that `part` knows."""
    return all(hasattr(connection, name) for name in _USED)


def is_parting(connection: Any) -> bool:
    """Whether its client has still to answer."""
    return getattr(connection, "close_timer", None) is not None


async def part(connection: Any, *, within_s: float) -> None:
    """Tell the app that the client is gone, and the client to come again. One that the app has not accepted yet is
    waited for so long."""
    deadline = time.monotonic() + within_s
    while not connection.handshake_complete and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # uvicorn tells nobody
    if not connection.handshake_complete or connection.close_sent or connection.transport.is_closing():
        return
    connection.stop_keepalive()
    connection.queue.put_nowait({"type": "websocket.disconnect", "code": SERVICE_RESTART})
    connection.conn.send_close(SERVICE_RESTART)
    connection.transport.write(b"".join(connection.conn.data_to_send()))
    # `close_sent` stays as it is: what the app still sends is then dropped, and not told as a mistake of its own.
    connection.send_receive_event_to_app = lambda: None
    if connection.read_paused:
        connection.read_paused = False
        connection.transport.resume_reading()
    connection.close_timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, connection.transport.close)
