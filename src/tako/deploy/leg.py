"""A deploy on one server: send what is missing, hand it to the daemon, follow its job through cut connections.

Until the commit, the deploy is ours: when we die, nothing has happened. From the commit on it is the daemon's: it goes
on whoever watches, and `follow` finds its way back to it.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tako.deploy.artifact import Artifact
from tako.deploy.channel import Channel, who
from tako.deploy.plan import ServerState
from tako.deploy.ssh import Ssh
from tako.deploy.target import Target
from tako.deploy.unreachable import Unreachable
from tako.deploy.upload import upload
from tako.errors import DeployRunning, TakoError, UnknownApp
from tako.protocol import management

# How long a broken connection is tried again: a laptop that changes networks, a server that reboots.
AGAIN_FOR_S = 120.0
AGAIN_EVERY_S = 1.0
SWITCH_DEADLINE_S = 60.0

T = TypeVar("T")
Kind = Literal["connecting", "connected", "cut", "uploading", "uploaded", "secrets", "event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Something that happened on one server. `event` is the daemon's own word when `kind` is "event"."""

    server: str
    kind: Kind
    ms: int = 0
    text: str = ""
    event: management.DeployEvent | None = None


class JobEnded(TakoError):
    """The job did not end with the release serving. `event` is its last, `failed` the one that says why."""

    code = "deploy_failed"

    def __init__(
        self, server: str, finished: management.DeployEvent, failed: management.DeployEvent | None, previous: str | None
    ) -> None:
        why = failed or finished
        super().__init__(why["message"], cure=why.get("cure", ""), detail=dict(why.get("detail", {})))
        self.server = server
        self.outcome = finished.get("outcome", "failed")
        self.phase = why["phase"]
        self.previous = previous
        if "code" in why:
            self.code = why["code"]


