"""The oracle's books of the groups' health: S1 to S6."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reliability.simulation import shop
from reliability.simulation.counters import count
from tako.supervisor import events
from tako.supervisor.states import GroupState, Health, Phase
from tako.supervisor.turn import Turn

if TYPE_CHECKING:
    from reliability.simulation.machine import Life
    from reliability.simulation.network import Message
    from reliability.simulation.worker import Worker
    from reliability.simulation.world import World

RECORDED_S = 0.05
_GOOD = (Health.HEALTHY, Health.DEGRADED, Health.UNPROVEN)


class GroupWatch:
    """What each group's supervisor says, and when."""

    def __init__(self, world: World, fail: Callable[[str, str], None]) -> None:
        self._world = world
        self._fail = fail
        self._good_at: dict[str, float] = {}
        self._is_good: dict[str, bool] = {}
        self._failures: dict[str, int] = {}
        self._failed_at: dict[str, float] = {}
        self._cools_since: dict[str, float] = {}  # by groups in COOLDOWN
        self._is_news: set[str] = set()
        self._troubled: set[str] = set()
        self._recorded: dict[str, tuple[int, int]] = {}  # failed starts that are known to be stored, and of which code

    def state(self, group: str) -> GroupState | None:
        """The group's state now, None without a daemon."""
        daemon = self._world.daemon
        pools = daemon.host.groups.pools if daemon is not None and hasattr(daemon.host, "groups") else {}
        return pools[group].state if group in pools else None

    def changed(self, group: str) -> None:
        """A supervisor has moved on."""
        state, now = self.state(group), self._world.timeline.now
        if state is None:
            return
        is_good = state.health in _GOOD
        if is_good or self._is_good.get(group):
            self._good_at[group] = now
        self._is_good[group] = is_good
        if state.health is Health.COOLDOWN:
            self._cools_since.setdefault(group, now)
        else:
            self._cools_since.pop(group, None)
        self._recorded.pop(group, None)
        self._world.timeline.later(RECORDED_S, self._record, group, state.failures, self._world.daemon)
        if state.failures > self._failures.get(group, 0):
            self._failed_at[group] = now
            self._is_news.discard(group)
        self._failures[group] = state.failures
        if state.is_failing:
            count("group failing")

    def _record(self, group: str, failures: int, daemon: object) -> None:
        """By now the daemon has written down how the group is, if it could, and if nothing has changed since."""
        now = self._world.daemon
        state = self.state(group)
        if now is None or now is not daemon or now.loop.is_frozen or self._world.disk.is_full or state is None:
            return
        # After a full disk the mark of new code is tried again once a second; without it health is not about this code.
        has_room = self._world.timeline.now > self._world.full_until + 1.2
        if state.failures == failures and self._world.is_code_seen and has_room:
            self._recorded[group] = (failures, self._world.version)

    # --- enqueues ---------------------------------------------------------------------------------------------------

    def accepted(self, asked: Message, run: dict[str, Any]) -> None:
        """S2: nothing is accepted while workers cannot start."""
        count("row open")
        if run.get("parent_id") or run["workflow"] == "nap" or run.get("if_unhealthy") == "hold":
            return
        group = shop.group_of(run["workflow"])
        good_at = self._world.timeline.now if self._is_good.get(group) else self._good_at.get(group, -1.0)
        if good_at < asked["asked_at"]:
            self._fail("S2", f"{run['id']} was accepted, and group {group} has not been well since it was asked")

    def refused(self, asked: Message, reply: Message) -> None:
        """S1: a refusal says why. S5: the failure of one group is nothing to another."""
        if reply["code"] != "worker_unhealthy":
            return
        detail = reply["detail"]
        if "next start in" in reply["message"]:
            count("row 11")
        if not detail.get("reason") or "nothing was enqueued" not in reply["message"] or "retry_after" not in detail:
            self._fail("S1", f"a refusal without its reason: {reply}")
        groups = {shop.group_of(run["workflow"]) for run in asked["runs"] if isinstance(run.get("workflow"), str)}
        is_ending = "is shutting down" in reply["message"]
        if groups == {"mail"} and "mail" not in self._troubled and not is_ending:
            self._fail("S5", f"nothing was wrong with group mail, and {asked['runs']} was refused: {reply['message']}")

    # --- processes --------------------------------------------------------------------------------------------------

    def process_starts(self, worker: Worker) -> None:
        """S3: not before its time, and one at a time."""
        group = worker.group
        if worker.world.machine.spawn_error is not None:
            self._troubled.add(group)
        state = self.state(group)
        if state is None:
            return
        slot = state.slot(worker.worker_id)
        decided_at = slot.asked_at if slot is not None else self._world.timeline.now
        # What was decided while somebody served still starts, if the last one that did so goes before it has.
        if state.health is Health.COOLDOWN and decided_at > self._cools_since.get(group, 0.0):
            self._fail("S3", f"a worker of {group} is started in COOLDOWN")
        if state.health is not Health.PROBING:
            return
        trying = [slot for slot in state.slots if slot.phase is Phase.BOOTING and not slot.solo]
        if len(trying) > 1:
            self._fail("S3", f"{len(trying)} workers of {group} are tried at once")
        waited_s = self._world.timeline.now - self._failed_at.get(group, float("-inf"))
        if state.failures and group not in self._is_news and waited_s < 0.9 * min(60.0, 2.0 ** (state.failures - 1)):
            self._fail("S3", f"{group} is tried {waited_s:.3f}s after failure {state.failures}")

    def process_ended(self, life: Life) -> None:
        """A process of the group is gone: from now on it may have troubles of its own."""
        worker: Any = life
        if life.exit is None or life.exit.code != 0:
            self.trouble(worker.group)

    def trouble(self, group: str) -> None:
        """Something is wrong with the group itself, so that it may refuse."""
        self._troubled.add(group)

    def exit_judged(self, turn: Turn, event: events.Exited, row: str) -> None:
        """S4: an exit 0 that nobody has permitted is a failure, unless it had claimed and had nothing in flight."""
        slot = turn.state.slot(event.worker_id)
        if event.exit.code != 0 or row != "20" or slot is None or not slot.is_live:
            return
        if slot.phase is not Phase.ACTIVE or turn.in_flight(slot):
            self._fail("S4", f"{slot.id} exited with 0 in {slot.phase.value}, and that was taken for idleness")

    def daemon_started(self) -> None:
        """Its pools begin with what was recorded; row 23 probes as soon as there is work."""
        self._is_news.update(shop.GROUPS)
        for group in shop.GROUPS:
            state, found = self.state(group), self._recorded.get(group)
            if state is None:
                continue
            if found is not None and found[1] == self._world.version and found[0] != state.failures:
                self._fail("S3", f"{group} had {found[0]} failed starts, and after a restart {state.failures}")
            self._failures[group] = state.failures
            self.changed(group)

    def daemon_died(self) -> None:
        """Nobody says how the groups are."""
        self._is_good.clear()

    def code_saved(self) -> None:
        """New code begins anew."""
        self._is_news.update(shop.GROUPS)
