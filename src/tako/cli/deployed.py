"""What a command needs to speak of a deployed app: which environment, which servers, and the way there."""

from __future__ import annotations

import argparse
import os
import queue
import socket
from collections.abc import Callable
from typing import TypeVar

from tako.cli.arguments import Parser, Where
from tako.cli.context import Context
from tako.cli.engine import Engine, Place
from tako.config.model import Config
from tako.deploy import ssh
from tako.deploy.channel import Channel
from tako.deploy.leg import Leg, Told
from tako.deploy.rollout import Rollout
from tako.deploy.servers import Registry, Server, config_folder
from tako.deploy.target import Target, target_of
from tako.errors import TakoError
from tako.vault.keyring import Keyring


def add_options(parser: Parser) -> None:
    """`--env` and `--server`."""
    parser.add_argument("--env", metavar="NAME", help="the environment of tako.toml; default: its only one")
    parser.add_argument("--server", metavar="NAME", help="on this server only; default: all of the environment's")


def registry() -> Registry:
    """The servers that this user knows."""
    return Registry(config_folder(os.environ))


def keyring() -> Keyring:
    """This user's private keys."""
    return Keyring(config_folder(os.environ) / "keys", os.environ)


def config_of(context: Context) -> Config:
    """The app of this folder. Raises ConfigError."""
    from tako.config import load

    return load.load(context.app_folder())


def target(context: Context, args: argparse.Namespace | Where) -> Target:
    """The environment and servers that `--env` and `--server` mean. Raises TakoError."""
    return target_of(config_of(context), registry(), environment=args.env, server=args.server)


def connection(server: Server) -> ssh.Ssh:
    """The SSH connection to a server, not yet made."""
    return ssh.Ssh(server, folder=ssh.run_folder())


def rollout(target: Target) -> Rollout:
    """One leg a server of the target."""
    tellings: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
    return Rollout([Leg(connection(server), target, tell=tellings.put) for server in target.servers], tellings)


T = TypeVar("T")


class RemoteEngine(Engine):
    """The engine of a deployed app, through SSH: every command that works on the machine works from here."""

    def __init__(self, target: Target) -> None:
        from tako.rpc.client import Client

        self.ssh = connection(target.servers[0])
        self.ssh.connect()
        self.server = target.servers[0].name
        self.environment = target.environment.name
        self._ref = target.ref
        self._conversations: list[ssh.Conversation] = []
        name = target.servers[0].name
        self.place = Place(
            target.config.root,
            {"socket": f"{name}:{target.app}/{target.environment.name}", "pid": 0, "app": target.app},
        )
        self._client = Client(self.place.socket, target.app, dial=self._dial)

    def _dial(self) -> socket.socket:
        channel = Channel(self.ssh)
        with channel:
            conversation = channel.join(self._ref)
        self._conversations.append(conversation)
        return conversation.socket

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for conversation in self._conversations:
            conversation.close()


def each(target: Target, ask: Callable[[Channel], T]) -> dict[str, T]:
    """Ask every server of the target, one after the other; the answers by its name. Raises what asking raises."""
    return {server.name: _ask(server, ask) for server in target.servers}


def each_there(target: Target, ask: Callable[[Channel], T]) -> tuple[dict[str, T], dict[str, TakoError]]:
    """As `each`, for what is worth having of some: the answers, and the errors of the others.

    Raises:
        TakoError: there is but one server, or none of them answered.
    """
    found: dict[str, T] = {}
    failed: dict[str, TakoError] = {}
    for server in target.servers:
        try:
            found[server.name] = _ask(server, ask)
        except TakoError as error:
            failed[server.name] = error
    if not found:
        raise next(iter(failed.values()))
    return found, failed


def _ask(server: Server, ask: Callable[[Channel], T]) -> T:
    link = connection(server)
    link.connect()
    with Channel(link) as channel:
        return ask(channel)


def engine(context: Context, where: Where) -> RemoteEngine:
    """The engine that `--env` and `--server` mean.

    Raises:
        TakoError: the environment is on several servers, each with runs of its own, and none was named.
    """
    found = target(context, where)
    if len(found.servers) > 1:
        names = [server.name for server in found.servers]
        raise TakoError(
            f"{found.environment.name} is on {len(names)} servers, and each has runs of its own.",
            cure=f"Name one: --server {' or --server '.join(names)}",
        )
    return RemoteEngine(found)
