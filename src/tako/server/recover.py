"""What a daemon finds of the one before: sites that serve, instances that live, jobs that were under way.

`runs.db` says which change is in force (`active_roll`). An instance that was booted by it serves; one of a change that
never came to its switch is killed; one of the change before is drained, or rests as long as the new one is watched.
Workers are adopted by the engine. What no row tells of is swept.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tako.host import activation
from tako.server import launching, stage
from tako.server.job import Job
from tako.server.site import NOTHING, Site, active_of
from tako.server.spawner import INSTANCE
from tako.supervisor import child
from tako.supervisor.instance import Instance
from tako.supervisor.roll import Roll

if TYPE_CHECKING:
    from tako.server.daemon import Daemon

BEFORE_SWITCH = (
    "lock", "upload", "stage", "build", "release", "gate", "boot", "health", "held",
)  # fmt: skip


async def reopen(site: Site) -> None:
    """Bring a site back to what it was, and go on with its job."""
    await asyncio.to_thread(stage.sweep, site.layout)
    row = site.daemon.state.one("running_job", app=site.app, env=site.env)
    release, roll = active_of(site.layout.places(site.layout.data).database)
    job = Job(site, row) if row is not None else None
    if release is None:
        await _nothing_serves(site, job)
        return
    committed = job is not None and roll == job.id
    if not committed and job is not None and job.options.get("before") and job.phase in ("switch", "watch"):
        # It was taken back, or the switch never came: state.db follows runs.db.
        job.cutover.follow_back()
    if committed and job is not None:
        job.cutover.follow()
    elif site.current != release:
        site.daemon.state.run("put_back_current", app=site.app, env=site.env, release=release)
    await _open(site, release, roll, job if committed else None)
    if job is None:
        return
    if committed:
        _resume(site, job)
    else:
        _finish_failed(site, job, row)


async def _nothing_serves(site: Site, job: Job | None) -> None:
    """No release has ever been accepted here."""
    kill_all(site)
    if job is not None:
        site.daemon.state.run("put_back_current", app=site.app, env=site.env, release=None)
        _finish_failed(site, job, None)


async def _open(site: Site, release: str, roll: str, committed: Job | None) -> None:
    launch = site.launch(release)
    host = await site.open_host(launch)
    told = await activation.told_by(host, release=release)
    site.is_begun = True
    for registry in told.values():
        host.registry.told(registry)
    host.begin()
    site.point_current(release)
    before = committed.options["before"] if committed is not None else {"release": None, "roll": None}
    serving, resting = await _adopt(site, roll=roll, before_roll=before["roll"], is_watched=_is_watched(committed))
    if site.pool is None and launching.has_web(launch.config):
        site.open_pool()
    if site.pool is None:
        return
    pool = site.pool
    config = site.web_config(launch) if launching.has_web(launch.config) else NOTHING
    if committed is not None and _is_watched(committed):
        committed.roll = Roll(pool, release=release, roll=roll, config=config, make=site.maker(launch))
        old = site.launch(before["release"]) if before["release"] else None
        has_old = old is not None and launching.has_web(old.config)
        committed.roll.resume(
            new=serving,
            resting=resting,
            before=(
                before["release"] or "",
                before["roll"] or "",
                site.web_config(old) if old is not None and has_old else NOTHING,
                site.maker(old) if old is not None else site.spawn_request,
            ),
        )
        if len(serving) < config.instances:
            await committed.roll.fill()
        return
    generation = pool.next_generation()
    for each in serving:
        each.generation = generation
    pool.take_over(serving, generation=generation, release=release, roll=roll, config=config, make=site.maker(launch))
    for each in serving:
        pool.watch_exit(each)


def _is_watched(job: Job | None) -> bool:
    return job is not None and job.phase in ("switch", "watch")


async def _adopt(
    site: Site, *, roll: str, before_roll: str | None, is_watched: bool
) -> tuple[list[Instance], list[Instance]]:
    """The instances that live: those that serve from now on, and those that rest. The others are drained or killed."""
    found: list[Instance] = []
    sockets = []
    for recorded in site.records.all():
        if recorded.record is None:
            site.records.forget(recorded.id)  # it was being started; the sweep finds it if it lives
            continue
        made = Instance(
            recorded.id,
            generation=0,
            clock=site.daemon.clock,
            on_line=partial(site.output, recorded.id),
            on_change=site.wake_pool,
            redact=site.redact,
        )
        sock = await made.adopt(recorded.record)
        if sock is not None:
            sockets.append(sock)
            found.append(made)
        elif made.is_alive:
            await made.kill_and_wait()
            site.records.forget(recorded.id)
        else:
            site.records.forget(recorded.id)
    listener = site.daemon.adopt_listener(site, sockets)
    if listener is None:
        # Nobody can be reached by the path any more: what they hold is a queue without an entry.
        await asyncio.gather(*(each.kill_and_wait() for each in found))
        for each in found:
            site.records.forget(each.id)
        return [], []
    site.open_pool(listener)
    assert site.pool is not None
    serving, resting = [], []
    for each in found:
        if each.roll == roll and await each.serve():
            serving.append(each)
        elif each.roll == before_roll and is_watched:
            await each.pause()
            resting.append(each)
        elif each.roll == roll:
            site.records.forget(each.id)
        else:
            await each.pause()
            site.pool.let_go(each)
    return serving, resting


def _resume(site: Site, job: Job) -> None:
    """After the switch: go on where it stood."""
    job.cutover.is_live = True
    site.job = job
    job.events.tell("note", job.phase, f"the daemon was started anew in {job.phase}; it goes on")
    start = "watch" if job.phase in ("switch", "watch") else job.phase
    site.daemon.run_job(job, start=start)


def _finish_failed(site: Site, job: Job, row: sqlite3.Row | None) -> None:
    """Before the switch, or taken back: it is over. What it has built stays for the next one."""
    if job.phase == "watch":
        job.finish("rolled_back", "it was taken back, and then the daemon was started anew")
        return
    words = f"the daemon was started anew in {job.phase}; nothing had moved"
    if row is not None and row["marker"] == "started":
        words = "the daemon was started anew while the release command ran: its outcome is unknown, it is not run again"
    job.drop_release()
    job.finish("failed", words)


def sweep(daemon: Daemon) -> None:
    """Kill processes of ours that nobody has written down: started, and then the daemon died before it could."""
    known = set()
    for site in daemon.sites.values():
        known |= {recorded.id for recorded in site.records.all()}
        if site.host is not None:
            known |= {slot.id for pool in site.host.groups.pools.values() for slot in pool.state.slots}
    mark = INSTANCE.encode() + b"="
    ours = os.fsencode(str(daemon.layout.run)) + b"/"
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            environ = (folder / "environ").read_bytes().split(b"\0")
            name = next((each[len(mark) :].decode() for each in environ if each.startswith(mark)), None)
            is_ours = any(each.startswith(b"TAKO_INTERNAL_SOCKET=" + ours) for each in environ)
            if name is not None and is_ours and name not in known and os.getpgid(int(folder.name)) == int(folder.name):
                os.killpg(int(folder.name), signal.SIGKILL)


def kill_all(site: Site) -> None:
    """Kill the instances that are written down."""
    for recorded in site.records.all():
        _kill(recorded.record)
        site.records.forget(recorded.id)


def _kill(record: dict[str, object] | None) -> None:
    if record is None or record.get("boot_id") != child.boot_id():
        return
    pid = record["pid"]
    if isinstance(pid, int) and child.start_time(pid) == record["start_time"]:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
