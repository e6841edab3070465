"""What is deployed to where: the app and environment that a command means, and the servers they stand on."""

from collections.abc import Sequence
from dataclasses import dataclass

from tako.config.model import Config, Environment
from tako.config.section import nearest
from tako.deploy.servers import Registry, Server, parse_address
from tako.errors import TakoError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An app in one of its environments, on these servers; the first one is the leader."""

    config: Config
    environment: Environment
    servers: tuple[Server, ...]

    @property
    def app(self) -> str:
        """The app's name."""
        return self.config.name

    @property
    def ref(self) -> dict[str, str]:
        """What names it in every command to a daemon."""
        return {"app": self.config.name, "env": self.environment.name}


def environment_of(config: Config, name: str | None) -> Environment:
    """The environment of this name; without a name, the only one, or production.

    Raises:
        TakoError: tako.toml has none of this name, or does not say which is meant.
    """
    if ("name",) not in config.lines:
        raise TakoError(
            "tako.toml has no name, and on a server an app is known by its name, not by the folder it lies in.",
            cure=f'Write one at its top: name = "{config.name}"',
        )
    if not config.envs:
        raise TakoError(
            "tako.toml has no environment, so it names no server.",
            cure='Write one: [envs.production] with routes = ["example.com"] and servers = ["NAME"]',
        )
    if name is None:
        if len(config.envs) == 1:
            return next(iter(config.envs.values()))
        if "production" not in config.envs:
            raise TakoError("Which environment?", cure=f"Add --env {' or --env '.join(sorted(config.envs))}")
        name = "production"
    if name not in config.envs:
        close = nearest(name, config.envs)
        known = ", ".join(sorted(config.envs))
        raise TakoError(
            f"tako.toml has no environment {name!r}.",
            cure=f"Did you mean --env {close}?" if close else f"It has: {known}.",
        )
    return config.envs[name]


def target_of(config: Config, registry: Registry, *, environment: str | None, server: str | None = None) -> Target:
    """The environment with its servers, or with one of them.

    Raises:
        TakoError: what `environment_of` raises; a server is not known; the environment is not on it.
    """
    env = environment_of(config, environment)
    if not env.servers:
        raise TakoError(
            f"[envs.{env.name}] of tako.toml names no server.",
            cure='Add servers = ["NAME"]; see `tako servers ls` and `tako servers add`.',
        )
    if server is not None and server not in env.servers:
        raise TakoError(f"{env.name} is not on {server}.", cure=f"It is on: {', '.join(env.servers)}.")
    wanted: Sequence[str] = (server,) if server else env.servers
    return Target(config=config, environment=env, servers=tuple(_server(config, registry, name) for name in wanted))


def _server(config: Config, registry: Registry, name: str) -> Server:
    """As this machine knows it, else as tako.toml tells it."""
    known = registry.all()
    told = config.servers.get(name)
    if name not in known and told and told.address and told.host_key:
        user, host, port = parse_address(told.address)
        return Server(name=name, host=host, host_key=" ".join(told.host_key.split()[:2]), user=user, port=port)
    return registry.get(name)
