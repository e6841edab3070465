"""The management socket of `tako-server`: its commands, what they answer, and the events of a deploy, as TypedDicts.

Cold processes import this only for the type checker; docs/reference/protocol.md is this file in prose. Lines, replies
and `request` are those of every socket of ours (SPEC.md, section 2). The caller is known by its peer credentials: root,
or a member of the group `tako`. `tako-server dial-stdio` joins stdin and stdout to this socket, which is how the
laptop reaches it over SSH.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

MANAGEMENT_PROTOCOL = 1

# A blob comes in pieces of at most so many bytes before they are compressed, so that a line stays within 1 MiB.
MAX_PIECE_BYTES = 524_288
MAX_MANIFEST_FILES = 50_000
MANIFEST_PAGE_BYTES = 524_288  # of a manifest in one line, for the same reason

# In this order. `held` is where a job waits for `deploy.switch` when it was committed with `hold`.
Phase = Literal[
    "lock", "upload", "stage", "build", "release", "gate", "boot", "health", "held", "switch", "watch", "drain",
    "workers", "prune",
]  # fmt: skip
PHASES: tuple[Phase, ...] = (
    "lock", "upload", "stage", "build", "release", "gate", "boot", "health", "held", "switch", "watch", "drain",
    "workers", "prune",
)  # fmt: skip
JobKind = Literal["deploy", "rollback", "secrets", "restart"]
# `live`: the new release serves. `failed`: it does not, and what served before still does. `rolled_back`: it did, and
# what served before does again. `aborted`: nobody wanted it any more.
Outcome = Literal["live", "failed", "rolled_back", "aborted"]


class AppRef(TypedDict):
    """Every command but `hello`, `ping`, `app.list` and `server.*` names an app and one of its environments."""

    app: str
    env: str


# --- the server -----------------------------------------------------------------------------------------------------


class HelloRequest(TypedDict):
    """`hello`: the first command of a connection. `by` is who asks, as it is shown: `ann@macbook`."""

    protocol: int
    by: str
    version: str


class ServerHello(TypedDict):
    """`hello`, answered."""

    protocol: int
    version: str
    machine: str  # as `uname -m` says it
    python: str  # of the daemon: "3.11.2"
    uv: bool  # else environments are built with venv and pip
    boot_id: str
    pid: int
    started_ms: int
    apps: list[AppRef]


# --- deploy ---------------------------------------------------------------------------------------------------------


class ManifestEntry(TypedDict):
    """A file of the release. `path` is relative, with `/`, in no other folder; `mode` is 0o644 or 0o755.

    Links are not sent: a manifest holds files only.
    """

    path: str
    mode: int
    size: int
    sha256: str


class ManifestPage(TypedDict):
    """`deploy.manifest`: files of the release that this connection begins next, before those of its `deploy.begin`.

    For a manifest that does not fit in one line. A `deploy.begin` takes what has come, whether it succeeds or not.
    """

    manifest: list[ManifestEntry]


class Begin(AppRef):
    """`deploy.begin`: takes the lock of this app and environment, and tells what is missing.

    `manifest` is the last page of it; those before have come by `deploy.manifest`.
    """

    release: str  # [A-Za-z0-9._-]{1,64}; the same id with other files is refused
    manifest: list[ManifestEntry]
    by: str
    server: NotRequired[str]  # this server's name in the app's tako.toml, for [servers.NAME…]
    message: NotRequired[str]  # the commit's subject, shown by `tako releases`
    routes: NotRequired[list[str]]  # without it: those of tako.toml for the environment
    leader: NotRequired[bool]  # runs the release command; exactly one server of a deploy is it. Default true
    orphans: NotRequired[Literal["refuse", "keep", "cancel"]]  # unfinished runs the release has no code for
    secrets_hash: NotRequired[str]  # of `secrets_hash`, so that secrets travel only when they differ


class Begun(TypedDict):
    """`deploy.begin`, answered. `need` are hashes that are not here yet, each once.

    `is_known`: this very release is here already, complete: nothing needs to be sent, and it is built no more.
    """

    job: str
    need: list[str]
    bytes: int
    is_known: bool
    secrets_needed: bool
    current: str | None  # the release that serves now


class BlobPut(TypedDict):
    """`blob.put`: a piece of a file, in order from offset 0. Ten may be in flight (`request`), in this order.

    `data` is base64 of the piece, compressed if `zlib`. The piece that makes the file complete is checked against the
    hash, and then the file is there, whatever becomes of the rest. An empty file is one empty piece.
    """

    job: str
    sha256: str
    offset: int
    data: str
    zlib: bool


class BlobPutData(TypedDict):
    """`blob.put`, answered. `complete`: the whole file is there, and its hash is right."""

    have: int
    complete: bool


class Commit(TypedDict):
    """`deploy.commit`: all is sent; the job runs in the daemon from now on, whoever is connected. Follow: `attach`.

    `hold`: prepare up to `health`, then wait for `deploy.switch` (ten minutes; then the job is aborted).
    """

    job: str
    hold: NotRequired[bool]


class Attach(TypedDict):
    """`deploy.attach`: the job's events from `after` (default: all), then those to come, until `finished`."""

    job: str
    after: NotRequired[int]


