"""Asks the instances that serve, every second, whether they are well. What then becomes of a sick one is the pool's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tako.supervisor import web_boots
from tako.supervisor.instance import Instance
from tako.supervisor.web_house import WebConfig

HEALTH_EVERY_S = 1.0
LOOP_TIMEOUT_S = 3.0  # for a word that costs the instance nothing
SICK_AFTER = 3


class Examiner:
    """`serving` are those to ask, `config` how. `on_sick` hears of one that was not well three times in a row, and of
    what was wrong the last time."""

    def __init__(
        self, *, serving: Callable[[], Sequence[Instance]], config: Callable[[], WebConfig],
        on_sick: Callable[[Instance, str], None],
    ) -> None:  # fmt: skip
        self._serving = serving
        self._config = config
        self._on_sick = on_sick
        self._times: dict[str, int] = {}  # how often in a row an instance did not answer, by id

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(HEALTH_EVERY_S)
            await self.run_once()

    async def run_once(self) -> None:
        """Ask each of them, all at once."""
        asked = self._serving()
        answers = await asyncio.gather(*(self._how_is(each) for each in asked))
        serve_still = self._serving()
        for each, wrong in zip(asked, answers, strict=True):
            self._times[each.id] = self._times.get(each.id, 0) + 1 if wrong else 0
            if wrong and self._times[each.id] == SICK_AFTER and each in serve_still:
                self._on_sick(each, wrong)
        self._times = {each.id: self._times[each.id] for each in asked if each in serve_still}

    def begin_anew(self) -> None:
        """Others serve: nothing is known of them."""
        self._times.clear()

    async def _how_is(self, served: Instance) -> str | None:
        if not served.is_serving or not served.is_alive:
            return None
        if not await served.answers(timeout_s=LOOP_TIMEOUT_S):
            return f"did not answer within {LOOP_TIMEOUT_S:g}s"
        return await web_boots.ill_health(served, self._config())
