"""From what was seen to what the table says: pure, and tested by itself (`tests/reliability/test_peers.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from reliability.peers.managed import Told

LAST_STEP = 2
HANGS = "no answer in 30 s"


class Grade(Enum):
    """How a fault ended for whoever relies on the stack."""

    KEPT = "✔"  # nothing was lost, repeated or hidden
    TOLD = "◐"  # something was, and the one who asked was told; or work that was done is done again
    LOST = "✘"  # work is lost, goes on for ever, or nobody is told
    NONE = "–"  # the stack has nothing that this fault could hit


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cell of the table."""

    grade: Grade
    words: str

    def __str__(self) -> str:
        return f"{self.grade.value} {self.words}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ledger: a step of a task began or ended."""

    at: float
    pid: int
    what: str
    key: str
    number: int


def read(ledger: Path) -> list[Line]:
    """The ledger as it is now."""
    if not ledger.exists():
        return []
    return [Line(*json.loads(line)) for line in ledger.read_text().splitlines() if line.endswith("]")]


def of(lines: Sequence[Line], key: str, what: str, number: int | None = None) -> list[Line]:
    """Those of one task."""
    return [line for line in lines if line.key == key and line.what == what and number in (None, line.number)]


def killed(lines: Sequence[Line], key: str, *, at: float, state: str, waited_s: float) -> Verdict:
    """A task of three steps, whose worker was killed in the second: does it end, how soon, and what is done twice?"""
    ended = of(lines, key, "end", LAST_STEP)
    if not ended:
        return Verdict(Grade.LOST, f"not finished {waited_s:.0f} s later; its state: {state}")
    again = [line for line in of(lines, key, "begin") if line.at > at]
    finished = {line.number for line in of(lines, key, "end") if line.at < at}
    repeated = sorted({line.number for line in again} & finished)
    words = f"goes on {again[0].at - at:.1f} s later"
    if repeated:
        return Verdict(Grade.TOLD, f"{words}; {_steps(len(repeated))} that had finished {_is(repeated)} done again")
    return Verdict(Grade.KEPT, f"{words}; no finished step is done again")


def poisoned(lines: Sequence[Line], *, state: str, waited_s: float, neighbour_s: float | None) -> Verdict:
    """A task that kills its worker: how often is it started, is it given up with a reason, does another one get by?"""
    starts = len(of(lines, "poison", "begin"))
    neighbour = "its neighbour never ran" if neighbour_s is None else f"its neighbour ran after {neighbour_s:.1f} s"
    last = max((line.at for line in of(lines, "poison", "begin")), default=0.0)
    first = min((line.at for line in of(lines, "poison", "begin")), default=0.0)
    is_over = any(word in state.lower() for word in ("dead", "fail", "error", "exceeded"))
    if is_over and neighbour_s is not None:
        grade = Grade.KEPT if starts <= 20 else Grade.TOLD
        return Verdict(grade, f"given up after {_times(starts)} ({short(state)}); {neighbour}")
    pace = f" in {last - first:.0f} s" if starts > 1 else ""
    return Verdict(
        Grade.LOST, f"started {_times(starts)}{pace}; {waited_s:.0f} s later its state: {short(state)}; {neighbour}"
    )


def cannot_start(told: Sequence[Told], *, ran_when_mended: int, state: str) -> Verdict:
    """Code that workers cannot import: is whoever enqueues told, and what becomes of what was accepted?"""
    accepted = [one for one in told if one.is_yes]
    refused = [one for one in told if not one.is_yes]
    words = f"{len(accepted)} of {len(told)} enqueues accepted"
    if refused:
        words += f"; refused: {short(refused[0].error or HANGS)}"
    if accepted:
        words += f"; of those {ran_when_mended} ran once the code was mended"
    if len(accepted) <= 1 and ran_when_mended == len(accepted):
        return Verdict(Grade.KEPT, words)
    if ran_when_mended < len(accepted):
        return Verdict(Grade.LOST, f"{words}; the others: {short(state)}")
    return Verdict(Grade.LOST, words + ", nobody was told")


