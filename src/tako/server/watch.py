"""The watch after a switch: for some seconds nothing of the release may break, or it is taken back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tako.errors import DeployFailed
from tako.host.gate import refusal
from tako.server.job_words import CURES
from tako.supervisor.instance import BootFailed, Failure
from tako.supervisor.states import Failure as WorkerFailure

if TYPE_CHECKING:
    from tako.server.job import Job


async def watch(job: Job) -> None:
    """Return when the release has held out.

    Raises:
        BootFailed: one of its instances has ended, or is sick.
        DeployFailed: one of its groups cannot start a worker any more.
    """
    host = job.site.host
    assert host is not None
    broken: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def on_broken(group: str, failure: WorkerFailure) -> None:
        if not broken.done():
            found = refusal(group, failure)
            broken.set_result(DeployFailed(found.message, cure=CURES["watch"], detail=found.detail))

    def on_dead(failed: asyncio.Future[Failure]) -> None:
        if not broken.done() and not failed.cancelled():
            broken.set_result(BootFailed(failed.result()))

    if job.roll is not None:
        job.roll.failed.add_done_callback(on_dead)
    certificates = asyncio.ensure_future(_fetch_certificates(job))
    try:
        host.groups.try_out(on_broken)
        await _until_time_is_up(job, broken)
        # A certificate that nobody gives us takes a while: what breaks then is not replaced, so it must be noticed.
        either: set[asyncio.Future[Any]] = {broken, certificates}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise broken.result()
        await certificates
    finally:
        host.groups.try_out(None)
        certificates.cancel()


async def _until_time_is_up(job: Job, broken: asyncio.Future[Exception]) -> None:
    daemon = job.site.daemon
    # Counted from the phase's beginning, which an earlier daemon may have seen.
    left_s = daemon.watch_s - (daemon.clock.now_ms() - job.phase_ms) / 1000
    done, _ = await asyncio.wait({broken}, timeout=max(0.1, left_s))
    if done:
        raise broken.result()


async def _fetch_certificates(job: Job) -> None:
    """Have each host's certificate fetched before the first visitor asks. One that cannot be had is told: the release
    serves all the same, and who visits the host is told by their browser."""
    keeper = job.site.daemon.certificates
    hosts = dict.fromkeys(route.partition("/")[0] for route in job.site.routes())
    for host in [each for each in hosts if keeper is not None and not each.startswith("*.")]:
        assert keeper is not None
        found = await keeper.fetch(host)
        if found.problem is None:
            until = time.strftime("%Y-%m-%d", time.gmtime((found.expires_ms or 0) / 1000))
            job.events.tell("note", "watch", f"https://{host} has a certificate by {found.issuer}, until {until}")
        else:
            job.events.tell(
                "note", "watch", f"https://{host} has no certificate: {found.problem}", code="certificate",
                cure=f"Does {host} lead to this server in the DNS, and is port 80 open? It is tried again at each "
                "visit, and twice a day.",
            )  # fmt: skip
