"""The rules for many: each caller gets the answer, and the store the rows, of one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tako.engine import invariants, runs, steps, together, waiters
from tako.engine.options import Options
from tako.engine.store import Store
from tako.errors import TakoError

TABLES = ("runs", "payloads", "results", "attempts", "steps", "signals", "counts", "permits")
LIMITED = {"limited": Options(names=("limited",), concurrency=3), "few": Options(names=("few",), max_pending=5)}


class Even(random.Random):
    """The same chance for everybody, whoever comes first."""

    def random(self) -> float:
        return 0.5


def store_with(claimed: int) -> Store:
    """Runs that w1 holds, of a plain workflow and of one with limits; some have signals, steps or crashes."""
    store = Store.memory()
    with store.transaction():
        store.obey(dict(LIMITED))
        news: list[Any] = [
            {"id": f"r{n}", "workflow": "limited" if n % 5 == 4 else "w", "payload_json": "{}"} for n in range(claimed)
        ]
        runs.enqueue(store, news, now_ms=1)
        for _ in range(2):
            runs.claim(store, worker_id="w1", names=["w", "limited"], max_runs=claimed, now_ms=2, release="r")
        for n in range(0, claimed, 3):
            waiters.signal(store, run_id=f"r{n}", event_name="go", payload_json="1", signal_id=None, now_ms=3)
    store.take_events()
    return store


def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    assert invariants.check(store) == []
    found = {}
    for table in TABLES:
        rows = [dict(row) for row in store.connection.execute(f"SELECT * FROM {table}")]
        for row in rows:
            row.pop("position", None)  # of different runs: nothing depends on whose came first
        found[table] = sorted((tuple(row.values()) for row in rows), key=repr)
    return found


def shown(answer: Any) -> Any:
    return (type(answer), answer.message) if isinstance(answer, TakoError) else answer


def compare(asked: list[Any], *, one: Callable[..., Any], many: Callable[..., list[Any]]) -> None:
    first, second = store_with(20), store_with(20)
    alone = []
    with first.transaction():
        for ask in asked:
            try:
                alone.append(one(first, ask))
            except TakoError as error:
                alone.append(error)
    with second.transaction():
        together_ = many(second, asked)

    assert list(map(shown, together_)) == list(map(shown, alone))
    assert dump(second) == dump(first)
    assert sorted(map(repr, second.take_events())) == sorted(map(repr, first.take_events()))


@pytest.mark.parametrize("seed", range(25))
def test_ends_said_together_are_what_they_are_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = ["succeeded"] * 6 + ["failed", "fatal", "stopped"]
    asked = [
        {
            "run_id": f"r{rng.randrange(22)}",
            "worker_id": rng.choice(["w1"] * 8 + ["w2"]),
            "epoch": rng.choice([1] * 8 + [2, None]),
            "outcome": rng.choice(outcomes),
            "result_json": rng.choice([None, "null", '"done"']),
            "warnings": rng.choice([()] * 5 + [("careful",)]),
        }
        for _ in range(rng.randrange(1, 30))
    ]

    compare(
        asked,
        one=lambda store, ask: runs.finish(store, **ask, now_ms=10, rng=Even()),
        many=lambda store, all_: together.finish_all(store, all_, now_ms=10, rng=Even()),
    )


@pytest.mark.parametrize("seed", range(25))
def test_steps_saved_together_are_what_they_are_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)
    asked = [
        {
            "run_id": f"r{rng.randrange(22)}",
            "worker_id": rng.choice(["w1"] * 8 + ["w2"]),
            "epoch": rng.choice([1] * 8 + [2, None]),
            "name": rng.choice(["a", "b", "c", f"only-{rng.random()}"]),
            "result_json": f'"{rng.random()}"',
            "started_ms": 5,
            "attempt": 1,
        }
        for _ in range(rng.randrange(1, 30))
    ]

    compare(
        asked,
        one=lambda store, ask: steps.save(store, **ask, now_ms=10),
        many=lambda store, all_: together.save_all(store, all_, now_ms=10),
    )


@pytest.mark.parametrize("seed", range(25))
def test_runs_enqueued_together_are_what_they_are_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)

    def new() -> dict[str, Any]:
        more: dict[str, Any] = {}
        if rng.random() < 0.2:
            more["key"] = rng.choice("xy")
        if rng.random() < 0.1:
            more["on_duplicate"] = "raise"
        if rng.random() < 0.1:
            more["parent_id"] = rng.choice(["r1", "nobody"])
        if rng.random() < 0.2:
            more["delay_ms"] = 1_000
        workflow = rng.choice(["w", "w", "w", "limited", "few"])
        return {"id": f"n{rng.randrange(40)}", "workflow": workflow, "payload_json": "[1]", **more}

    asked = [[new() for _ in range(rng.choice([1, 1, 1, 2]))] for _ in range(rng.randrange(1, 25))]

    compare_order_free(asked)


def compare_order_free(asked: list[Any]) -> None:
    """The plain ones go first, so with keys, and ids that stand twice, another order is as good: the answers must be
    those of that order."""
    store = store_with(20)
    with store.transaction():
        answers = together.enqueue_all(store, asked, now_ms=10)
    in_order = store_with(20)
    plain = [index for index, news in enumerate(asked) if len(asked) > 1 and together._is_plain(in_order, news)]
    others = [index for index in range(len(asked)) if index not in plain]
    expected: dict[int, Any] = {}
    with in_order.transaction():
        for index in [*plain, *others]:
            try:
                expected[index] = runs.enqueue(in_order, asked[index], now_ms=10)
            except TakoError as error:
                expected[index] = error

    assert [shown(answer) for answer in answers] == [shown(expected[index]) for index in range(len(asked))]
    ids = [run["id"] for run in store.all("all_epochs")]
    assert sorted(ids) == sorted(run["id"] for run in in_order.all("all_epochs"))
    assert store.counts == in_order.counts


def test_what_is_not_plain_is_refused_alone() -> None:
    store = store_with(5)
    with store.transaction():
        answers = together.enqueue_all(
            store,
            [
                [{"id": "a", "workflow": "w", "payload_json": "{}"}],
                [{"id": "b", "workflow": "w", "payload_json": "{}", "parent_id": "nobody"}],
                [{"id": "c", "workflow": "w", "payload_json": "{}"}],
            ],
            now_ms=10,
        )

    assert [isinstance(answer, TakoError) for answer in answers] == [False, True, False]
