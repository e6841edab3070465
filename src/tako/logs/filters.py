"""Which lines somebody wants to see. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tako.protocol.messages import LogLine

LEVELS = ("debug", "info", "warning", "error")


def rank(level: str) -> int:
    """How grave a level is; an unknown one counts as `info`, so that it is neither hidden nor alarming."""
    name = level.lower()
    if name in ("critical", "fatal"):
        return len(LEVELS) - 1
    return LEVELS.index(name) if name in LEVELS else LEVELS.index("info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a subscriber asked for; None is everything. `level` is the least grave one that is wanted."""

    run: str | None = None
    workflow: str | None = None
    group: str | None = None
    level: str | None = None
    scope: str | None = None
    pid: int | None = None
    release: str | None = None
    instance: str | None = None
    until_ms: int | None = None

    def wants(self, line: LogLine) -> bool:
        """Whether the line passes all that was asked for."""
        return (
            (self.run is None or line.get("run_id") == self.run)
            and (self.workflow is None or line.get("workflow") == self.workflow)
            and (self.group is None or line.get("group") == self.group)
            and (self.scope is None or line["scope"] == self.scope)
            and (self.pid is None or line.get("pid") == self.pid)
            and (self.release is None or line.get("release") == self.release)
            and (self.instance is None or line.get("instance") == self.instance)
            and (self.until_ms is None or line["ts_ms"] <= self.until_ms)
            and (self.level is None or rank(line["level"]) >= rank(self.level))
        )


EVERYTHING = Filter()
