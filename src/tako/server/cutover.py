"""The switch of a job and its reverse: one transaction in runs.db each, and what follows from it in state.db.

What follows is repaired after a crash from what runs.db says (`recover.py`). On a full disk the way back is owed: the
old instances serve all the same, and it is paid as soon as there is room.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from tako.errors import StoreUnavailable
from tako.host import activation
from tako.server import failpoints
from tako.server.state import AGAIN_S

if TYPE_CHECKING:
    from tako.server.job import Job


class Cutover:
    """From what served before to the job's release, and back."""

    def __init__(self, job: Job) -> None:
        self.is_live = False  # the transaction has been committed, and was not taken back
        self._job = job
        self._site = job.site
        self._state = job.site.daemon.state
        self._is_way_back_owed = False  # the disk was too full to write it down

    async def switch(self) -> None:
        """Have the release serve. What goes wrong before the transaction leaves everything as it was."""
        job, site = self._job, self._site
        host = site.host
        assert host is not None
        job.options |= {"before": {"release": site.current, "roll": site.daemon.roll_of(host)}}
        self._state.run("set_options", job=job.id, options=json.dumps(job.options))
        if job.roll is None:
            await self._commit()
        else:
            await job.roll.switch(commit=self._commit, undo=self.take_back)
        job.events.tell("note", "switch", f"{job.release} serves")

    async def _commit(self) -> None:
        job, site = self._job, self._site
        assert site.host is not None
        failpoints.reach("commit", "before")
        await activation.flip(site.host, release=job.release, roll=job.id, told=job.told)
        failpoints.reach("commit", "after")
        self.is_live = True
        self._state.at_last(self.follow)
        site.follow(job.launch(), job.told)
        try:
            site.point_current(job.release)
        except OSError as error:  # too late to stop for it: the release serves, and it is put right at the next start
            site.say("error", f"{site.layout.current} does not lead to {job.release} yet: {error}")

    def follow(self) -> None:
        """state.db says what runs.db says."""
        job, site, now_ms = self._job, self._site, self._site.daemon.clock.now_ms()
        with self._state.transaction():
            self._state.run("set_current", app=site.app, env=site.env, release=job.release)
            self._state.run("complete_release", app=site.app, env=site.env, release=job.release)
            self._state.run("set_live", app=site.app, env=site.env, release=job.release, now_ms=now_ms)
            self._state.run("adopt_secrets", app=site.app, env=site.env, job=job.id, now_ms=now_ms)
        site.daemon.publish_routes(site, job.release)

    async def take_back(self) -> None:
        """Have what served before serve again. On a full disk it is owed, and said to be."""
        try:
            await self._go_back()
        except StoreUnavailable as error:
            self._is_way_back_owed = True
            words = f"{error.message} Runs wait until there is room: a claim is a write, too"
            self._job.events.tell("note", self._job.phase, words)

    async def pay_way_back(self) -> None:
        """Until it is paid the job is not over. A daemon that dies meanwhile leaves a release that is watched."""
        while self._is_way_back_owed:
            await asyncio.sleep(AGAIN_S)
            with suppress(StoreUnavailable):
                await self._go_back()
                self._is_way_back_owed = False

    async def _go_back(self) -> None:
        site, before = self._site, self._job.options["before"]
        assert site.host is not None
        release = before["release"]
        told = await activation.told_by(site.host, release=release) if release else {}
        await activation.flip(site.host, release=release or "", roll=before["roll"], told=told)
        self.is_live = False
        self._state.at_last(self.follow_back)
        if release:
            site.follow(site.launch(release), told)
            site.point_current(release)
            site.daemon.publish_routes(site, release)

    def follow_back(self) -> None:
        """state.db says again what it said before the switch."""
        site, release = self._site, self._job.options["before"]["release"]
        with self._state.transaction():
            self._state.run("restore_secrets", app=site.app, env=site.env, job=self._job.id)
            self._state.run("put_back_current", app=site.app, env=site.env, release=release)
