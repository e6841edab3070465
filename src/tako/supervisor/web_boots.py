"""Booting single instances of the web app: of what, with which sockets, and where what they print meanwhile goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tako.clock import Clock
from tako.protocol import control
from tako.supervisor.instance import SUBJECT, BootFailed, Failure, Instance
from tako.supervisor.listener import Listener
from tako.supervisor.web_house import InstanceRecords, Make, WebConfig, WebHouse

HEALTH_TIMEOUT_S = 5.0


class Line(NamedTuple):
    """What an instance has printed, as the house is told it."""

    instance_id: str
    pid: int
    text: str


class Boots:
    """Makes instances, starts them and looks whether they are well. Which ones, and when, is the pool's business."""

    def __init__(
        self, *, listener: Listener, sockets: Path, house: WebHouse, clock: Clock, records: InstanceRecords,
        on_change: Callable[[], None],
    ) -> None:  # fmt: skip
        self.under_way: list[Instance] = []
        self._listener = listener
        self._sockets = sockets
        self._house = house
        self._clock = clock
        self._records = records
        self._on_change = on_change
        self._count = 0

    def new_id(self) -> str:
        """The name of another instance."""
        self._count += 1
        return self._records.new_id() or f"web-{self._count}"

    def instance(self, instance_id: str, generation: int, kept: list[Line] | None = None) -> Instance:
        """One that is still to be booted or adopted. What it prints goes to `kept` as long as it boots."""

        def on_line(pid: int, line: str) -> None:
            if kept is not None and any(each.id == instance_id for each in self.under_way):
                kept.append(Line(instance_id, pid, line))
            else:
                self._house.output(instance_id, pid, line)

        return Instance(
            instance_id, generation=generation, clock=self._clock, on_line=on_line, on_change=self._on_change,
            redact=self._house.redact,
        )  # fmt: skip

    async def start(self, new: Instance, make: Make, config: WebConfig) -> None:
        """Start it and wait until it is ready. Raises BootFailed."""
        web = {
            control.PRIVATE_SOCKET: str(self._sockets / f"{new.id}.p"),
            control.CONTROL_SOCKET: str(self._sockets / f"{new.id}.c"),
        }
        self._records.intend(new)
        try:
            await new.boot(lambda: make(new.id, web), self._listener.fileno(), timeout_s=config.start_timeout_s)
        except BaseException:
            self._records.ended(new)
            raise
        self._records.started(new)

    async def check(self, new: Instance, config: WebConfig) -> None:
        """Ask it for the health path, if there is one. Raises BootFailed."""
        words = await ill_health(new, config)
        if words is not None:
            raise BootFailed(Failure(f"{SUBJECT} {words} (health in tako.toml)"))


async def ill_health(served: Instance, config: WebConfig) -> str | None:
    """What is wrong with its answer to the health path; None when all is well, or there is no such path."""
    if config.health is None:
        return None
    return await served.is_healthy(
        config.health, served.private_socket, host=config.health_host, timeout_s=HEALTH_TIMEOUT_S
    )