class Leg:
    """One server's part. Its methods block; run them in a thread of its own."""

    def __init__(self, ssh: Ssh, target: Target, *, tell: Callable[[Told], None]) -> None:
        self.server = ssh.server.name
        self.job: str | None = None
        self.is_committed = False
        self.current: str | None = None
        self.sent_bytes = 0
        self._ssh = ssh
        self._target = target
        self._tell = tell
        self._seq = 0
        self._failed: management.DeployEvent | None = None

    def state(self) -> ServerState:
        """What the server has of this app. Raises what `Channel.call` raises."""
        ref = self._target.ref
        with Channel(self._ssh) as channel:
            try:
                releases: management.Releases = channel.call("releases", ref)
                secrets = channel.call("secrets.names", ref)
            except UnknownApp:
                none = management.secrets_hash(**ref, secrets={})
                return ServerState(name=self.server, current=None, known=frozenset(), secrets_hash=none, job=None)
        known = frozenset(each["release"] for each in releases["releases"] if each["is_complete"])
        running = next((job["job"] for job in releases["jobs"] if job["finished_ms"] is None), None)
        self.current = releases["current"]
        return ServerState(
            name=self.server, current=self.current, known=known, secrets_hash=secrets["hash"], job=running
        )

    # --- until the commit ---

    def connect(self) -> None:
        """Make the connection. Raises Unreachable."""
        started = time.monotonic()
        self._say("connecting")
        self._ssh.connect()
        self._say("connected", ms=_since(started))

    def send(
        self, artifact: Artifact, *, is_leader: bool, secrets: Mapping[str, str] | None, orphans: str, hold: bool
    ) -> None:
        """Take the lock, send what is missing, and commit. A connection that breaks is made again.

        Raises:
            TakoError: the server refuses, or is out of reach for AGAIN_FOR_S. Nothing that serves was touched.
        """
        begin = self._begin_of(artifact, is_leader=is_leader, secrets=secrets, orphans=orphans)
        self._again(lambda: self._send_once(begin, artifact, secrets=secrets, hold=hold))

    def _begin_of(
        self, artifact: Artifact, *, is_leader: bool, secrets: Mapping[str, str] | None, orphans: str
    ) -> dict[str, Any]:
        begin = {
            **self._target.ref,
            "release": artifact.release,
            "manifest": artifact.manifest(),
            "by": who(),
            "server": self.server,
            "message": artifact.message,
            "routes": list(self._target.environment.routes),
            "leader": is_leader,
            "orphans": orphans,
        }
        if secrets is not None:
            begin["secrets_hash"] = management.secrets_hash(**self._target.ref, secrets=dict(secrets))
        return {name: value for name, value in begin.items() if value is not None}

    def _send_once(
        self, begin: Mapping[str, Any], artifact: Artifact, *, secrets: Mapping[str, str] | None, hold: bool
    ) -> None:
        with Channel(self._ssh) as channel:
            begun = None if self._has_arrived(channel) else self._begin(channel, begin)
            if begun is None:
                self.is_committed = True
                return
            self.job, self.current = begun["job"], begun["current"]
            started = time.monotonic()

            def tell_progress(arrived: int) -> None:
                self._say("uploading", text=f"{arrived} {begun['bytes']}")

            if begun["need"]:
                tell_progress(0)
            sent = upload(channel, job=begun["job"], need=begun["need"], files=artifact.files, progress=tell_progress)
            self.sent_bytes += sent
            self._say("uploaded", ms=_since(started), text=f"{len(begun['need'])} {sent}")
            if begun["secrets_needed"] and secrets is not None:
                fields = {**self._target.ref, "secrets": dict(secrets), "by": who(), "job": begun["job"]}
                channel.call("secrets.put", fields)
                self._say("secrets", text=str(len(secrets)))
            channel.call("deploy.commit", {"job": begun["job"], "hold": hold})
            self.is_committed = True

    def _has_arrived(self, channel: Channel) -> bool:
        """Whether the commit has reached the server, over a connection that broke before it could say so."""
        if self.job is None:
            return False
        releases: management.Releases = channel.call("releases", self._target.ref)
        return any(job["job"] == self.job and job["phase"] != "upload" for job in releases["jobs"])

    def _begin(self, channel: Channel, begin: Mapping[str, Any]) -> management.Begun | None:
        """Take the lock; None when we have it, and the server has the commit."""
        try:
            begun: management.Begun = _call_begin(channel, begin)
        except DeployRunning as error:
            # Our own, over a connection that broke and that the server has not missed yet.
            running = error.detail.get("job")
            if self.job is None or not isinstance(running, dict) or running.get("job") != self.job:
                raise
            if running.get("phase") != "upload":
                return None
            channel.call("deploy.abort", {"job": self.job})
            begun = _call_begin(channel, begin)
        return begun

    # --- from the commit on ---

    def roll_back(self, release: str | None, *, orphans: str, hold: bool) -> None:
        """Start going back to a release, or to the one before. Raises what `Channel.call` raises."""
        fields = {**self._target.ref, "by": who(), "release": release, "hold": hold, "orphans": orphans}
        with Channel(self._ssh) as channel:
            found = channel.call("rollback", {name: value for name, value in fields.items() if value is not None})
        self.attach(found["job"])

    def restart(self) -> None:
        """Start a roll of the release to itself. Raises what `Channel.call` raises."""
        with Channel(self._ssh) as channel:
            found = channel.call("app.restart", {**self._target.ref, "by": who()})
        self.attach(found["job"])

    def put_secrets(self, secrets: Mapping[str, str]) -> bool:
        """Bring the secrets there; whether that changed any. A roll that they need is the job to follow, if any."""
        with Channel(self._ssh) as channel:
            put: management.SecretsPutData = channel.call(
                "secrets.put", {**self._target.ref, "secrets": dict(secrets), "by": who()}
            )
        if put["job"] is not None:
            self.attach(put["job"])
        return put["changed"]

    def attach(self, job: str) -> None:
        """Take up a job that is under way."""
        self.job, self.is_committed = job, True

    def follow(self, until: Callable[[management.DeployEvent], bool]) -> management.DeployEvent:
        """Tell what the job does until one event is the one, or the last.

        Raises:
            Unreachable: the connection broke, and could not be made again for AGAIN_FOR_S. The job goes on.
            JobEnded: the job is over, and its release does not serve.
        """
        return self._again(lambda: self._follow_once(until))

    def _follow_once(self, until: Callable[[management.DeployEvent], bool]) -> management.DeployEvent:
        with Channel(self._ssh) as channel:
            fields = {"job": self.job, "after": self._seq}
            _, events = channel.events("deploy.attach", fields, push="deploy")
            for message in events:
                event: management.DeployEvent = message  # type: ignore[assignment]
                self._seq = event["seq"]
                self._say("event", event=event)
                if event["event"] == "failed":
                    self._failed = event
                if event["event"] == "finished" and event.get("outcome") != "live":
                    raise JobEnded(self.server, event, self._failed, self.current)
                if event["event"] == "finished" or until(event):
                    return event
        raise Unreachable(f"{self.server} closed the connection before the job had ended.")

    def switch(self) -> None:
        """Let a held job go on. Raises what a command raises."""
        self._again(lambda: self._job_command("deploy.switch"))

    def abort(self) -> None:
        """Take the job back, if it has not switched yet. Raises what a command raises."""
        if self.job is not None:
            self._job_command("deploy.abort")

    def _job_command(self, command: str) -> None:
        with Channel(self._ssh) as channel:
            channel.call(command, {"job": self.job}, deadline_s=SWITCH_DEADLINE_S)

    # --- through cut connections ---

    def _again(self, once: Callable[[], T]) -> T:
        """Do it; when the connection breaks, connect and do it again."""
        deadline: float | None = None
        while True:
            try:
                if deadline is not None:
                    self._ssh.connect()
                return once()
            except Unreachable as error:
                now = time.monotonic()
                if deadline is None:
                    deadline = now + AGAIN_FOR_S
                    self._say("cut", text=error.message)
                if error.is_final or now >= deadline:
                    raise
                time.sleep(AGAIN_EVERY_S)

    def _say(self, kind: Kind, *, ms: int = 0, text: str = "", event: management.DeployEvent | None = None) -> None:
        self._tell(Told(server=self.server, kind=kind, ms=ms, text=text, event=event))


def _call_begin(channel: Channel, begin: Mapping[str, Any]) -> management.Begun:
    *pages, last = _pages_of(begin["manifest"])
    flying = [channel.send("deploy.manifest", {"manifest": page}) for page in pages]
    for number in flying:
        channel.reply_to(number)
    begun: management.Begun = channel.call("deploy.begin", {**begin, "manifest": last})
    return begun


def _pages_of(manifest: Sequence[management.ManifestEntry]) -> list[list[management.ManifestEntry]]:
    """The manifest in pieces that fit in a line each; nearly always one."""
    pages: list[list[management.ManifestEntry]] = [[]]
    size = 0
    for entry in manifest:
        size += len(json.dumps(entry)) + 2
        if size > management.MANIFEST_PAGE_BYTES and pages[-1]:
            pages.append([])
            size = 0
        pages[-1].append(entry)
    return pages


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
