"""`tako secrets … --env NAME`: secrets of a deployed environment, sealed in `tako.secrets.json`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tako.cli import deploy_screen, deployed, secret_input
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED
from tako.deploy.leg import Leg
from tako.deploy.rollout import to_the_end
from tako.deploy.target import environment_of
from tako.vault import keyring, sealed
from tako.vault.sealed import SealedFile


def run(context: Context, args: argparse.Namespace) -> int:
    """Do what the subcommand says, with the environment of `--env`."""
    config = deployed.config_of(context)
    environment = environment_of(config, args.env).name
    file = SealedFile(config.root, app=config.name)
    if args.subcommand == "set":
        return _set(context, args, file, environment)
    if args.subcommand == "rm":
        return _remove(context, args, file, environment)
    if args.subcommand == "ls":
        return _list(context, file, environment)
    if args.subcommand == "rotate-key":
        return _rotate(context, file, environment)
    return _sync(context, args, file)


def _set(context: Context, args: argparse.Namespace, file: SealedFile, environment: str) -> int:
    value = secret_input.value_of(context, args)
    is_new, key_path = file.set(environment, args.name, value, keyring=deployed.keyring())
    output = context.output
    if output.json:
        output.document({"set": args.name, "env": environment, "is_new": is_new})
        return DONE
    if key_path is not None:
        _tell_of_key(context, key_path, environment)
    verb = "Set" if is_new else "Changed"
    output.done(
        f"{verb} {args.name} of {environment} in {sealed.FILE}. The next deploy takes it along, "
        f"or now: `tako secrets sync --env {environment}`."
    )
    return DONE


def _tell_of_key(context: Context, path: Path, environment: str) -> None:
    context.output.done(f"Made the key of {environment}: {path}")
    context.output.say(
        f"  Keep a copy: without it nobody reads these secrets. In CI, set {keyring.VARIABLE} to its line."
    )


def _remove(context: Context, args: argparse.Namespace, file: SealedFile, environment: str) -> int:
    gone = list(dict.fromkeys(args.names))
    file.remove(environment, gone)
    if context.output.json:
        context.output.document({"removed": gone, "env": environment})
    else:
        context.output.done(f"Removed {', '.join(gone)} of {environment}. On servers: `tako secrets sync`, or deploy.")
    return DONE


def _list(context: Context, file: SealedFile, environment: str) -> int:
    names = file.names(environment)
    if context.output.json:
        context.output.document({"secrets": names, "env": environment})
        return DONE
    if not names:
        context.output.say(f"{environment} has no secrets. Set one: tako secrets set NAME --env {environment}")
    for name in names:
        context.output.result(name)
    return DONE


def _rotate(context: Context, file: SealedFile, environment: str) -> int:
    count, path = file.rotate(environment, keyring=deployed.keyring())
    if context.output.json:
        context.output.document({"env": environment, "secrets": count, "key": str(path)})
        return DONE
    context.output.done(f"Sealed {count} secret{'' if count == 1 else 's'} of {environment} for a new key: {path}")
    context.output.say(
        "  The old key stays in that file, for older commits. Who had it can still read those: if it leaked, change\n"
        "  the secrets themselves, too."
    )
    return DONE


def _sync(context: Context, args: argparse.Namespace, file: SealedFile) -> int:
    args.server = None
    target = deployed.target(context, args)
    secrets = file.open(target.environment.name, keyring=deployed.keyring())
    rollout = deployed.rollout(target)
    output = context.output
    changed: dict[str, bool] = {}

    def put(leg: Leg) -> None:
        leg.connect()
        changed[leg.server] = leg.put_secrets(secrets)
        if leg.job is not None:
            leg.follow(to_the_end)

    deploy_screen.Screen(output, [leg.server for leg in rollout.legs]).follow(rollout.each(put))
    results = rollout.results()
    failed = [result for result in results if result.error is not None]
    if output.json:
        servers = [
            {"server": result.server, "changed": changed.get(result.server), "job": result.job,
             "error": None if result.error is None else str(result.error)}
            for result in results
        ]  # fmt: skip
        output.document({**target.ref, "secrets": sorted(secrets), "servers": servers})
        return REFUSED if failed else DONE
    deploy_screen.fail(output, failed, verb="brought to")
    count = f"{len(secrets) or 'no'} secret{'' if len(secrets) == 1 else 's'}"
    for result in results:
        if result.error is None and not changed[result.server]:
            output.done(f"{result.server} has {count}, as before; nothing was started anew.")
        elif result.error is None:
            then = "; app and workers run with them now" if result.job else "; the next deploy starts with them"
            output.done(f"{result.server} has {count}{then}.")
    return REFUSED if failed else DONE