def broker_killed(lines: Sequence[Line], told: dict[str, Told], *, waited_s: float, state: str = "") -> Verdict:
    """Enqueues while the broker is killed: is all that was acknowledged done, and done once?"""
    acknowledged = [key for key, one in told.items() if one.is_yes]
    lost = [key for key in acknowledged if not of(lines, key, "end")]
    twice = [key for key in acknowledged if len(of(lines, key, "begin")) > 1]
    # One that was refused although the broker had stored it runs once more when its caller tries again.
    unasked = [key for key, one in told.items() if not one.is_yes and of(lines, key, "begin")]
    refused = [one for one in told.values() if not one.is_yes]
    slowest = max((one.took_s for one in told.values() if one.took_s is not None), default=0.0)
    words = [_acknowledged(acknowledged, lost, waited_s=waited_s, state=state)]
    if twice:
        words.append(f"{len(twice)} done twice")
    if unasked:
        words.append(f"{len(unasked)} refused and done all the same")
    hung = sum(one.took_s is None for one in told.values())
    words.append(f"{len(refused)} refused" + (f" ({hung} without an answer)" if hung else ""))
    words.append(f"the slowest answer {slowest:.1f} s")
    if lost:
        return Verdict(Grade.LOST, "; ".join(words))
    return Verdict(Grade.TOLD if twice or unasked or hung else Grade.KEPT, "; ".join(words))


def does_not_answer(told: Told, *, ran: bool) -> Verdict:
    """A broker that is there and says nothing: how long does an enqueue take to say so?"""
    if told.took_s is None:
        return Verdict(Grade.LOST, f"enqueue: {HANGS}" + ("; done all the same, later" if ran else ""))
    if told.is_yes:
        return Verdict(
            Grade.KEPT if ran else Grade.LOST, f"accepted after {told.took_s:.1f} s" + ("" if ran else ", never done")
        )
    words = f"refused after {told.took_s:.1f} s: {short(told.error)}"
    return Verdict(Grade.TOLD if ran else Grade.KEPT, words + ("; done all the same, later" if ran else ""))


def disk_full(
    lines: Sequence[Line], told: dict[str, Told], *, after: Told, waited_s: float, state: str = ""
) -> Verdict:
    """The store's disk fills up under enqueues, and is emptied: what was acknowledged, and does it go on by itself?"""
    acknowledged = [key for key, one in told.items() if one.is_yes]
    lost = [key for key in acknowledged if not of(lines, key, "end")]
    refused = [one for one in told.values() if not one.is_yes]
    words = [_acknowledged(acknowledged, lost, waited_s=waited_s, state=state)]
    hung = sum(one.took_s is None for one in told.values())
    if refused:
        first = refused[0]
        words.append(f"{len(refused)} refused: {HANGS if first.took_s is None else short(first.error)}")
    words.append("takes work again" if after.is_yes else f"afterwards: {short(after.error or HANGS)}")
    if lost or not after.is_yes:
        return Verdict(Grade.LOST, "; ".join(words))
    return Verdict(Grade.TOLD if hung else Grade.KEPT, "; ".join(words))


def unstorable(lines: Sequence[Line], *, state: str) -> Verdict:
    """A result that no serializer takes: is the task's end told, and how often is the work done?"""
    times = len(of(lines, "unstorable", "begin"))
    is_told = any(word in state.lower() for word in ("dead", "fail", "error"))
    words = f"executed {_times(times)}; its state: {short(state)}"
    if not is_told:
        return Verdict(Grade.LOST, words)
    return Verdict(Grade.KEPT if times == 1 else Grade.TOLD, words)


def unknown_name(told: Told, *, state: str) -> Verdict:
    """A name that no worker knows."""
    if told.took_s is None:
        return Verdict(Grade.LOST, f"enqueue: {HANGS}")
    if not told.is_yes:
        return Verdict(Grade.KEPT, f"refused: {short(told.error)}")
    is_told = any(word in state.lower() for word in ("dead", "fail", "error", "unroutable", "blocked"))
    return Verdict(Grade.TOLD if is_told else Grade.LOST, f"accepted; its state: {short(state)}")


def schedule_missed(lines: Sequence[Line], *, since: float, missed: int, ticks_before: int) -> Verdict:
    """Nobody was there for some minutes: does a schedule make up for what it missed?"""
    if not ticks_before:
        return Verdict(Grade.LOST, "never fired")
    caught_up = len([line for line in of(lines, "tick", "begin") if line.at > since])
    words = f"{missed} missed, {caught_up} made up for at the start"
    return Verdict(Grade.KEPT if caught_up else Grade.LOST, words)


NOTHING_TO_HIT = Verdict(Grade.NONE, "there is no such part")


def short(text: str | None, *, most: int = 110) -> str:
    """A sentence for a cell."""
    words = re.sub(r"\S*/peers-\w+/", "…/", " ".join((text or "").split())).replace("|", "/")
    return words if len(words) <= most else words[: most - 1] + "…"


def _acknowledged(acknowledged: Sequence[str], lost: Sequence[str], *, waited_s: float, state: str) -> str:
    words = f"{len(acknowledged)} acknowledged"
    if not acknowledged:
        return words
    if not lost:
        return f"{words}, all of them done"
    return f"{words}, {len(lost)} of them not done {waited_s:.0f} s later, state: {short(state)}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"


def _is(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"
