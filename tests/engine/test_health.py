"""What supervisors want to find again."""

from __future__ import annotations

from tako.engine import health
from tests.support.engine import Rig


def test_the_health_of_groups_is_kept(engine: Rig) -> None:
    engine.do(health.save, group="mail", record={"failures": 1})
    engine.do(health.save, group="mail", record={"failures": 2})
    engine.do(health.save, group="default", record={"failures": 0})

    assert health.load(engine.store) == {"default": {"failures": 0}, "mail": {"failures": 2}}


def test_the_health_of_code_that_is_no_more_is_forgotten(engine: Rig) -> None:
    engine.do(health.save, group="mail", record={"failures": 1})

    engine.do(health.forget)

    assert health.load(engine.store) == {}


def test_workers_are_remembered_until_they_are_forgotten(engine: Rig) -> None:
    engine.do(health.record_worker, record={"worker_id": "w1", "pid": 7})
    engine.do(health.record_worker, record={"worker_id": "w2", "pid": 8})
    engine.do(health.record_worker, record={"worker_id": "w1", "pid": 7, "group": "mail"})
    engine.do(health.forget_worker, worker_id="w2")
    engine.do(health.forget_worker, worker_id="nobody")

    assert health.workers(engine.store) == [{"worker_id": "w1", "pid": 7, "group": "mail"}]
