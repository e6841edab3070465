"""The variables of an app in development, the same for workers, web instances and `tako run`."""

from __future__ import annotations

from tako.config import dotenv
from tako.config.model import DEVELOPMENT, Config
from tako.discovery import webapp


def variables_of(config: Config) -> dict[str, str]:
    """Django's settings module if it is a Django app, then `[vars]`, then `.env` beside it; the later ones win.

    Raises:
        ConfigError: `.env` cannot be read; names the line.
    """
    app = webapp.find(config.root, main=config.main)
    found = {"DJANGO_SETTINGS_MODULE": app.settings} if app is not None and app.settings is not None else {}
    return {**found, **config.variables(DEVELOPMENT), **dotenv.load(config.root).variables}