class JobInfo(AppRef):
    """A deploy, roll-back or roll for new secrets, as `attach`, `releases` and refusals tell of it."""

    job: str
    kind: JobKind
    release: str
    previous: str | None
    by: str
    message: str | None
    phase: Phase
    started_ms: int
    phase_ms: int  # since when it is in its phase
    finished_ms: int | None
    outcome: Outcome | None
    error: str | None


class DeployEvent(TypedDict):
    """A line that `deploy.attach` sends: `{"push":"deploy", …}`. `seq` counts from 1 without gaps.

    `begin` and `done` enclose a phase, `note` says something in it, `output` is a line that a command or process of
    the release printed, `finished` is the last one. A failed phase has `failed` in place of `done`.
    """

    push: Literal["deploy"]
    job: str
    seq: int
    ts_ms: int
    event: Literal["begin", "note", "output", "done", "failed", "finished"]
    phase: Phase
    message: str
    ms: NotRequired[int]  # done, failed: how long the phase took
    outcome: NotRequired[Outcome]  # finished
    code: NotRequired[str]  # failed: the error's, and what helps to mend it
    cure: NotRequired[str]
    detail: NotRequired[dict[str, Any]]  # of a gate: file, line, traceback_tail, lines


class ReleaseInfo(TypedDict):
    """A release, as `releases` lists it: newest first."""

    release: str
    created_ms: int
    by: str
    message: str | None
    files: int
    bytes: int
    is_current: bool
    is_complete: bool  # it has served: `rollback` can go there
    live_ms: int | None  # when it last began to serve


class Releases(TypedDict):
    """`releases`, answered."""

    current: str | None
    releases: list[ReleaseInfo]
    jobs: list[JobInfo]  # the newest 20; the first may be under way


class Rollback(AppRef):
    """`rollback`: to `release`, else the one that served before. Answered with `{"job"}`; follow it by `attach`."""

    by: str
    release: NotRequired[str]
    hold: NotRequired[bool]
    orphans: NotRequired[Literal["refuse", "keep", "cancel"]]


class Scale(AppRef):
    """`scale`: answered with the numbers that hold now, when they hold.

    They hold until a release comes whose tako.toml says another number than the one that was scaled from.
    """

    by: str
    web: NotRequired[int]
    workers: NotRequired[dict[str, int]]  # group: how many are always on; 0 scales to zero


class Scaled(TypedDict):
    """`scale`, answered."""

    web: int
    workers: dict[str, int]


class Delete(AppRef):
    """`delete`: stops the app and removes its releases, logs and data. `confirm` is "APP/ENV"."""

    by: str
    confirm: str
    keep_data: NotRequired[bool]


# --- secrets, status, logs ------------------------------------------------------------------------------------------


