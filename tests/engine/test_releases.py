"""Which release's workers may claim."""

from __future__ import annotations

import pytest

from tako.engine import releases, runs
from tako.engine.store import Store
from tests.support.engine import Rig


def claim(engine: Rig, release: str) -> list[str]:
    found = engine.do(
        runs.claim, worker_id=f"of-{release}", names=["charge"], max_runs=1, now_ms=engine.now_ms, release=release
    )
    return [run["id"] for run in found]


def activate(engine: Rig, release: str) -> int:
    return engine.do(releases.activate, release=release, registries={})


def test_before_the_first_deploy_everyone_may_claim(engine: Rig) -> None:
    run_id = engine.enqueue()

    assert releases.active(engine.store) is None
    assert claim(engine, "dev") == [run_id]


def test_from_the_flip_on_only_the_new_release_may_claim(engine: Rig) -> None:
    first, second = engine.enqueue(), engine.enqueue()
    activate(engine, "r1")
    assert claim(engine, "r1") == [first]

    activate(engine, "r2")

    assert claim(engine, "r1") == []
    assert claim(engine, "r2") == [second]


def test_what_an_old_release_has_claimed_it_finishes(engine: Rig) -> None:
    activate(engine, "r1")
    run_id = engine.enqueue()
    claim(engine, "r1")

    activate(engine, "r2")

    engine.do(
        runs.finish, run_id=run_id, worker_id="of-r1", epoch=1, outcome="succeeded", now_ms=engine.now_ms,
        rng=engine.rng,
    )  # fmt: skip
    assert engine.row(run_id)["status"] == "succeeded"
    assert engine.row(run_id)["release"] == "r1"


def test_a_roll_back_is_a_flip_back_and_each_has_a_number(engine: Rig) -> None:
    run_id = engine.enqueue()

    assert [activate(engine, release) for release in ("r1", "r2", "r1")] == [1, 2, 3]

    assert claim(engine, "r2") == []
    assert claim(engine, "r1") == [run_id]


def test_a_flip_that_is_not_committed_changes_nothing(engine: Rig) -> None:
    run_id = engine.enqueue()
    activate(engine, "r1")

    def flip_and_fail(store: Store) -> None:
        releases.activate(store, release="r2", registries={})
        raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError):
        engine.do(flip_and_fail)

    assert releases.active(engine.store) == "r1"
    assert claim(engine, "r2") == []
    assert claim(engine, "r1") == [run_id]


def test_the_active_release_outlives_the_engine(engine: Rig) -> None:
    activate(engine, "r2")

    engine.store._load()

    assert engine.store.active_release == "r2"


def test_unfinished_runs_without_code_are_counted_and_named_oldest_first(engine: Rig) -> None:
    old = [engine.enqueue(workflow="refund") for _ in range(3)]
    engine.enqueue(workflow="charge")

    assert releases.unfinished(engine.store) == {"refund": 3, "charge": 1}
    assert releases.orphaned(engine.store, declared={"charge"}) == {"refund": 3}
    assert releases.ids_of(engine.store, workflows=["refund"], limit=2) == {"refund": old[:2]}
