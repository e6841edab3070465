"""The oracle's books of releases, on a server: which one may claim, at any instant exactly one (O: the cut-over)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reliability.simulation import shop
from reliability.simulation.counters import count
from reliability.simulation.mirror import Change
from tako.supervisor.states import Health

if TYPE_CHECKING:
    from reliability.simulation.machine import SimulatedStore
    from reliability.simulation.worker import Worker
    from reliability.simulation.world import World


class Releases:
    """Who may claim, and that a roll is not forgotten. In development everybody may, and nothing is kept here."""

    def __init__(self, world: World, fail: Callable[[str, str], None]) -> None:
        self._world = world
        self._fail = fail
        self._known: str | None = None  # whose flip was acknowledged
        self._coming: str | None = None  # whose flip is on its way, and may be stored or not
        self._of_worker: dict[str, str] = {}
        self._last: str | None = None

    def process_starts(self, worker: Worker) -> None:
        """Of which release it is."""
        self._of_worker[worker.worker_id] = f"r{worker.version}"

    def rolls(self, release: str) -> None:
        """A flip is asked for."""
        self._coming = release

    def rolled(self, release: str) -> None:
        """The flip is acknowledged, and the engine follows: whoever is proven is healthy at once (row 18)."""
        self._known, self._coming = release, None

    def followed(self) -> None:
        """The engine knows of it. A worker that cannot even be spawned has failed by now, and that counts."""
        if self._world.machine.spawn_error is not None:
            return
        for group in shop.GROUPS:
            state = self._world.oracle.groups.state(group)
            if state is not None and state.health not in (Health.HEALTHY, Health.STOPPED):
                self._fail("18", f"{self._known} is proven, and group {group} is {state.health.value}")

    def daemon_started(self, store: SimulatedStore) -> None:
        """What was acknowledged is there again."""
        if not self._world.plan.settings.is_server:
            return
        found = store.get_meta("active_release") or None
        if found not in (self._known, self._coming):
            self._fail("D1", f"{self._known} was active, and after a restart {found} is")
        if found is not None and found == self._coming:
            count("roll found after a restart")
        self._known = self._last = found
        self._coming = None

    def committed(self, store: SimulatedStore, changes: list[Change]) -> None:
        """After the flip's commit nothing of the old release claims, and before it nothing of the new one."""
        if not self._world.plan.settings.is_server:
            return
        before, self._last = self._last, store.active_release or None
        for old, row in changes:
            if row.worker_id is not None and row.epoch > (0 if old is None else old.epoch):
                release = self._of_worker.get(row.worker_id)
                if release not in (before, self._last):
                    self._fail("O", f"{row.id} was claimed by a worker of {release}, and {self._last} is active")
            if old is not None and old.worker_id is not None and row.has_ended and not old.has_ended \
                    and self._of_worker.get(old.worker_id) != self._last:  # fmt: skip
                count("old release finished a run")