class SecretsPut(AppRef):
    """`secrets.put`: all secrets of the environment, in place of those before. At rest they are encrypted.

    With a release that serves, instances and workers are rolled without a new release: then there is a `job` to follow.
    """

    secrets: dict[str, str]
    by: str
    job: NotRequired[str]  # of the deploy that they are for: they take effect with it, or not at all


class SecretsPutData(TypedDict):
    """`secrets.put`, answered."""

    changed: bool
    job: str | None
    hash: str


class AppStatus(AppRef):
    """One app in `app.list`; `app.status` adds `engine`, which is what `status` of its own socket answers."""

    release: str | None
    state: str  # serving, asleep, starting, failed, stopped, no release
    reason: str | None  # why it is failed
    instances: list[dict[str, Any]]  # id, pid, release, inflight, done, boot_ms, started_ms
    routes: list[str]
    job: JobInfo | None  # under way
    maintenance: bool  # visitors get 503
    engine: NotRequired[dict[str, Any]]
    secrets: NotRequired[list[str]]  # names
    scale: NotRequired[Scaled]


class LogsRequest(AppRef):
    """`logs`: lines that were kept, oldest first; with `follow`, then `{"push":"log","line":…}` as they come."""

    limit: NotRequired[int]
    since_ms: NotRequired[int]
    until_ms: NotRequired[int]
    scope: NotRequired[Literal["web", "worker", "tako"]]
    level: NotRequired[Literal["debug", "info", "warning", "error"]]
    workflow: NotRequired[str]
    group: NotRequired[str]
    release: NotRequired[str]
    instance: NotRequired[str]
    run_id: NotRequired[str]
    follow: NotRequired[bool]


class Route(AppRef):
    """`routes`, answered: `{"routes": [Route]}`. `host` is lower case, without port or trailing dot."""

    host: str
    path: str  # "" or "/shop"
    tls: bool
    maintenance: bool


# What each command takes and answers; `docs/reference/protocol.md` has this table.
COMMANDS: dict[str, tuple[str, str]] = {
    "hello": ("HelloRequest", "ServerHello"),
    "ping": ("", "{}"),
    "deploy.manifest": ("ManifestPage", "{files}"),
    "deploy.begin": ("Begin", "Begun"),
    "blob.put": ("BlobPut", "BlobPutData"),
    "deploy.commit": ("Commit", "JobInfo"),
    "deploy.switch": ("{job}", "JobInfo"),
    "deploy.abort": ("{job}", "JobInfo"),
    "deploy.attach": ("Attach", "JobInfo, then DeployEvent lines"),
    "releases": ("AppRef", "Releases"),
    "rollback": ("Rollback", "{job}"),
    "scale": ("Scale", "Scaled"),
    "delete": ("Delete", "{}"),
    "secrets.put": ("SecretsPut", "SecretsPutData"),
    "secrets.names": ("AppRef", "{names, hash}"),
    "app.list": ("", "{apps: [AppStatus]}"),
    "app.status": ("AppRef", "AppStatus"),
    "app.restart": ("AppRef", "{job}"),
    "logs": ("LogsRequest", "{lines}, then log lines"),
    "routes": ("", "{routes: [Route]}"),
    "maintenance": ("AppRef, on", "{on}"),
    "connect": ("AppRef", "{}, then the app's internal socket"),
    "metrics": ("", "{text}"),
    "server.restart": ("", "{}"),
    "dashboard": ("AppRef", "{path}, then what browsers say"),
    "one_off": ("AppRef, argv, by, terminal?", "{socket, release}"),
}


def secrets_hash(*, app: str, env: str, secrets: dict[str, str]) -> str:
    """What both sides compare to know whether secrets must travel. Of no use to who has not the secrets."""
    from hashlib import sha256

    from tako.protocol import json_text

    text = json_text.encode_ascii({"app": app, "env": env, "secrets": dict(sorted(secrets.items()))})
    return sha256(text.encode()).hexdigest()
