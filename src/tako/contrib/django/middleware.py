"""503 for a refused enqueue that a view did not catch. `apps.py` puts it first in MIDDLEWARE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from tako.contrib import refusal
from tako.errors import EnqueueError


class Unhealthy:
    """Answers 503 with `Retry-After`; the reason is in the body in development only."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve a request."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer what a view raised, if it is ours. The view's own transaction has rolled back by now."""
        if not isinstance(exception, EnqueueError) or not refusal.is_answered(exception):
            return None
        refusal.tell(exception)
        return HttpResponse(
            refusal.text(exception),
            status=refusal.STATUS,
            headers=refusal.headers(exception),
            content_type=refusal.CONTENT_TYPE,
        )
