"""What a web app answers when an enqueue was refused: 503, when to try again, and in development why."""

from __future__ import annotations

from tako.errors import EnqueueError, NoEngine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATUS = 503
CONTENT_TYPE = "text/plain; charset=utf-8"
# For refusals that do not know when it will be better: long enough for a worker to boot.
_RETRY_AFTER_S = 5


def retry_after(error: EnqueueError) -> int:
    """Whole seconds until it is worth trying again, at least one."""
    seconds: Any = error.detail.get("retry_after")
    if not isinstance(seconds, int | float) or seconds <= 0:
        return _RETRY_AFTER_S
    return int(-(-seconds // 1))


def text(error: EnqueueError) -> str:
    """The body. Everybody may see it, so outside development it says nothing of the cause."""
    if _is_development():
        return f"{error}\n"
    return f"This cannot be done right now. Try again in {retry_after(error)} s.\n"


def tell(error: EnqueueError) -> None:
    """Log it: the client is not told the cause, so somebody else must be."""
    import logging

    logging.getLogger("tako.contrib").error("answered %d: %s", STATUS, error)


def _is_development() -> bool:
    from tako.sdk import runtime

    try:
        return runtime.environment().environment == "development"
    except NoEngine:
        return False
