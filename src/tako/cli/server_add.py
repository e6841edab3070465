"""`tako servers add` and `upgrade`: whose key it is, what the machine is, and then the installation."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from tako.cli import deploy_screen
from tako.cli.arguments import UsageError
from tako.cli.context import Context
from tako.cli.deployed import connection, registry
from tako.cli.errors import DONE
from tako.cli.output import DIM
from tako.deploy import install, remote, servers, ssh
from tako.deploy.channel import Channel
from tako.deploy.servers import Server
from tako.deploy.unreachable import HostKeyChanged, NoServer
from tako.errors import TakoError


def add(context: Context, args: argparse.Namespace) -> int:
    """Pin the key, look at the machine, install what it lacks, and write it down."""
    user, host, port = servers.parse_address(args.address)
    name = args.name or _name_of(host)
    if not servers.NAME.fullmatch(name):
        raise UsageError(
            f"{name[:60]!r} cannot be a server's name.", cure="Use lower-case letters, digits and hyphens."
        )
    known = registry().all().get(name)
    identity = str(Path(args.identity).expanduser().absolute()) if args.identity else None
    candidate = Server(name=name, host=host, host_key="", user=user, port=port, identity=identity)
    if known is not None and known.address != candidate.address and not args.replace:
        raise TakoError(
            f"{name} is {known.address} already.", cure="Give this one another --name, or --replace it on your list."
        )
    server = _pinned(context, args, candidate, known=None if args.replace else known)
    context.output.doing(f"Connecting to {server.address}…")
    connection(server).connect()
    version = _version_on(connection(server))
    if version is not None:
        context.output.done(f"Connected to {name}. Tako {version} is there already, so nothing was installed")
    else:
        installer = _installer(context, connection(server), offline=args.offline)
        found = installer.probe()
        context.output.done(f"Connected to {name}: {found.os}, {found.machine}, {found.free_mb:,} MB free")
        uses_usual_ports = args.http is None and args.https is None
        installer.check(found, needs_ports=uses_usual_ports)
        version = installer.install(found, settings=_settings(args))
    registry().put(server)
    if context.output.json:
        key = servers.fingerprint(server.host_key)
        context.output.document({"name": name, "address": server.address, "host_key": key, "version": version})
        return DONE
    context.output.done(
        f'{name} is ready. In tako.toml: [envs.production] with servers = ["{name}"]; then `tako deploy`.'
    )
    return DONE


def upgrade(context: Context, args: argparse.Namespace) -> int:
    """The version of this command, on a server that has another one."""
    server = registry().get(args.name)
    link = connection(server)
    link.connect()
    installer = _installer(context, link, offline=args.offline)
    found = installer.probe()
    if found.tako is None:
        raise TakoError(f"{server.name} has no Tako.", cure=f"tako servers add {server.address} --name {server.name}")
    installer.check(found, needs_ports=False)
    version = installer.install(found, settings="")
    if context.output.json:
        context.output.document({"name": server.name, "from": found.tako, "version": version})
    elif version == found.tako:
        context.output.done(f"{server.name} runs {version}, as before.")
    else:
        context.output.done(f"{server.name} runs {version}; before it was {found.tako}. Apps went on.")
    return DONE


def uninstall(link: ssh.Ssh, *, with_data: bool) -> None:
    """Remove Tako from a machine. Raises TakoError with what could not be removed."""
    link.connect()
    done = link.run(remote.uninstall(with_data=with_data), timeout_s=120)
    if done.code:
        raise TakoError(f"Tako could not be removed from {link.server.name}: {done.err.strip() or done.code}")


def _version_on(link: ssh.Ssh) -> str | None:
    """The version that runs there; None when the machine is no server yet. The group `tako` may ask, root or not."""
    try:
        with Channel(link) as channel:
            return channel.hello["version"]
    except NoServer:
        return None


def _name_of(host: str) -> str:
    is_number = ":" in host or host.replace(".", "").isdigit()
    if is_number:
        raise UsageError("A server needs a name.", cure="Add --name, such as --name fra1.")
    return host.split(".")[0].lower()


def _pinned(context: Context, args: argparse.Namespace, candidate: Server, *, known: Server | None) -> Server:
    """The server with the key that it shows, after somebody has said that it is the right one."""
    shown = ssh.host_key_of(candidate, folder=ssh.run_folder())
    print_of = servers.fingerprint(shown)
    if known is not None and known.host_key != shown:
        raise HostKeyChanged(known)
    if args.host_key is not None:
        wanted = args.host_key if args.host_key.startswith("SHA256:") else servers.fingerprint(args.host_key)
        if wanted.rstrip("=") != print_of:
            raise TakoError(
                f"{candidate.address} shows the key {print_of}, not {wanted}. Nothing was sent.",
                cure="Is it the right machine? If so, compare with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
            )
    elif known is None:
        _ask(context, candidate, kind=shown.split()[0], print_of=print_of)
    values = (candidate.name, candidate.host, candidate.user, candidate.port, candidate.identity)
    name, host, user, port, identity = values
    return Server(name=name, host=host, user=user, port=port, identity=identity, host_key=shown)


def _ask(context: Context, candidate: Server, *, kind: str, print_of: str) -> None:
    output = context.output
    output.say(f"{candidate.address} shows this host key, which is not known yet:")
    output.say(f"  {print_of} ({kind})")
    if not output.can_ask:
        raise UsageError(
            "There is nobody to ask whether it is the right one; nothing was sent.",
            cure=f"Compare it with what your provider shows, then add --host-key {print_of}",
        )
    output.say(f"  {output.painted('Your provider shows it, or on the machine:', DIM)}")
    output.say(f"  {output.painted('ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub', DIM)}")
    if not output.ask("Is it the right one?"):
        raise TakoError("The host key was not accepted; nothing was sent.")


def _installer(context: Context, link: ssh.Ssh, *, offline: bool) -> install.Installer:
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if base.startswith("/") else Path.home() / ".cache"
    output = context.output
    return install.Installer(
        link,
        cache=cache / "tako",
        offline=offline,
        tell=lambda done: output.done(f"{done.text} {output.painted(deploy_screen.seconds(done.ms), DIM)}"),
        doing=output.doing,
    )


def _settings(args: argparse.Namespace) -> str:
    """The first /etc/tako/server.toml: what was asked for, and nothing that is a default."""
    given = {"http_port": args.http, "https_port": args.https, "email": args.email, "acme": args.acme}
    lines = [f"{key} = {json.dumps(value)}" for key, value in given.items() if value is not None]
    head = "# Settings of this server. After a change: tako servers upgrade NAME\n"
    return head + ("\n".join(["[https]", *lines, ""]) if lines else "")
