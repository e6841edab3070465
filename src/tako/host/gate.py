"""The gate of a deploy: one probe of each group of a release that is not active, beside the release that is.

A probe is an ordinary worker, in the new release's own environment, with its real secrets, that says HELLO to the app's
own socket. It gets no run, whatever it asks: the release is not active. What it tells is what the release declares.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tako.config import load
from tako.discovery import scan as scanning
from tako.engine import registry as registry_rows
from tako.errors import ConfigError, DeployRefused
from tako.host import lines
from tako.host.groups import config_of
from tako.host.launch import Launch
from tako.protocol.messages import Registry as GroupRegistry
from tako.supervisor import records
from tako.supervisor.spawn import SpawnRequest
from tako.supervisor.states import Failure, Health
from tako.supervisor.workers import BootPermits, WorkerPool

if TYPE_CHECKING:
    from tako.host.app import AppHost

_PLACE = re.compile(r"^\s*(\S+\.py):(\d+)", re.MULTILINE)


class Gate:
    """Boots the probes. `told` is what they declare, by group. `on_line` hears what they print."""

    def __init__(self, host: AppHost, launch: Launch, *, on_line: Callable[[str, str], None]) -> None:
        self.launch = launch
        self.scan = scanning.scan(launch.config.root)
        self.told: dict[str, GroupRegistry] = {}
        self.pools: dict[str, WorkerPool] = {}
        self._host = host
        self._on_line = on_line
        self._news = asyncio.Event()

    async def run(self) -> dict[str, GroupRegistry]:
        """Boot every group once; what they declare, stored for the release.

        Raises:
            DeployRefused: one cannot start: group, file, line and traceback are in it. Nothing has moved.
        """
        self._check_settings()
        permits = BootPermits(2)
        for group in self.scan.groups:
            config = dataclasses.replace(config_of(self.launch, group), min_workers=0)
            self.pools[group] = WorkerPool(
                config, house=self, clock=self._host.clock, rng=self._host.rng, permits=permits
            )
        self._host.groups.gate = self
        try:
            for pool in self.pools.values():
                pool.new_code(dataclasses.replace(config_of(self.launch, pool.group), min_workers=0))
            await self._until_known()
        finally:
            await asyncio.gather(*(pool.stop(1.0) for pool in self.pools.values()))
            self._host.groups.gate = None
        for told in self.told.values():
            await self._host.writer.do(
                registry_rows.save, release=self.launch.release, registry=told, now_ms=self._host.clock.now_ms()
            )
        return self.told

    def _check_settings(self) -> None:
        try:
            load.check_groups(self.launch.config, self.scan.groups)
        except ConfigError as error:
            raise DeployRefused(error.message, cure="Mend tako.toml, and deploy again.") from error
        if self.scan.duplicates:
            words = "; ".join(duplicate.words() for duplicate in self.scan.duplicates)
            raise DeployRefused(words, cure="Rename one of them, and deploy again.")

    async def _until_known(self) -> None:
        while True:
            self._news.clear()
            for pool in self.pools.values():
                failure = pool.state.failure
                if failure is not None and pool.state.health is not Health.HEALTHY:
                    raise refusal(pool.group, failure)
            if all(pool.group in self.told for pool in self.pools.values()):
                return
            await self._news.wait()

    def hello(self, worker_id: str, told: GroupRegistry) -> None:
        """A probe has imported its files."""
        self.told[told["group"]] = told
        self.pools[told["group"]].hello(worker_id)
        self._news.set()

    # --- what a supervisor asks of its house ------------------------------------------------------------------------

    def runnable(self, group: str) -> int:
        """Nothing: a probe is there to start."""
        return 0

    def suspects(self, group: str) -> int:
        """Nothing either."""
        return 0

    def in_flight(self, group: str) -> Mapping[str, int]:
        """Nothing is ever claimed."""
        return {}

    def spawn_request(self, group: str, worker_id: str, solo: bool) -> SpawnRequest:
        """A worker of the new release."""
        token = self._host.tokens.issue(worker_id=worker_id)
        files = self.scan.files_of(group)
        return self.launch.worker(group, worker_id=worker_id, solo=solo, token=token, files=files)

    def stop_claims(self, worker_id: str) -> None:
        """It has none."""

    async def reclaim(self, worker_id: str, counted: bool, death: str | None) -> None:
        """It holds nothing."""

    def save_health(self, group: str, record: dict[str, Any]) -> None:
        """How a release fares that is only tried is nobody's health."""

    def save_worker(self, record: dict[str, Any]) -> None:
        """A probe is not adopted: a deploy whose daemon died is over, and its processes are swept."""

    def forget_worker(self, worker_id: str) -> None:
        """Its process is gone."""
        self._host.tokens.forget(worker_id)

    def count(self, group: str, what: str) -> None:
        """Metrics tell of the release that serves."""

    def changed(self, group: str) -> None:
        """There may be news for `_until_known`."""
        self._news.set()

    def redact(self, text: str) -> str:
        """The text without the new release's secrets."""
        return self._host.hub.redact(text)

    def output(self, group: str, worker_id: str, pid: int, line: str) -> None:
        """A probe has printed a line."""
        found = lines.parse(
            line,
            now_ms=self._host.clock.now_ms(),
            scope="worker",
            group=group,
            pid=pid,
            release=self.launch.release,
        )
        self._host.hub.publish(found)
        if not line.startswith('{"msg"'):  # a worker's own words about its life are for the log
            self._on_line(group, line)

    def log(self, level: str, message: str, **fields: Any) -> None:
        """What a pool says of itself is told by the refusal."""


def refusal(group: str, failure: Failure) -> DeployRefused:
    """Why the release is not accepted, with file, line and traceback."""
    place = next(reversed(list(_PLACE.finditer(failure.traceback_tail or ""))), None)
    cause = records.cause_lines(failure)
    shown = "\n".join(f"  {line}" for line in cause)
    where = f" ({place[1]}:{place[2]})" if place else ""
    return DeployRefused(
        f'the workers of group "{group}" cannot start{where}: {failure.words}' + (f"\n{shown}" if shown else ""),
        cure="Mend it, try it with `tako check`, and deploy again.",
        detail={
            "group": group,
            "file": place[1] if place else None,
            "line": int(place[2]) if place else None,
            "traceback_tail": failure.traceback_tail,
            "lines": list(failure.stderr_tail),
            "exit_code": failure.exit_code,
            "signal": failure.signal,
        },
    )
