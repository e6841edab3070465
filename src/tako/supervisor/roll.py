"""Another release takes over from the one that serves: booted beside it, switched to, watched, taken back if need be.

The steps of a deploy that concern web instances. Each is called once, in this order: `boot`, `check`, `switch`, then
`accept` or `revert`; `abort` at any time before `switch`. Between `switch` and `accept` the old instances are paused
and not gone, so that going back needs no boot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from tako.supervisor import instance as instances
from tako.supervisor.instance import BootFailed, Failure, Instance
from tako.supervisor.instances import InstancePool
from tako.supervisor.web_house import Make, WebConfig

CHECKS = 3

Step = Callable[[], Awaitable[None]]


class _Kept:
    """What a pool kept running before."""

    def __init__(self, pool: InstancePool) -> None:
        self.generation, self.release, self.roll = pool.generation, pool.release, pool.roll
        self.config, self.make = pool.config, pool.make

    def give_back(self, pool: InstancePool, serving: Iterable[Instance]) -> None:
        """Have it keep that running again."""
        pool.take_over(
            serving, generation=self.generation, release=self.release, roll=self.roll, config=self.config,
            make=self.make,
        )  # fmt: skip


class Roll:
    """The new instances of one release. `failure` is set when one of them ends, or is sick, after the switch."""

    def __init__(self, pool: InstancePool, *, release: str, roll: str, config: WebConfig, make: Make) -> None:
        self.pool = pool
        self.release = release
        self.roll = roll
        self.config = config
        self.make = make
        self.new: list[Instance] = []
        self.resting: list[Instance] = []
        self.failed: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._generation = pool.next_generation()
        self._before = _Kept(pool)

    # --- before the switch ------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Boot as many instances as the release wants. Raises BootFailed; then none of them is left."""
        for _ in range(self.config.instances):
            made = self.pool.boots.instance(self.pool.boots.new_id(), self._generation)
            made.release, made.roll = self.release, self.roll
            self.new.append(made)
        await self._all(self.pool.boots.start(each, self.make, self.config) for each in self.new)

    async def check(self) -> None:
        """Ask each one three times for its health. Raises BootFailed; then none of them is left."""
        await self._all(self._check_one(each) for each in self.new)

    async def _check_one(self, new: Instance) -> None:
        for _ in range(CHECKS):
            await self.pool.boots.check(new, self.config)
            if not new.is_alive:
                exit_, lines = await new.exit()
                raise BootFailed(instances.failure_of(exit_, lines, root=new.root, before_ready=False))

    async def _all(self, steps: object) -> None:
        found = await asyncio.gather(*steps, return_exceptions=True)  # type: ignore[misc]
        error = next((each for each in found if isinstance(each, BaseException)), None)
        if error is not None:
            await self.abort()
            raise error

    async def abort(self) -> None:
        """Kill the new instances."""
        await asyncio.gather(*(each.kill_and_wait() for each in self.new))
        for each in self.new:
            self.pool.records.ended(each)
        self.new = []

    # --- the switch -------------------------------------------------------------------------------------------------

    async def switch(self, *, commit: Step, undo: Step) -> None:
        """Old ones pause, `commit`, new ones serve. What waits meanwhile waits in the queue.

        When `commit` raises, or a new one ends in that moment (after `undo`), the old ones go on and the error is
        raised.
        """
        await self.pool.in_turn(lambda: self._switch(commit, undo))

    async def _switch(self, commit: Step, undo: Step) -> None:
        pool = self.pool
        self._before = _Kept(pool)
        old = pool.serving
        pool.answer_nobody()
        await asyncio.gather(*(each.pause() for each in old))
        try:
            await commit()
        except BaseException:
            await self._serve_again(old)
            await self.abort()
            raise
        if not all(await asyncio.gather(*(each.serve() for each in self.new))):
            failure = await self._why_not(self.new)
            try:
                await undo()
            finally:
                await self._serve_again(old)
                await self.abort()
            raise BootFailed(failure)
        self.resting = old
        pool.on_trial = self._on_trial
        pool.take_over(
            self.new, generation=self._generation, release=self.release, roll=self.roll, config=self.config,
            make=self.make,
        )  # fmt: skip
        for each in self.new:
            pool.watch_exit(each)

    async def _why_not(self, new: Sequence[Instance]) -> Failure:
        dead = next((each for each in new if not each.is_alive), None)
        if dead is None:
            return Failure(f"{instances.SUBJECT} did not begin to serve")
        exit_, lines = await dead.exit()
        found = instances.failure_of(exit_, lines, root=dead.root, before_ready=False)
        return Failure(f"{found.reason}, as it began to serve", found.short, found.traceback, found.lines)

    async def _serve_again(self, old: Sequence[Instance]) -> None:
        serving = await asyncio.gather(*(each.serve() for each in old))
        left = [each for each, is_serving in zip(old, serving, strict=True) if is_serving]
        self._before.give_back(self.pool, left)

    def _on_trial(self, failure: Failure) -> None:
        if not self.failed.done():
            self.failed.set_result(failure)

    # --- after it ---------------------------------------------------------------------------------------------------

    def resume(
        self, *, new: Iterable[Instance], resting: Iterable[Instance], before: tuple[str, str, WebConfig, Make]
    ) -> None:
        """Stand where an earlier daemon stood after the switch: these are the new ones, which serve, and the old ones,
        which are paused. `before` is what the old ones are: release, roll, settings, and how they are made."""
        self.new, self.resting = list(new), list(resting)
        self._before.generation = self.pool.next_generation()
        self._before.release, self._before.roll, self._before.config, self._before.make = before
        for each in self.resting:
            each.generation = self._before.generation
        for each in self.new:
            each.generation = self._generation
        self.pool.on_trial = self._on_trial
        self.pool.take_over(
            self.new, generation=self._generation, release=self.release, roll=self.roll, config=self.config,
            make=self.make,
        )  # fmt: skip
        for each in self.new:
            self.pool.watch_exit(each)

    async def fill(self) -> None:
        """After `resume`: boot what is missing of the new ones, since some have died with the daemon."""
        missing = self.config.instances - len(self.new)
        made = [self.pool.boots.instance(self.pool.boots.new_id(), self._generation) for _ in range(missing)]
        for each in made:
            each.release, each.roll = self.release, self.roll
        try:
            await asyncio.gather(*(self.pool.boots.start(each, self.make, self.config) for each in made))
        except BootFailed as error:
            await asyncio.gather(*(each.kill_and_wait() for each in made))
            self._on_trial(error.failure)
            return
        await self.pool.in_turn(partial(self._join, made))

    async def _join(self, made: Sequence[Instance]) -> None:
        if not all(await asyncio.gather(*(each.serve() for each in made))):
            self._on_trial(Failure(f"{instances.SUBJECT} did not begin to serve"))
        self.new += made
        self.pool.take_over(
            self.new, generation=self._generation, release=self.release, roll=self.roll, config=self.config,
            make=self.make,
        )  # fmt: skip
        for each in made:
            self.pool.watch_exit(each)

    async def accept(self) -> None:
        """The new ones stay; the old ones finish and end (`pool.drained` waits for them)."""
        await self.pool.in_turn(self._accept)

    async def _accept(self) -> None:
        self.pool.on_trial = None
        for old in self.resting:
            self.pool.let_go(old)
        self.resting = []

    async def revert(self, *, undo: Step) -> None:
        """The old ones serve again; the new ones finish and end."""
        await self.pool.in_turn(lambda: self._revert(undo))

    async def _revert(self, undo: Step) -> None:
        pool = self.pool
        await asyncio.gather(*(each.pause() for each in pool.serving))
        try:
            await undo()
        finally:  # whatever has become of that, the new ones are no good
            new, self.new = pool.serving, []
            pool.on_trial = None
            await self._serve_again(self.resting)
            for each in new:
                pool.let_go(each)
            self.resting = []
