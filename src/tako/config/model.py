"""What `tako.toml` says, as frozen dataclasses: every default stands here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

DEVELOPMENT = "development"
DEFAULT_GROUP = "default"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """How the workers of one group live. `workers` 0 means that they scale to zero.

    `memory_bytes`: the most that a worker with all its children may take, on servers; None is no limit.
    """

    workers: int = 0
    concurrency: int = 10
    idle_timeout_s: float = 300.0
    max_workers: int = 1
    boot_timeout_s: float = 30.0
    drain_timeout_s: float = 30.0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """How the web app is served. `idle_timeout_s` None means never scaled to zero.

    `health` None means that the runner's own answer is the only gate; `command` None means that `main` is served.
    `memory_bytes`: the most that an instance with all its children may take, on servers; None is no limit.
    """

    instances: int = 1
    idle_timeout_s: float | None = None
    health: str | None = None
    start_timeout_s: float = 30.0
    drain_timeout_s: float = 30.0
    static: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    listen: Literal["fd", "port"] = "port"
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What `tako deploy` runs before it uploads; None is nothing. `include`: folders that go too, in git or not."""

    run: str | None = None
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a deployed environment answers (`example.com`, `example.com/shop`, `*.example.com`), and its servers."""

    name: str
    routes: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What differs on one server: `groups` are the complete settings of all groups, empty when nothing differs.

    `address` and `host_key` are for machines that do not know the server otherwise (`tako servers add`).
    """

    name: str
    address: str | None = None
    host_key: str | None = None
    groups: Mapping[str, GroupSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailAlert:
    """An alert by mail: to whom, and the URL of the SMTP server."""

    to: str
    smtp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """Who is told of what a person must see; None is a channel that is not used."""

    webhook: str | None = None
    command: str | None = None
    email: EmailAlert | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One app: its `tako.toml`, or what holds without one.

    `root` is the app's folder, absolute. `path` is its `tako.toml`, None when there is none. `python` is the
    interpreter of workers and web instances. `groups` holds `default` and each group that has a table; ask `group`.
    `lines` tells on which line a key stands, for errors that are found later.
    """

    name: str
    root: Path
    python: str
    path: Path | None = None
    main: str | None = None
    release: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    vars_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    groups: Mapping[str, GroupSettings] = field(default_factory=lambda: {DEFAULT_GROUP: GroupSettings()})
    retention_s: float = 30 * DAY_S
    durability: Literal["full", "process"] = "full"
    web: WebSettings = field(default_factory=WebSettings)
    build: BuildSettings = field(default_factory=BuildSettings)
    envs: Mapping[str, Environment] = field(default_factory=dict)
    servers: Mapping[str, ServerSettings] = field(default_factory=dict)
    alerts: Alerts = field(default_factory=Alerts)
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False, compare=False)

    def group(self, name: str, *, server: str | None = None) -> GroupSettings:
        """The settings of a group, on this server if one is named. Without a table, those of `[workflows]`."""
        on_server = self.servers.get(server) if server else None
        groups = (on_server.groups if on_server else None) or self.groups
        return groups.get(name, groups[DEFAULT_GROUP])

    def variables(self, environment: str) -> dict[str, str]:
        """`[vars]` as this environment has them; `[vars.ENVIRONMENT]` wins. `.env` is not in it (see dotenv.py)."""
        return {**self.vars, **self.vars_of.get(environment, {})}
