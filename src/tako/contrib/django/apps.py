"""What `"tako.contrib.django"` in INSTALLED_APPS sets up, in every process that calls `django.setup()`."""

from __future__ import annotations

import os
from typing import Any

from django.apps import AppConfig

from tako.contrib.django import bridge, connections
from tako.sdk import runtime, startup

MIDDLEWARE = "tako.contrib.django.middleware.Unhealthy"


class TakoConfig(AppConfig):
    """The app `tako`: one table, the outbox."""

    name = "tako.contrib.django"
    label = "tako"
    verbose_name = "Tako"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Put the outbox in front of the engine, close connections around steps, answer refusals with 503."""
        from django.conf import settings

        from tako.contrib.django import outbox

        runtime.wrap(outbox.Outbox)
        startup.around(handler=connections.closed_around, step=connections.closed_around)
        startup.bridge = bridge
        _insert_middleware(settings)
        if _is_long_lived():
            outbox.Sweeper().start()


def _insert_middleware(settings: Any) -> None:
    # First in the list is asked last for an exception of a view: whoever else wants to answer it may.
    if MIDDLEWARE not in settings.MIDDLEWARE:
        settings.MIDDLEWARE = [MIDDLEWARE, *settings.MIDDLEWARE]


def _is_long_lived() -> bool:
    """Whether this is a worker or a web instance of Tako, and not a command such as `migrate`."""
    started_by_tako = "TAKO_INTERNAL_SOCKET" in os.environ
    return started_by_tako and ("TAKO_WORKFLOW_WORKER" in os.environ or "TAKO_CTL_SOCK" in os.environ)
