"""For Flask: `tako.contrib.flask.init(app)`.

Refused enqueues are answered with 503, and in workers every handler and every sync step has an app context. A worker
imports workflow files and nothing else, so one of them must lead to the app: by importing it, or with
`@tako.on_start` where the app imports the workflows.
"""

from __future__ import annotations

from tako.contrib import refusal
from tako.errors import EnqueueError
from tako.sdk import startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from flask import Flask, Response

_app: Flask | None = None


def init(app: Flask) -> None:
    """Set an app up. Of several apps in one process the last one gives the contexts."""
    global _app
    app.register_error_handler(EnqueueError, _answer)
    if _app is None:
        startup.around(handler=_context, step=_context)
    _app = app


def _answer(error: EnqueueError) -> Response:
    from flask import Response

    if not refusal.is_answered(error):
        raise error
    refusal.tell(error)
    return Response(
        refusal.text(error), status=refusal.STATUS, headers=refusal.headers(error), content_type=refusal.CONTENT_TYPE
    )


def _context() -> AbstractContextManager[Any]:
    # One for each step, inside of the handler's: what is bound to it, such as a database session, is given back when
    # the step ends, and not held through a handler's hours.
    assert _app is not None, "init has been called"
    return _app.app_context()
