"""`tako servers`: make a machine a server, look at it, bring it to another version, let go of it."""

from __future__ import annotations

import argparse
import sys

from tako.cli import server_add, server_page
from tako.cli.arguments import Parser, Subcommands, UsageError, count
from tako.cli.context import Context
from tako.cli.deployed import connection, registry
from tako.cli.errors import DONE, REFUSED
from tako.deploy import remote, servers


def configure(parser: Parser) -> None:
    """One parser a subcommand."""
    commands = Subcommands(parser)
    adding = commands.add("add", "make a Debian or Ubuntu machine a server, over SSH")
    adding.add_argument("address", metavar="ADDRESS", help="root@203.0.113.5, root@host:2222")
    adding.add_argument("--name", metavar="NAME", help="as tako.toml names it; default: the first part of the host")
    adding.add_argument("--host-key", metavar="KEY", help="the key that it must show: SHA256:… or ssh-ed25519 AAAA…")
    adding.add_argument("--identity", metavar="FILE", help="the private key to log in with; default: ssh's own choice")
    adding.add_argument("--replace", action="store_true", help="the name is known already: it is this machine now")
    adding.add_argument("--email", metavar="ADDRESS", help="whom the certificate authority may write to")
    adding.add_argument("--http", type=int, metavar="PORT", help="listen for http here; default 80")
    adding.add_argument("--https", type=int, metavar="PORT", help="listen for https here; default 443")
    adding.add_argument("--acme", metavar="URL", help='another certificate authority; "internal": no public one')
    upgrading = commands.add("upgrade", "bring a server to the version of this command; apps go on meanwhile")
    upgrading.add_argument("name", metavar="NAME")
    for command in (adding, upgrading):
        command.add_argument("--offline", action="store_true", help="send everything: the server downloads nothing")
    commands.add("ls", "the servers that this machine knows")
    removing = commands.add("rm", "forget a server; it goes on as it is")
    removing.add_argument("name", metavar="NAME")
    removing.add_argument("--uninstall", action="store_true", help="stop and remove Tako on it first; data stays")
    removing.add_argument("--with-data", action="store_true", help="with --uninstall: remove runs and data, too")
    removing.add_argument("--yes", metavar="NAME", help="do not ask: the server that is meant")
    status = commands.add("status", "what a server is and has, and how it does; exits 1 when something is wrong")
    status.add_argument("name", metavar="NAME", nargs="?", help="default: all")
    logs = commands.add("logs", "what the daemon and Caddy said; of apps: tako logs --env NAME")
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-n", "--limit", type=count, default=100, metavar="N", help="so many lines; default 100")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with lines as they come")


def run(context: Context, args: argparse.Namespace) -> int:
    """Do what the subcommand says."""
    if args.subcommand == "add":
        return server_add.add(context, args)
    if args.subcommand == "upgrade":
        return server_add.upgrade(context, args)
    if args.subcommand == "ls":
        return _list(context)
    if args.subcommand == "rm":
        return _remove(context, args)
    if args.subcommand == "status":
        return server_page.status(context, args.name)
    return _logs(context, args)


def _list(context: Context) -> int:
    known = registry().all()
    if context.output.json:
        listed = [
            {"name": name, "address": server.address, "host_key": servers.fingerprint(server.host_key)}
            for name, server in known.items()
        ]
        context.output.document({"servers": listed})
        return DONE
    if not known:
        context.output.say("There are no servers. Add one: tako servers add root@ADDRESS")
        return DONE
    rows = [[name, server.address, servers.fingerprint(server.host_key)] for name, server in known.items()]
    context.output.table(["name", "address", "host key"], rows)
    return DONE


def _remove(context: Context, args: argparse.Namespace) -> int:
    output = context.output
    server = registry().get(args.name)
    if args.with_data and not args.uninstall:
        raise UsageError("--with-data removes data on the server: say --uninstall, too.")
    if args.uninstall:
        what = "its apps, their runs and their data" if args.with_data else "its apps; their data stays there"
        question = f"Stop and remove Tako on {server.name} ({server.address}), with {what}?"
        if args.yes is None and not output.can_ask:
            raise UsageError(f"{question} There is nobody to ask.", cure=f"Add --yes {server.name}")
        if args.yes not in (None, server.name):
            raise UsageError(f"--yes names {args.yes!r}, and this is {server.name!r}; nothing was removed.")
        if args.yes is None and not output.ask(question):
            output.say("Nothing was removed.")
            return REFUSED
        server_add.uninstall(connection(server), with_data=args.with_data)
    registry().remove(args.name)
    if output.json:
        output.document({"removed": server.name, "uninstalled": args.uninstall})
    elif args.uninstall:
        output.done(f"Removed Tako on {server.name}, and forgot it.")
    else:
        output.done(f"Forgot {server.name}. It goes on as it is; `tako servers add {server.address}` finds it again.")
    return DONE


def _logs(context: Context, args: argparse.Namespace) -> int:
    ssh = connection(registry().get(args.name))
    ssh.connect()
    argv = remote.journal(lines=max(1, args.limit), follow=args.follow)
    if not args.follow:
        done = ssh.run(argv)
        lines = done.out.decode(errors="replace").splitlines()
        if context.output.json:
            context.output.document({"lines": lines})
            return DONE
        for line in lines:
            context.output.result(line)
        return DONE
    talk = ssh.talk(argv)
    try:
        with talk.socket.makefile("r", errors="replace") as stream:
            for line in stream:
                if context.output.json:
                    context.output.json_line({"line": line.rstrip("\n")})
                else:
                    print(line, end="", file=sys.stdout, flush=True)  # noqa: T201 - as it comes, uncut
    finally:
        talk.close()
    return DONE
