"""What `tako dev` was asked for on its command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DevOptions:
    """None is a port that was not asked for: the next free one, or for the dashboard any free one."""

    port: int | None = None
    dashboard_port: int | None = None
    web: bool = True
    alerts: bool = True
    json: bool = False
    plain: bool = False  # behave as without a terminal
