"""What of old releases goes: all but the current one, the four before it, and those of the last week."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from tako.server import stage

if TYPE_CHECKING:
    from tako.server.site import Site

KEPT = 5
KEPT_MS = 7 * 86_400_000
SCARCE = 0.10  # with less of the disk free than this, age keeps nothing


async def prune(site: Site) -> list[str]:
    """Remove old releases of a site, then blobs and environments that nobody needs any more; which releases went."""
    daemon = site.daemon
    gone = []
    for row in _old(site):
        await asyncio.to_thread(stage.remove, site.layout.release(row))
        daemon.state.run("delete_release", app=site.app, env=site.env, release=row)
        gone.append(row)
    daemon.state.run("prune_jobs", app=site.app, env=site.env)
    daemon.state.run("prune_events")
    await _sweep(site)
    return gone


def _old(site: Site) -> list[str]:
    daemon = site.daemon
    row = site.row
    now_ms = daemon.clock.now_ms()
    found = os.statvfs(daemon.layout.data)
    is_scarce = found.f_blocks > 0 and found.f_bavail / found.f_blocks < SCARCE
    old = []
    kept = 0
    for each in daemon.state.all("releases", app=site.app, env=site.env):
        is_needed = each["release"] in (row["current"], row["previous"])
        is_young = now_ms - each["created_ms"] < KEPT_MS and not is_scarce
        if is_needed or kept < KEPT or is_young:
            kept += 1
        else:
            old.append(each["release"])
    return old


async def _sweep(site: Site) -> None:
    """Under no upload: what it has sent so far belongs to no release yet."""
    daemon = site.daemon
    if any(other.job is not None and other is not site for other in daemon.sites.values()):
        return
    wanted = {entry["sha256"] for row in daemon.state.all("all_manifests") for entry in json.loads(row["manifest"])}
    await asyncio.to_thread(daemon.blobs.prune, wanted)
    environments = {row["environment"] for row in daemon.state.all("environments")}
    await asyncio.to_thread(daemon.environments.prune, environments)
