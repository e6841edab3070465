"""`tako run -- COMMAND`: any command as a process of the app: its environment, secrets on fd 3, the engine's socket.

With `--env` it is the app as it is deployed there, and the command runs on its server (`server/one_off.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
from pathlib import Path

from tako.cli.arguments import UsageError, Where
from tako.cli.context import Context
from tako.errors import TakoError

# A pipe takes this much at once on every system we run on; more needs somebody who goes on writing.
PIPE_BYTES = 16_384
WITH_VALUE = ("--env", "--server")


def configure(parser: argparse.ArgumentParser) -> None:
    """Everything after `--` is the command."""
    parser.usage = "tako run [--env NAME] [--server NAME] -- COMMAND [argument…]"
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")


def prepare(argv: list[str]) -> list[str]:
    """Keep the command's own options from us, also when the `--` was forgotten."""
    if "--" in argv:
        return argv
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        at += 2 if argv[at] in WITH_VALUE else 1
    return [*argv[:at], "--", *argv[at:]]


def run(context: Context, args: argparse.Namespace) -> int:
    """Become the command. Its exit code is ours, since it is this very process."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError(
            "There is no command to run.", cure="Write it after two dashes: tako run -- python manage.py shell"
        )
    if context.where is not None:
        return _on_server(context, context.where, command)
    from tako.cli import processes

    place = context.engine().place
    prepared = processes.prepare(place)
    context.close()
    program = _program(command[0], prepared.environment, place.folder)
    if place.folder != context.folder:
        context.output.say(f"Running in {place.folder}, the app's folder.")
    os.chdir(place.folder)
    _open_envelope(prepared.envelope)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # as for every process that has the secrets
    try:
        os.execve(program, command, prepared.environment)
    except OSError as error:
        raise TakoError(f"{command[0]} cannot be run: {error.strerror}. Nothing was started.") from None


def _on_server(context: Context, where: Where, command: list[str]) -> int:
    """As a process of the app that is deployed there; on the leader, since what is run once is run in one place."""
    from tako.cli import deployed
    from tako.deploy import remote
    from tako.deploy.channel import who

    target = deployed.target(context, where)
    server = target.servers[0]
    if len(target.servers) > 1:
        context.output.say(f"Running on {server.name}, the first of {len(target.servers)} servers.")
    link = deployed.connection(server)
    link.connect()
    return link.attach(remote.one_off(json.dumps({**target.ref, "argv": command, "by": who()})))


def _program(name: str, environment: dict[str, str], folder: Path) -> str:
    found = shutil.which(name, path=environment.get("PATH", os.defpath)) if "/" not in name else str(folder / name)
    if found is None or not Path(found).exists():
        raise TakoError(f"There is no command {name!r}. Nothing was started.", cure="Is it installed, and in PATH?")
    return found


def _open_envelope(data: bytes) -> None:
    """Put the envelope where the process contract says: on fd 3, followed by its end."""
    reading, writing = os.pipe()
    if len(data) <= PIPE_BYTES:
        os.write(writing, data)
    elif os.fork() == 0:  # pragma: no cover (a process of its own)
        _write_and_leave(data, reading=reading, writing=writing)
    os.close(writing)
    if reading != 3:
        os.dup2(reading, 3)  # inheritable, as every dup2 is
        os.close(reading)
    os.set_inheritable(3, True)


def _write_and_leave(data: bytes, *, reading: int, writing: int) -> None:  # pragma: no cover
    """In a child of a child, so that the command never has a child it does not know of."""
    if os.fork() != 0:
        os._exit(0)
    os.close(reading)
    try:
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)
