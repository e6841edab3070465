"""The commands of the management socket. One short method each: check the fields, call the daemon, shape the answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

from tako.errors import (
    DeployRefused,
    DeployRunning,
    InvalidRequest,
    TakoError,
    Unauthorized,
    UnknownRelease,
    VersionMismatch,
)
from tako.host.fields import body, flag, integer, optional_integer, optional_text, text, texts
from tako.protocol.management import MANAGEMENT_PROTOCOL, Phase, secrets_hash
from tako.rpc.auth import Peer, Principal, Role
from tako.rpc.connection import Connection, Handler, Message
from tako.server import dashboard, launching, layout, logs, metrics, routing, stage, status
from tako.server.events import stored
from tako.server.job import Job
from tako.server.one_off import OneOff
from tako.server.site import Site

if TYPE_CHECKING:
    from tako.server.daemon import Daemon

__all__ = ["Connection", "Phase", "authenticate", "closed", "commands"]

JOBS_SHOWN = 20
MAX_SECRETS_BYTES = 512 * 1024


def commands(daemon: Daemon) -> dict[str, Handler]:
    """Every command of the management socket."""
    own = Commands(daemon)
    return {
        "hello": own.hello, "ping": own.ping, "app.list": own.app_list, "app.status": own.app_status,
        "app.restart": own.app_restart, "routes": own.routes, "metrics": own.metrics, "server.restart": own.restart,
        "deploy.manifest": own.manifest, "deploy.begin": own.begin, "blob.put": own.blob_put,
        "deploy.commit": own.commit, "deploy.switch": own.switch, "deploy.abort": own.abort,
        "deploy.attach": own.attach, "releases": own.releases, "rollback": own.rollback, "scale": own.scale,
        "delete": own.delete, "secrets.put": own.secrets_put, "secrets.names": own.secrets_names, "logs": own.logs,
        "maintenance": own.maintenance, "connect": own.connect, "dashboard": own.dashboard, "one_off": own.one_off,
    }  # fmt: skip


def authenticate(message: Message, peer: Peer) -> Principal:
    """Whoever could open the socket: the kernel has looked at its mode. The name is for people who read `releases`.

    Raises:
        Unauthorized: this is a command for an app's own socket.
    """
    if "token" in message or message.get("command") in ("enqueue_runs", "claim_runs", "enqueue_run", "claim_run"):
        raise Unauthorized(
            f"`{str(message.get('command'))[:40]}` is for an app's own socket; this one takes deploys and secrets",
            cure="Ask for it with `connect`.",
        )
    return Principal("", Role.CLIENT)


def closed(daemon: Daemon, connection: Connection) -> None:
    """A connection is gone; an upload that was under way on it is over. What has arrived stays."""
    logs.forget(connection)
    for site in daemon.sites.values():
        job = site.job
        if job is not None and job.uploads_on is connection and job.phase == "upload":
            job.events.tell("failed", "upload", "the connection ended before everything had arrived", code="cut")
            job.drop_release()
            job.finish("failed", "the connection ended before everything had arrived; what has stays for the next one")


class Commands:
    """The commands."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def _site(self, message: Message) -> Site:
        return self._daemon.site(text(message, "app"), text(message, "env"))

    def _by(self, connection: Connection, message: Message) -> str:
        found = message.get("by") or connection.state.get("by") or "somebody"
        return "".join(char for char in str(found) if char.isprintable())[:80] or "somebody"

    # --- the server -------------------------------------------------------------------------------------------------

    def hello(self, connection: Connection, message: Message) -> Any:
        """Who is there."""
        if message.get("protocol", MANAGEMENT_PROTOCOL) != MANAGEMENT_PROTOCOL:
            raise VersionMismatch(
                f"this server speaks management protocol {MANAGEMENT_PROTOCOL}, and you (tako "
                f"{str(message.get('version'))[:40]}) speak {str(message['protocol'])[:20]}",
                cure="Upgrade the older one: `pip install -U tako-py`, or `tako servers upgrade`.",
            )
        connection.state["by"] = self._by(connection, message)
        return {"protocol": MANAGEMENT_PROTOCOL, **self._daemon.hello()}

    def ping(self, connection: Connection, message: Message) -> Any:
        """Nothing, to see whether we are there."""
        return {}

    def restart(self, connection: Connection, message: Message) -> Any:
        """Execute ourselves anew, after this is answered."""
        asyncio.get_running_loop().call_soon(self._daemon.restart_wanted.set)
        return {}

    def routes(self, connection: Connection, message: Message) -> Any:
        """Which host name leads where."""
        marked = {(row["app"], row["env"]): bool(row["maintenance"]) for row in self._daemon.state.all("apps")}
        return {
            "routes": [
                {
                    "app": row["app"], "env": row["env"], "host": row["host"], "path": row["path"],
                    "tls": self._daemon.options.http is None, "maintenance": marked[(row["app"], row["env"])],
                }
                for row in self._daemon.state.all("routes")
            ]
        }  # fmt: skip

    async def metrics(self, connection: Connection, message: Message) -> Any:
        """What `/metrics` answers."""
        return {"text": await metrics.text(self._daemon)}

    # --- deploy -----------------------------------------------------------------------------------------------------

    def manifest(self, connection: Connection, message: Message) -> Any:
        """A page of the manifest that a `deploy.begin` on this connection ends."""
        pages = connection.state.setdefault("manifest", [])
        pages += stage.check_page(message.get("manifest"), before=len(pages))
        return {"files": len(pages)}

    async def begin(self, connection: Connection, message: Message) -> Any:
        """Take the lock, and tell what is missing."""
        daemon = self._daemon
        pages = connection.state.pop("manifest", [])
        release = text(message, "release")
        layout.require_release(release)
        manifest = stage.check_manifest(message.get("manifest"), before=pages)
        orphans = message.get("orphans", "refuse")
        if orphans not in ("refuse", "keep", "cancel"):
            raise InvalidRequest("invalid request: `orphans` is refuse, keep or cancel")
        wanted = [routing.split(route) for route in texts(message, "routes")] if "routes" in message else None
        site = daemon.new_site(text(message, "app"), text(message, "env"))
        await self._their_turn(site)
        self._require_free(site)
        routing.check(daemon, site, wanted or [])
        before = site.release_row(release)
        digest = stage.digest_of(manifest)
        is_known = before is not None and bool(before["complete"])
        if before is not None and stage.digest_of(json.loads(before["manifest"])) != digest:
            raise DeployRefused(
                f"{release} is here already, with other files", cure="Give this release an id of its own."
            )
        need = [] if is_known else daemon.blobs.missing(entry["sha256"] for entry in manifest)
        sizes = {entry["sha256"]: entry["size"] for entry in manifest}
        missing_bytes = sum(sizes[each] for each in need)
        daemon.blobs.require_room(missing_bytes)
        options = {"orphans": orphans, "leader": bool(message.get("leader", True))}
        with daemon.state.transaction():
            if before is None:
                self._add_release(site, release, manifest, message)
            job = self._new_job(connection, message, site, kind="deploy", release=release, options=options)
        site.job = job
        job.uploads_on = connection
        job.sizes = sizes
        put = daemon.state.one("secrets", app=site.app, env=site.env)
        theirs = optional_text(message, "secrets_hash")
        return {
            "job": job.id, "need": need, "bytes": missing_bytes, "is_known": is_known,
            "secrets_needed": theirs is not None and theirs != (put["hash"] if put is not None else _no_secrets(site)),
            "current": site.current,
        }  # fmt: skip

    def _add_release(self, site: Site, release: str, manifest: Any, message: Message) -> None:
        self._daemon.state.run(
            "add_release", app=site.app, env=site.env, release=release, now_ms=self._daemon.clock.now_ms(),
            by=str(message.get("by", ""))[:80], message=optional_text(message, "message"),
            server=optional_text(message, "server"), manifest=json.dumps(manifest), files=len(manifest),
            bytes=sum(entry["size"] for entry in manifest),
            routes=json.dumps(texts(message, "routes")) if "routes" in message else None,
        )  # fmt: skip

    async def _their_turn(self, site: Site) -> None:
        """A job whose release serves already, and that waits for what is old to finish, holds nobody up."""
        if site.job is not None:
            await site.job.cut_short()

    def _require_free(self, site: Site) -> None:
        if site.failure is not None and site.host is None and site.current is not None:
            raise DeployRefused(
                f"{site.app} ({site.env}) could not be opened: {site.failure}",
                cure="Mend that first, then restart the server: `systemctl restart tako-server`.",
            )
        self._require_no_job(site)

    def _require_no_job(self, site: Site) -> None:
        if site.job is not None:
            job = site.job
            since = time.strftime("%H:%M", time.localtime(job.phase_ms / 1000))
            raise DeployRunning(
                f"{job.id} ({job.kind} of {job.release} by {job.by}) is in {job.phase.upper()} since {since}",
                cure="Follow it: `tako deploy --attach`."
                + ("" if job.has_switched else " Call it off: `tako deploy --abort`."),
                detail={"job": dict(job.info())},
            )

    def _new_job(
        self, connection: Connection, message: Message, site: Site, *, kind: str, release: str,
        options: dict[str, Any],
    ) -> Job:  # fmt: skip
        """The row is the lock: a second one of this site is refused by the index. The job is the site's when the row
        is committed, and not before: it may not be."""
        daemon = self._daemon
        self._require_free(site)
        job_id = f"d{daemon.state.number('job')}"
        by, now_ms = self._by(connection, message), daemon.clock.now_ms()
        daemon.state.run(
            "add_job", job=job_id, app=site.app, env=site.env, kind=kind, release=release, previous=site.current,
            by=by, message=optional_text(message, "message"), options=json.dumps(options),
            phase="upload" if kind == "deploy" else "lock", now_ms=now_ms,
        )  # fmt: skip
        row = daemon.state.one("job", job=job_id)
        assert row is not None
        return Job(site, row)

    def blob_put(self, connection: Connection, message: Message) -> Any:
        """A piece of a file."""
        job = self._job(message)
        digest = text(message, "sha256")
        if job.phase != "upload" or digest not in job.sizes:
            raise InvalidRequest(f"invalid request: {digest[:16]} is no file of this deploy, or it was committed")
        have, complete = self._daemon.blobs.put(
            job.id, digest, offset=integer(message, "offset"), data=body(message, "data"),
            is_zlib=flag(message, "zlib"), size=job.sizes[digest],
        )  # fmt: skip
        return {"have": have, "complete": complete}

    def commit(self, connection: Connection, message: Message) -> Any:
        """All is here: go."""
        job = self._job(message)
        if job.phase != "upload" or job.is_committed:
            return job.info()
        job.hold(flag(message, "hold"))
        job.is_committed, job.uploads_on = True, None
        self._daemon.run_job(job)
        return job.info()

    def switch(self, connection: Connection, message: Message) -> Any:
        """Go on from `held`."""
        job = self._job(message)
        job.let_go()
        return job.info()

    async def abort(self, connection: Connection, message: Message) -> Any:
        """Call it off."""
        job = self._job(message)
        job.abort()
        if not job.is_committed and job.kind == "deploy":
            job.drop_release()
            job.finish("aborted", "called off during the upload")
        await job.done.wait()
        return job.info()

    def attach(self, connection: Connection, message: Message) -> Any:
        """What it tells, from the beginning."""
        name, after = text(message, "job"), optional_integer(message, "after") or 0
        job = self._running(name)
        if job is not None:
            job.events.attach(connection, after=after)
            return job.info()
        row = self._daemon.state.one("job", job=name)
        if row is None:
            raise DeployRefused(f"there is no job {name[:40]}", cure="See `tako releases` for those there are.")
        events = stored(self._daemon.state, name, after=after)
        for event in events:
            asyncio.get_running_loop().call_soon(connection.push, dict(event))
        return status.job_info(row)

    def _running(self, name: str) -> Job | None:
        found = (site.job for site in self._daemon.sites.values() if site.job is not None and site.job.id == name)
        return next(found, None)

    def _job(self, message: Message) -> Job:
        name = text(message, "job")
        job = self._running(name)
        if job is None:
            row = self._daemon.state.one("job", job=name)
            ended = f" any more: it ended as {row['outcome']}" if row is not None else ""
            raise DeployRefused(f"{name[:40]} is not under way{ended}", cure="See `tako releases`.")
        return job

    # --- releases ---------------------------------------------------------------------------------------------------

    def releases(self, connection: Connection, message: Message) -> Any:
        """What there is to go back to, and who did what."""
        site = self._site(message)
        return status.releases(site, limit=JOBS_SHOWN)

    async def rollback(self, connection: Connection, message: Message) -> Any:
        """To another release, which is here."""
        site = self._site(message)
        await self._their_turn(site)
        release = optional_text(message, "release") or site.row["previous"]
        if release is None:
            raise UnknownRelease(f"{site.app} ({site.env}) has no release before {site.current or 'this one'}")
        row = site.release_row(release)
        if row is None or not row["complete"]:
            known = ", ".join(
                each["release"]
                for each in self._daemon.state.all("releases", app=site.app, env=site.env)
                if each["complete"] and each["release"] != site.current
            )
            raise UnknownRelease(
                f"{site.app} ({site.env}) has no release {release[:64]} to go back to; there is: {known or 'none'}"
            )
        if release == site.current:
            raise UnknownRelease(f"{release} serves already")
        routing.check(self._daemon, site, routing.wanted(site, release))
        options = {"hold": flag(message, "hold"), "orphans": message.get("orphans", "keep")}
        job = site.job = self._new_job(connection, message, site, kind="rollback", release=release, options=options)
        self._daemon.run_job(job)
        return {"job": job.id}

    def app_restart(self, connection: Connection, message: Message) -> Any:
        """New instances and workers of the release that serves."""
        site = self._site(message)
        job = self._roll(connection, message, site, kind="restart")
        return {"job": job.id}

    def _roll(self, connection: Connection, message: Message, site: Site, *, kind: str) -> Job:
        if site.current is None:
            raise UnknownRelease(f"{site.app} ({site.env}) has no release that serves")
        options = {"orphans": "keep"}
        job = site.job = self._new_job(connection, message, site, kind=kind, release=site.current, options=options)
        self._daemon.run_job(job)
        return job

    def scale(self, connection: Connection, message: Message) -> Any:
        """Other numbers, at once."""
        site, daemon = self._site(message), self._daemon
        if site.current is None or site.host is None:
            raise UnknownRelease(f"{site.app} ({site.env}) has no release that serves")
        self._require_free(site)
        row = site.release_row(site.current)
        assert row is not None
        source = site.layout.source(site.current)
        python = site.host.config.python
        base = launching.config_of(source, app=site.app, server=row["server"], python=python, scale={})
        told = site.scale()
        if (web := optional_integer(message, "web")) is not None:
            told["web"] = {"from": base.web.instances, "to": _count(web, least=1, what="web")}
        workers = message.get("workers", {})
        if not isinstance(workers, dict):
            raise InvalidRequest("invalid request: `workers` is an object")
        for group, number in workers.items():
            if group not in site.host.groups.pools:
                known = ", ".join(sorted(site.host.groups.pools)) or "none"
                raise TakoError(f"there is no group {str(group)[:60]!r}; there is: {known}")
            own = {"from": base.group(group).workers, "to": _count(number, least=0, what=group)}
            told["workers"] = {**told.get("workers", {}), group: own}
        daemon.state.run("set_scale", app=site.app, env=site.env, scale=json.dumps(told))
        config = launching.scaled(base, told)
        site.host.config = dataclasses.replace(site.host.config, web=config.web, groups=config.groups)
        for group, pool in site.host.groups.pools.items():
            pool.rescale(site.host.groups.config_of(group))
        if site.pool is not None:
            site.pool.scale(config.web.instances)
        site.say("info", f"scaled by {self._by(connection, message)}: {message.get('web', '')} {workers or ''}".strip())
        instances, groups = launching.scale_of(config)
        return {"web": instances, "workers": groups}

    async def delete(self, connection: Connection, message: Message) -> Any:
        """Everything of it, also of one that cannot be opened."""
        site = self._site(message)
        self._require_no_job(site)
        if message.get("confirm") != f"{site.app}/{site.env}":
            raise TakoError(
                f"{site.app} ({site.env}) was not deleted: it was not confirmed",
                cure=f'Confirm with "{site.app}/{site.env}".',
            )
        await self._daemon.delete(site, keep_data=flag(message, "keep_data"))
        return {}

    # --- secrets ----------------------------------------------------------------------------------------------------

    def secrets_put(self, connection: Connection, message: Message) -> Any:
        """All of them, in place of those before."""
        daemon, values = self._daemon, message.get("secrets")
        if not isinstance(values, dict) or not all(isinstance(each, str) for pair in values.items() for each in pair):
            raise InvalidRequest("invalid request: `secrets` is an object of texts")
        site = daemon.new_site(text(message, "app"), text(message, "env"))
        digest = secrets_hash(app=site.app, env=site.env, secrets=values)
        sealed = daemon.sealer.seal(values, app=site.app, env=site.env)
        now_ms, where = daemon.clock.now_ms(), {"app": site.app, "env": site.env}
        if (name := optional_text(message, "job")) is not None:
            if site.job is None or site.job.id != name or site.job.phase != "upload":
                raise DeployRefused(f"{name[:40]} is no deploy that takes secrets now")
            daemon.state.run("propose_secrets", **where, job=name, hash=digest, sealed=sealed, now_ms=now_ms)
            return {"changed": True, "job": None, "hash": digest}
        before = daemon.state.one("secrets", **where)
        if digest == (before["hash"] if before is not None else _no_secrets(site)):
            return {"changed": False, "job": None, "hash": digest}
        if site.current is None:
            daemon.state.run("put_secrets", **where, hash=digest, sealed=sealed, now_ms=now_ms)
            return {"changed": True, "job": None, "hash": digest}
        with daemon.state.transaction():
            job = self._new_job(
                connection, message, site, kind="secrets", release=site.current, options={"orphans": "keep"}
            )
            daemon.state.run("propose_secrets", **where, job=job.id, hash=digest, sealed=sealed, now_ms=now_ms)
        site.job = job
        daemon.run_job(job)
        return {"changed": True, "job": job.id, "hash": digest}

    def secrets_names(self, connection: Connection, message: Message) -> Any:
        """Their names; never a value."""
        site = self._site(message)
        row = self._daemon.state.one("secrets", app=site.app, env=site.env)
        return {"names": sorted(site.secrets()), "hash": row["hash"] if row is not None else _no_secrets(site)}

    # --- status, logs, the app's own socket -------------------------------------------------------------------------

    def app_list(self, connection: Connection, message: Message) -> Any:
        """Every app in a line."""
        return {"apps": [status.app(site) for _, site in sorted(self._daemon.sites.items())]}

    async def app_status(self, connection: Connection, message: Message) -> Any:
        """One app, with its engine."""
        return await status.full(self._site(message))

    async def logs(self, connection: Connection, message: Message) -> Any:
        """Lines that were kept, and those to come."""
        return await logs.answer(self._site(message), connection, message)

    def maintenance(self, connection: Connection, message: Message) -> Any:
        """Whether the ingress shows a page instead of the app."""
        site, is_on = self._site(message), flag(message, "on")
        self._daemon.state.run("set_maintenance", app=site.app, env=site.env, is_on=int(is_on))
        routing.mark(self._daemon, site, is_on=is_on)
        return {"on": is_on}

    def connect(self, connection: Connection, message: Message) -> Any:
        """From here on the connection is one to the app's own socket."""
        site = self._site(message)
        if site.host is None:
            raise TakoError(
                f"{site.app} ({site.env}) has no engine that runs: {site.failure or 'nothing was deployed'}"
            )
        host = site.host
        asyncio.get_running_loop().call_soon(connection.hand_over, host.server)
        return {}

    def one_off(self, connection: Connection, message: Message) -> Any:
        """A socket at which stdin, stdout and stderr are lent to a command of the release that serves."""
        site, argv = self._site(message), texts(message, "argv")
        if site.current is None or site.host is None:
            raise UnknownRelease(f"{site.app} ({site.env}) has no release that serves")
        if not argv or not all(argv):
            raise InvalidRequest("invalid request: `argv` is a command and its arguments")
        terminal = str(message.get("terminal", ""))[:40]
        command = OneOff(site, argv=argv, by=self._by(connection, message), terminal=terminal)
        command.offer()
        self._daemon.in_background(command.serve(), name=f"command of {site.app}")
        return {"socket": str(command.path), "release": site.current}

    async def dashboard(self, connection: Connection, message: Message) -> Any:
        """From here on the connection is one to the dashboard, in HTTP. `path` is where the app's pages begin."""
        site = self._site(message)
        if site.host is None:
            raise TakoError(
                f"{site.app} ({site.env}) has no engine that runs: {site.failure or 'nothing was deployed'}"
            )
        connection.become(await self._daemon.pages.protocol())
        return {"path": f"/{self._daemon.pages.key}/{dashboard.name_of(site)}/"}


def _no_secrets(site: Site) -> str:
    return secrets_hash(app=site.app, env=site.env, secrets={})


def _count(number: object, *, least: int, what: str) -> int:
    if type(number) is not int or not least <= number <= 64:
        raise TakoError(f"{what[:40]}: {str(number)[:20]} is no number from {least} to 64")
    return number
