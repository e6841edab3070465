"""What a web app answers when an enqueue was refused: 503, when to try again, and in development why.

Only where trying again can help. A misspelt name, arguments that do not fit and a process without an engine are bugs
of the app: they stay exceptions, so that the framework answers 500 and whoever watches for bugs sees them.
"""

from __future__ import annotations

from tako.errors import EnqueueError, EnqueueUnknown, NoEngine, PayloadError, UnknownWorkflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATUS = 503
CONTENT_TYPE = "text/plain; charset=utf-8"
# For refusals that do not know when it will be better: long enough for a worker to boot.
_RETRY_AFTER_S = 5
_BUGS = (PayloadError, UnknownWorkflow, NoEngine)


def is_answered(error: EnqueueError) -> bool:
    """Whether this is answered with 503, and not left to the framework."""
    return not isinstance(error, _BUGS)


def headers(error: EnqueueError) -> dict[str, str]:
    """`Retry-After`, unless trying again could do a thing twice."""
    return {} if isinstance(error, EnqueueUnknown) else {"Retry-After": str(retry_after(error))}


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
    if isinstance(error, EnqueueUnknown):
        return "It is not known whether this was done. Look before you try again.\n"
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
