"""The gate before the store: stored now, held for a booting worker, or refused with nothing written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from tako.engine.answer import Answer
from tako.errors import EnqueueError, InvalidRequest, PayloadError, UnknownWorkflow, WorkerUnhealthy
from tako.host.admission import Admission, check_new_runs
from tako.host.registry import Registry
from tako.protocol.messages import Enqueued, NewRun, WorkflowInfo
from tests.support.clock import FakeClock


class FakeGate:
    """A group's supervisor that says what the test wants."""

    def __init__(self) -> None:
        self.is_unproven = False
        self.is_open = True
        self.refusal: WorkerUnhealthy | None = None
        self.on_admit: Callable[[], None] = lambda: None

    def admit_now(self) -> bool:
        if self.refusal is not None:
            raise self.refusal
        return self.is_open

    async def admit(self, deadline: float) -> None:
        self.on_admit()
        if self.refusal is not None:
            raise self.refusal


class Scene:
    """An admission with one group, `mail`, whose workflow is `send`."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.gate = FakeGate()
        self.stored: list[NewRun] = []
        self.hurried: list[str] = []
        self.looked = 0
        self.admission = Admission(
            registry=self.registry,
            gates={"mail": self.gate},
            clock=FakeClock(),
            submit=self.submit,
            check=self.check,
            hurry=self.hurried.append,
            look=self.look,
        )
        self.tell(key="to:{to}:{lang}")

    def tell(self, **more: Any) -> None:
        parameters = [
            {"name": "to", "type": "str", "required": True},
            {"name": "lang", "type": "str", "required": False},
        ]
        info = {"name": "send", "aliases": [], "signature": "s1", "retries": 4, "parameters": parameters,
                "options": {"defaults": {"lang": "en"}}, **more}  # fmt: skip
        self.registry.told({"group": "mail", "workflows": [cast(WorkflowInfo, info)], "files": []})

    def look(self) -> None:
        self.looked += 1

    def check(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Answer[list[Enqueued]]:
        return Answer.of([{"id": new["id"], "is_new": True} for new in news])

    def submit(self, news: Sequence[NewRun], deadline_mono_ms: int | None) -> Answer[list[Enqueued]]:
        self.stored += news
        return Answer.of([{"id": new["id"], "is_new": True} for new in news])

    def enqueue(self, **fields: Any) -> list[Enqueued]:
        async def story() -> list[Enqueued]:
            found: list[Enqueued] = await self.admission.enqueue([new(**fields)], None)
            return found

        return asyncio.run(story())


def new(payload: Any = None, **fields: Any) -> NewRun:
    run = {"id": "1", "workflow": "send", "payload_json": json.dumps({"to": "ada"} if payload is None else payload)}
    return cast(NewRun, {**run, **fields})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_enqueue_to_a_healthy_group_is_stored_at_once_and_a_waiting_claim_rides_along(scene: Scene) -> None:
    assert scene.enqueue() == [{"id": "1", "is_new": True}]
    assert scene.hurried == ["mail"]
    assert scene.looked == 1


@pytest.mark.parametrize("later", [{"delay_ms": 1}, {"run_at_ms": 1_800_000_000_000}])
def test_no_claim_rides_along_with_a_run_for_later(scene: Scene, later: dict[str, int]) -> None:
    scene.enqueue(**later)
    assert len(scene.stored) == 1
    assert scene.hurried == []


def test_a_refused_enqueue_writes_nothing(scene: Scene) -> None:
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: worker exited with status 1")
    with pytest.raises(WorkerUnhealthy):
        scene.enqueue()
    assert scene.stored == []


def test_an_enqueue_is_held_until_the_booting_worker_has_told_what_it_knows(scene: Scene) -> None:
    scene.gate.is_open = False
    scene.gate.on_admit = lambda: scene.tell(retries=7)
    scene.enqueue()
    assert scene.stored[0]["retries"] == 7


def test_a_run_that_may_wait_is_stored_whatever_the_health(scene: Scene) -> None:
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: …")
    scene.enqueue(if_unhealthy="hold")
    assert len(scene.stored) == 1


def test_of_runs_that_come_together_one_that_may_not_wait_has_all_refused(scene: Scene) -> None:
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: …")
    may_wait = [new(id="1", if_unhealthy="hold"), new(id="2", parent_id="7")]
    scene.admission.enqueue(may_wait, None)
    with pytest.raises(WorkerUnhealthy):
        scene.admission.enqueue([*may_wait, new(id="3")], None)
    assert [run["id"] for run in scene.stored] == ["1", "2"]


def test_a_workflow_may_say_itself_that_its_runs_wait(scene: Scene) -> None:
    scene.tell(if_unhealthy="hold")
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: …")
    scene.enqueue()
    assert len(scene.stored) == 1


def test_an_unknown_name_is_refused_with_the_nearest(scene: Scene) -> None:
    with pytest.raises(UnknownWorkflow, match="sned"):
        scene.enqueue(workflow="sned")


def test_an_unknown_name_may_be_declared_by_code_that_is_booting(scene: Scene) -> None:
    scene.gate.is_unproven = True

    def booted() -> None:
        scene.gate.is_unproven = False
        scene.tell(name="brand_new", aliases=[])

    scene.gate.on_admit = booted
    scene.enqueue(workflow="brand_new")
    assert len(scene.stored) == 1


def test_an_unknown_name_beside_a_group_that_cannot_boot_is_that_groups_failure(scene: Scene) -> None:
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: …")
    with pytest.raises(WorkerUnhealthy):
        scene.enqueue(workflow="maybe_there")


def test_who_wants_to_know_a_workflow_waits_for_the_boot_that_tells_of_it(scene: Scene) -> None:
    scene.gate.is_unproven = True
    scene.gate.on_admit = lambda: scene.tell(retries=7)

    asyncio.run(scene.admission.know("send"))

    info = scene.registry.find("send")
    assert info is not None
    assert info["retries"] == 7


def test_of_code_that_cannot_boot_the_last_word_stands(scene: Scene) -> None:
    scene.gate.is_unproven = True
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: worker exited with status 1")

    asyncio.run(scene.admission.know("send"))

    assert scene.registry.find("send") is not None


def test_what_no_sdk_has_checked_is_checked_here(scene: Scene) -> None:
    with pytest.raises(PayloadError, match="'to'"):
        scene.enqueue(payload={})
    assert scene.stored == []


def test_what_an_sdk_has_checked_against_this_very_signature_is_not_read_again(scene: Scene) -> None:
    scene.enqueue(payload={"anything": 1}, signature="s1")
    assert "key" not in scene.stored[0]


def test_what_an_sdk_has_checked_against_another_signature_is_checked(scene: Scene) -> None:
    with pytest.raises(PayloadError):
        scene.enqueue(payload={"anything": 1}, signature="s0")


def test_the_workflows_key_is_rendered_with_its_defaults(scene: Scene) -> None:
    scene.enqueue()
    assert scene.stored[0]["key"] == "to:ada:en"


def test_a_check_refuses_what_an_enqueue_would_refuse_and_stores_nothing(scene: Scene) -> None:
    async def check(**fields: Any) -> Any:
        return await scene.admission.check([new(**fields)], None)

    assert asyncio.run(check()) == [{"id": "1", "is_new": True}]
    scene.gate.refusal = WorkerUnhealthy("worker unhealthy: …")
    with pytest.raises(WorkerUnhealthy):
        asyncio.run(check())
    assert scene.stored == []
    assert scene.hurried == []


def test_a_draining_engine_takes_nothing(scene: Scene) -> None:
    scene.admission.closed = "workflow runtime is draining"
    with pytest.raises(EnqueueError, match=r"^workflow runtime is draining$"):
        scene.enqueue()


@pytest.mark.parametrize(
    "runs",
    [None, [], {}, [1], [{}], [new(id=1)], [new(workflow=None)], [new(priority="high")], [new(priority=True)],
     [new(payload_json={})]],
)  # fmt: skip
def test_runs_of_a_wrong_shape_are_refused(runs: object) -> None:
    with pytest.raises(InvalidRequest):
        check_new_runs(runs)


def test_a_payload_over_the_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(PayloadError, match="1,048,576"):
        check_new_runs([new(payload_json="x" * 1_048_577)])
