"""The rules that most writes are, for many callers at once: an enqueue, a saved step, the end of a run that succeeded.

What came in together is looked up with one statement and written with one that is run for all, which costs half of one
after the other. Each caller is answered as if he had been alone: with what his rule returns, or the TakoError that it
raises. Whatever is not plain (a key, a limit, a parent, a step that was saved before, a worker that lost its lease)
goes by the rule for one, after the plain ones.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from tako.engine import endings, guard, intake, steps
from tako.engine.endings import Finished
from tako.engine.store import Store
from tako.errors import TakoError
from tako.protocol.messages import Enqueued, NewRun

T = TypeVar("T")

# The arguments of a rule for one, by name, as `steps.save` and `endings.finish` take them.
Asked = dict[str, Any]


def enqueue_all(store: Store, asked: Sequence[Sequence[NewRun]], *, now_ms: int) -> list[list[Enqueued] | TakoError]:
    """`intake.enqueue` for each of these."""
    answers: dict[int, list[Enqueued] | TakoError] = {}
    plain = [index for index, news in enumerate(asked) if _is_plain(store, news)] if len(asked) > 1 else []
    if plain:
        stored = iter(intake.enqueue(store, [new for index in plain for new in asked[index]], now_ms=now_ms))
        for index in plain:
            answers[index] = [next(stored) for _ in asked[index]]
    for index, news in enumerate(asked):
        if index not in answers:
            answers[index] = _answer(partial(intake.enqueue, store, news, now_ms=now_ms))
    return [answers[index] for index in range(len(asked))]


def save_all(store: Store, asked: Sequence[Asked], *, now_ms: int) -> list[str | TakoError]:
    """`steps.save` for each of these."""
    runs = _held(store, asked, by=lambda one: (one["run_id"], one["name"]))
    rows = [
        (run["seq"], run["generation"], one["name"], "step", one["result_json"], one["attempt"], run["epoch"],
         one["started_ms"], now_ms)
        for one, run in zip(asked, runs, strict=True) if run is not None
    ]  # fmt: skip
    is_new = not rows or store.many("insert_step", rows) == len(rows)
    answers: list[str | TakoError] = []
    for one, run in zip(asked, runs, strict=True):
        if run is not None:
            steps.saved(store, run, one["result_json"])
        if run is not None and is_new:
            answers.append(one["result_json"])
        else:  # of a step that is saved again, the answer is what the first save has stored
            answers.append(_answer(partial(steps.save, store, **one, now_ms=now_ms)))
    return answers


def finish_all(store: Store, asked: Sequence[Asked], *, now_ms: int, rng: random.Random) -> list[Finished | TakoError]:
    """`endings.finish` for each of these."""
    runs = _held(store, asked, by=lambda one: one["run_id"])
    plain = [
        (run, one["result_json"]) if run is not None and one["outcome"] == "succeeded" and not one["warnings"] else None
        for one, run in zip(asked, runs, strict=True)
    ]
    if ends := [end for end in plain if end is not None]:
        endings.succeed_all(store, ends, now_ms=now_ms)
    return [
        _SUCCEEDED if end else _answer(partial(endings.finish, store, **one, now_ms=now_ms, rng=rng))
        for one, end in zip(asked, plain, strict=True)
    ]


_SUCCEEDED = Finished("succeeded", None)


def _held(store: Store, asked: Sequence[Asked], *, by: Callable[[Asked], Any]) -> list[sqlite3.Row | None]:
    """The run of each, if its worker holds it; None for what the rule for one must look at, as when something is said
    twice: then the order counts."""
    if len(asked) == 1:
        return [None]
    said = Counter(map(by, asked))
    found = {row["id"]: row for row in store.all("held_runs", ids=json.dumps([one["run_id"] for one in asked]))}
    runs: list[sqlite3.Row | None] = []
    for one in asked:
        run, epoch = found.get(one["run_id"]), one["epoch"]
        holds = run is not None and epoch is not None and guard.holds(run, worker_id=one["worker_id"], epoch=epoch)
        runs.append(run if holds and said[by(one)] == 1 else None)
    return runs


def _is_plain(store: Store, news: Sequence[NewRun]) -> bool:
    for new in news:
        if "key" in new or "parent_id" in new:
            return False
        options = store.options.get(new["workflow"])
        if options is not None and (options.is_limited or options.max_pending is not None):
            return False
    return True


def _answer(rule: Callable[[], T]) -> T | TakoError:
    try:
        return rule()
    except TakoError as error:
        return error
