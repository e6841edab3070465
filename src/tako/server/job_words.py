"""What a job says to people: at the beginning and the end of each phase, at its own end, and of what went wrong."""

from __future__ import annotations

from typing import Any

from tako.errors import TakoError
from tako.protocol.management import Phase
from tako.supervisor.instance import BootFailed

_SAID_LINES = 5  # of a process that ended without a traceback
_KEPT_LINES = 40

BEGINS: dict[Phase, str] = {
    "upload": "Looking whether everything has arrived…",
    "stage": "Putting the release together…",
    "build": "Building its environment…",
    "release": "Running the release command…",
    "gate": "Booting a worker of each group…",
    "boot": "Booting the web app…",
    "health": "Asking for its health…",
    "held": "Waiting for the other servers…",
    "switch": "Switching…",
    "watch": "Watching…",
    "drain": "Letting old instances finish…",
    "workers": "Letting old workers finish…",
    "prune": "Removing what is old…",
}
DONES: dict[Phase, str] = {
    "upload": "Everything is here",
    "stage": "The release is on the disk",
    "build": "Its environment is there",
    "release": "The release command is through",
    "gate": "Its workers start",
    "boot": "Its web app is up",
    "health": "It answers",
    "held": "Going on",
    "switch": "Live",
    "watch": "It holds out",
    "drain": "Old instances are gone",
    "workers": "Old workers are gone",
    "prune": "Cleaned up",
}
FINISHED: dict[str, str] = {
    "live": "Deployed",
    "failed": "Not deployed; what served before still does",
    "rolled_back": "Taken back; what served before does again",
    "aborted": "Called off; what served before still does",
}
CURES: dict[Phase, str] = {
    "boot": "Mend it, try it with `tako check`, and deploy again.",
    "health": "See what its health path answers, and deploy again.",
    "switch": "See its last lines above, mend it, and deploy again.",
    "watch": "See its last lines above, mend it, and deploy again.",
}


def words_of(error: BaseException) -> str:
    """An error in words for people: the reason, and what a process of the app has said last."""
    if isinstance(error, BootFailed):
        failure = error.failure
        said = failure.short or "\n".join(f"  {line}" for line in failure.lines[-_SAID_LINES:])
        return failure.reason + (f"\n{said}" if said else "")
    return error.message if isinstance(error, TakoError) else f"{type(error).__name__}: {error}"


def detail_of(error: BaseException) -> dict[str, Any]:
    """What programs are told of it beside the words."""
    if isinstance(error, BootFailed):
        failure = error.failure
        return {
            "lines": list(failure.lines[-_KEPT_LINES:]), "traceback_tail": failure.short,
            "traceback": failure.traceback, "exit_code": failure.exit_code, "signal": failure.signal,
        }  # fmt: skip
    return dict(error.detail) if isinstance(error, TakoError) else {}
