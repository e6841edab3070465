"""The release command: once for each deploy, in the new release's environment, before anything moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tako.errors import DeployRefused
from tako.host.launch import Launch
from tako.supervisor import process
from tako.supervisor.exits import Exit
from tako.supervisor.spawn import SpawnFailed

TIMEOUT_S = 600.0
SHOWN_LINES = 20


async def run(
    command: str,
    launch: Launch,
    *,
    name: str,
    token: str,
    on_line: Callable[[str], None],
    redact: Callable[[str], str],
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Run it to its end.

    Raises:
        DeployRefused: it failed, took longer than it may (then it was killed), or could not be started.
    """
    request = launch.command(["/bin/sh", "-c", command], name=name, token=token)
    ended: asyncio.Future[tuple[Exit, list[str]]] = asyncio.get_running_loop().create_future()
    listener = process.Listener(
        on_line=lambda pid, line: on_line(line),
        on_exit=lambda exit_, lines: None if ended.done() else ended.set_result((exit_, lines)),
        redact=redact,
    )
    try:
        running = process.Process.start(request, listener)
    except (SpawnFailed, OSError) as error:
        raise DeployRefused(f"the release command could not be started: {error}") from error
    try:
        exit_, lines = await asyncio.wait_for(asyncio.shield(ended), timeout_s)
    except TimeoutError:
        running.child.kill()
        await ended
        raise DeployRefused(
            f"the release command `{command}` took longer than {timeout_s / 60:g} minutes and was killed",
            cure="Look at what it has done so far, then deploy again.",
        ) from None
    except BaseException:
        running.child.kill()
        raise
    if exit_.code != 0:
        said = "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:])
        raise DeployRefused(
            exit_.words(subject=f"the release command `{command}`") + (f"\n{said}" if said else ""),
            cure="Mend it, and deploy again.",
            detail={"lines": lines[-SHOWN_LINES:], "exit_code": exit_.code},
        )
