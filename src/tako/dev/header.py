"""The words of the header of `tako dev`: what runs where, and what fires when."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tako.config.model import Config
from tako.dev.screen import Header
from tako.protocol import env

if TYPE_CHECKING:
    from tako.host.app import AppHost

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def of(
    host: AppHost,
    *,
    urls: Sequence[str],
    dashboard: str | None,
    schedules: Sequence[dict[str, Any]],
    notes: Sequence[str],
    now_ms: int,
) -> Header:
    """The header of an app. `schedules` are as `list_schedules` has them, `notes` what the web app has to say."""
    names = sorted({name for names in host.code.names_by_group().values() for name in names})
    return Header(
        app=host.config.name,
        version=_version(),
        urls=tuple(urls),
        dashboard=dashboard,
        workflows=tuple(names),
        groups=tuple(_group_words(host.config, group) for group in host.code.scan.groups),
        schedules=tuple(schedule_words(schedule, now_ms) for schedule in schedules),
        notes=(*notes, *_alerts(host.config), *_left_out()),
    )


def _group_words(config: Config, group: str) -> str:
    settings = config.group(group)
    workers = "scale to zero" if settings.workers == 0 else f"{settings.workers} always on"
    return f"{group} ({workers}, concurrency {settings.concurrency})"


def schedule_words(schedule: dict[str, Any], now_ms: int) -> str:
    """`report 0 9 * * 1-5 Europe/Paris, next Mon 30 Nov 09:00 (in 1d)`; the time is this machine's."""
    name = f"{schedule['workflow']} {schedule['spec']}"
    if schedule["paused"]:
        return f"{name}, paused: tako schedules resume {schedule['workflow']}"
    if schedule["next_ms"] is None:
        return f"{name}, never again"
    when = time.localtime(schedule["next_ms"] / 1000)
    is_today = when[:3] == time.localtime(now_ms / 1000)[:3]
    left_s = max(0, schedule["next_ms"] - now_ms) // 1000
    size, unit = next(((size, unit) for size, unit in _UNITS if left_s >= size), (1, "s"))
    return f"{name}, next {time.strftime('%H:%M' if is_today else '%a %d %b %H:%M', when)} (in {left_s // size}{unit})"


def _alerts(config: Config) -> tuple[str, ...]:
    """Who else hears of what goes wrong: a typo of development in the team's chat should surprise nobody."""
    names = [name for name in ("webhook", "command", "email") if getattr(config.alerts, name) is not None]
    if not names:
        return ()
    return (f"alerts go out by {', '.join(names)}, from here too; --no-alerts keeps them in",)


def _left_out() -> tuple[str, ...]:
    """Names of the shell's variables that processes of the app do not get; never their values."""
    usual = ("PWD", "OLDPWD", "SHLVL", "_", "TERM", "LS_COLORS", "COLORTERM", "PS1", "LESSOPEN", "LESSCLOSE", "MAIL")
    names = sorted(name for name in os.environ if not env.passes(name) and name not in usual)
    if not names:
        return ()
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return (f"not passed on from this shell: {shown} (put what the app needs in .env or [vars])",)


def _version() -> str:
    from importlib.metadata import version

    return version("tako-py")
