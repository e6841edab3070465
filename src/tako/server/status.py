"""What a site looks like from outside."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from tako.host import status as engine_status
from tako.server import launching

if TYPE_CHECKING:
    from tako.server.site import Site


def job_info(row: sqlite3.Row) -> dict[str, Any]:
    """A job's row as a JobInfo."""
    names = (
        "app", "env", "job", "kind", "release", "previous", "by", "message", "phase", "started_ms", "phase_ms",
        "finished_ms", "outcome", "error",
    )  # fmt: skip
    return {name: row[name] for name in names}


def app(site: Site) -> dict[str, Any]:
    """A site in `app.list`."""
    web = site.pool.snapshot() if site.pool is not None else None
    state = "no release" if site.current is None else "stopped" if site.host is None else "serving"
    if web is not None and site.current is not None:
        state = web["state"]
    reason = site.failure or (web["reason"] if web is not None else None)
    return {
        "app": site.app,
        "env": site.env,
        "release": site.current,
        "state": "failed" if site.failure else state,
        "reason": reason,
        "instances": web["instances"] if web is not None else [],
        "routes": site.routes(),
        "job": site.job.info() if site.job is not None else None,
        "maintenance": bool(site.row["maintenance"]),
    }


async def full(site: Site) -> dict[str, Any]:
    """A site with its engine."""
    found = app(site)
    found["secrets"] = sorted(site.secrets())
    if site.host is not None:
        found["engine"] = await engine_status.report(site.host)
        web, workers = launching.scale_of(site.host.config)
        found["scale"] = {"web": web, "workers": workers}
    return found


def releases(site: Site, *, limit: int) -> dict[str, Any]:
    """The releases of a site, and its newest jobs."""
    state, current = site.daemon.state, site.current
    return {
        "current": current,
        "releases": [
            {
                "release": row["release"], "created_ms": row["created_ms"], "by": row["by"], "message": row["message"],
                "files": row["files"], "bytes": row["bytes"], "is_current": row["release"] == current,
                "is_complete": bool(row["complete"]), "live_ms": row["live_ms"],
            }
            for row in state.all("releases", app=site.app, env=site.env)
        ],
        "jobs": [job_info(row) for row in state.all("jobs_of", app=site.app, env=site.env, limit=limit)],
    }  # fmt: skip
