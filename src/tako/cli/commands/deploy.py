"""`tako deploy`: this folder's app to its servers. All prepare, then all switch; what cannot start changes nothing."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tako.cli import deploy_screen, deployed
from tako.cli.arguments import Parser, UsageError
from tako.cli.context import Context
from tako.cli.errors import DONE, REFUSED, Interrupted, Unreported
from tako.cli.output import DIM
from tako.deploy import artifact as artifacts
from tako.deploy import build, plan
from tako.deploy.artifact import Artifact
from tako.deploy.leg import Leg
from tako.deploy.rollout import Rollout, to_the_end
from tako.deploy.target import Target
from tako.errors import TakoError
from tako.protocol import management
from tako.vault.sealed import SealedFile

NOTHING_DONE = "Nothing was deployed: what served before still serves."


def configure(parser: Parser) -> None:
    """Where to, and how."""
    deployed.add_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--orphans", choices=["refuse", "keep", "cancel"], default="refuse",
        help="unfinished runs that the release has no code for; default: refuse the release",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="deploy again what serves already")
    parser.add_argument("--attach", action="store_true", help="follow the deploy that is under way")
    parser.add_argument("--abort", action="store_true", help="call off the deploy that is under way")


def run(context: Context, args: argparse.Namespace) -> int:
    """Build, upload, have it switched; exit 0 when the release serves on every server."""
    if (args.attach or args.abort) and (args.dry_run or args.force or args.attach == args.abort):
        option, does = ("--attach", "follows") if args.attach else ("--abort", "calls off")
        raise UsageError(f"{option} {does} what another `tako deploy` began; it takes no other option.")
    started = time.monotonic()
    target = deployed.target(context, args)
    if args.attach:
        return _attach(context, target, started)
    if args.abort:
        return _abort(context, target)
    artifact = _artifact(context, target)
    secrets = _secrets(context, target)
    rollout = deployed.rollout(target)
    screen = deploy_screen.Screen(context.output, [leg.server for leg in rollout.legs], skip=_skipped(target))
    try:
        states = connect(context, rollout, screen)
    except KeyboardInterrupt:
        raise Interrupted(NOTHING_DONE) from None
    hash_now = None if secrets is None else management.secrets_hash(**target.ref, secrets=dict(secrets))
    plans = plan.plan(artifact, states, secrets_hash=hash_now, release_command=target.config.release)
    if args.dry_run:
        return _show_plan(context, target, artifact, plans)
    if all(each.is_nothing for each in plans) and not args.force:
        return _nothing_to_do(context, target, artifact, plans)
    leader = rollout.legs[0]

    def begin(leg: Leg, hold: bool) -> None:
        leg.send(artifact, is_leader=leg is leader, secrets=secrets, orphans=args.orphans, hold=hold)

    run_and_tell(rollout, lambda: screen.follow(rollout.run(begin)))
    return finish(context, target, rollout, release=artifact.release, verb="deployed to", started=started)


def _skipped(target: Target) -> list[management.Phase]:
    """Phases in which this app has nothing to do."""
    return [] if target.config.release else ["release"]


def _artifact(context: Context, target: Target) -> Artifact:
    output = context.output
    if target.config.build.run is not None:
        output.doing("Building…")
        started = time.monotonic()
        build.run(
            target.config, target.environment.name, environ=os.environ,
            line=lambda text: output.say(f"  {output.painted(f'│ {text}', DIM)}"),
        )  # fmt: skip
        output.done(f"Built {deploy_screen.seconds(round((time.monotonic() - started) * 1000))}")
    artifact = artifacts.collect(target.config)
    for warning in artifact.warnings:
        output.warn(warning)
    return artifact


def _secrets(context: Context, target: Target) -> Mapping[str, str] | None:
    """The values to send; None when they cannot be read here, and those on the server stay."""
    sealed = SealedFile(target.config.root, app=target.app)
    try:
        return sealed.open(target.environment.name, keyring=deployed.keyring())
    except TakoError as error:
        if not sealed.names(target.environment.name) or "cannot be read" not in error.message:
            raise
        context.output.warn(f"{error.message} Those on the server stay as they are.")
        return None


def connect(context: Context, rollout: Rollout, screen: deploy_screen.Screen) -> list[plan.ServerState]:
    """Connect to all, and ask each what it has. Raises Unreported when one is out of reach: nothing was done."""
    states: dict[str, plan.ServerState] = {}

    def connect_one(leg: Leg) -> None:
        leg.connect()
        states[leg.server] = leg.state()

    screen.follow(rollout.each(connect_one))
    errors = [result for result in rollout.results() if result.error is not None]
    if len(errors) == 1 and isinstance(errors[0].error, TakoError):
        raise errors[0].error
    if errors:
        deploy_screen.fail(context.output, errors, verb="deployed to")
        raise Unreported(REFUSED)
    return [states[leg.server] for leg in rollout.legs]


def run_and_tell(rollout: Rollout, act: Callable[[], None]) -> None:
    """Do it; after Ctrl-C say what goes on without us, and take back what does not."""
    try:
        act()
    except KeyboardInterrupt:
        committed = [leg.server for leg in rollout.legs if leg.is_committed]
        if committed and (len(rollout.legs) == 1 or rollout.has_switched):
            raise Interrupted(f"It goes on at {', '.join(committed)}: `tako deploy --attach` follows it.") from None
        rollout.abort()
        raise Interrupted(NOTHING_DONE) from None


def finish(
    context: Context, target: Target, rollout: Rollout, *, release: str | None, verb: str, started: float
) -> int:
    """Say how it ended."""
    output, results = context.output, rollout.results()
    is_live = all(result.error is None for result in results)
    ms = round((time.monotonic() - started) * 1000)
    if output.json:
        output.document(
            {
                **target.ref, "release": release, "live": is_live, "ms": ms,
                "routes": list(target.environment.routes), "servers": [_result(result) for result in results],
            }
        )  # fmt: skip
    if not is_live:
        deploy_screen.fail(output, results, verb=verb)
        return REFUSED
    where = ", ".join(result.server for result in results)
    at = f" at {' and '.join(_urls(target))}" if target.environment.routes else ""
    what = f"{target.app} {release}" if release else target.app
    output.done(f"{what} serves on {where}{at}. {deploy_screen.seconds(ms)}")
    return DONE


def _result(result: Any) -> dict[str, Any]:
    error = result.error
    return {
        "server": result.server, "job": result.job, "previous": result.previous, "uploaded_bytes": result.sent_bytes,
        "error": None if error is None else {
            "code": getattr(error, "code", "error"), "message": getattr(error, "message", str(error)),
            "detail": getattr(error, "detail", {}),
        },
    }  # fmt: skip


def _urls(target: Target) -> list[str]:
    return [f"https://{route}" for route in target.environment.routes]


def _abort(context: Context, target: Target) -> int:
    rollout, _ = _under_way(context, target)
    for leg in rollout.legs:
        leg.abort()
    servers = [leg.server for leg in rollout.legs]
    if context.output.json:
        context.output.document(
            {**target.ref, "aborted": [{"server": leg.server, "job": leg.job} for leg in rollout.legs]}
        )
    else:
        context.output.done(f"Called off on {', '.join(servers)}: what served before still serves.")
    return DONE


def _under_way(context: Context, target: Target) -> tuple[Rollout, deploy_screen.Screen]:
    """The jobs that are under way, to follow or to call off. Raises TakoError when there is none."""
    rollout = deployed.rollout(target)
    screen = deploy_screen.Screen(context.output, [leg.server for leg in rollout.legs], skip=_skipped(target))
    states = connect(context, rollout, screen)
    running = [(leg, state.job) for leg, state in zip(rollout.legs, states, strict=True) if state.job is not None]
    if not running:
        raise TakoError(
            f"No deploy of {target.app} to {target.environment.name} is under way.",
            cure=f"How the last one ended: tako releases --env {target.environment.name}",
        )
    for leg, job in running:
        leg.attach(str(job))
    rollout.legs = [leg for leg, _ in running]
    return rollout, screen


def _attach(context: Context, target: Target, started: float) -> int:
    rollout, screen = _under_way(context, target)

    def follow(leg: Leg) -> None:
        leg.follow(to_the_end)

    run_and_tell(rollout, lambda: screen.follow(rollout.each(follow)))
    return finish(context, target, rollout, release=None, verb="deployed to", started=started)


def _show_plan(context: Context, target: Target, artifact: Artifact, plans: list[plan.ServerPlan]) -> int:
    output = context.output
    if output.json:
        output.document({**target.ref, **plan.document(plans, artifact, routes=target.environment.routes)})
        return DONE
    for file in artifact.files:
        output.result(f"{file.size:>12,}  {file.path}")
    count = len(artifact.files)
    output.say(f"Release {artifact.release}: {count} files, {deploy_screen.size(artifact.size)}.")
    for each in plans:
        steps = [
            "sends the files that it lacks" if each.uploads else "has the release already",
            f"sends the secrets of {target.environment.name}" if each.sends_secrets else "",
            f"runs {target.config.release!r}" if each.runs_release_command else "",
        ]
        now = f"serves {each.current}" if each.current else "has no release"
        doing = "nothing to do" if each.is_nothing else ", ".join(step for step in steps if step)
        output.say(f"{each.name} {now}: {doing}.")
    output.say("This was a dry run; nothing was done.")
    return DONE


def _nothing_to_do(context: Context, target: Target, artifact: Artifact, plans: list[plan.ServerPlan]) -> int:
    where = ", ".join(each.name for each in plans)
    if context.output.json:
        context.output.document(
            {**target.ref, "release": artifact.release, "live": True, "ms": 0,
             "routes": list(target.environment.routes), "servers": []}
        )  # fmt: skip
    else:
        context.output.done(
            f"Nothing to deploy: {where} serves {artifact.release} already. `--force` deploys it again."
        )
    return DONE
