"""Protocol v0's commands, by a client and a worker that know nothing else."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.host.running import RunningHost


def enqueue(v0: RunningHost, name: str, payload: Any = None, **options: Any) -> str:
    run_id: str = v0.ok("enqueue_run", name=name, payload=payload, opts=options)["id"]
    return run_id


def test_a_v0_run_is_enqueued_claimed_stepped_and_completed(v0: RunningHost) -> None:
    reply = v0.ok("enqueue_run", name="greet", payload={"name": "Ada"}, opts={})
    assert reply["deduplicated"] is False
    run = v0.ended(reply["id"])
    assert run["attempt"] == 1

    steps = v0.ok("get_run", id=reply["id"], **{"with": ["steps"]})["steps"]
    assert [(step["name"], json.loads(step["result_json"])) for step in steps] == [("text", "Hello Ada")]


def test_a_unique_key_gives_the_run_that_is_there(v0: RunningHost) -> None:
    first = v0.ok("enqueue_run", name="waits", payload=None, opts={"unique_key": "k"})
    second = v0.ok("enqueue_run", name="waits", payload=None, opts={"unique_key": "k"})
    assert second == {"id": first["id"], "deduplicated": True}


def test_a_failed_run_is_tried_again_and_then_dead(v0: RunningHost) -> None:
    run = v0.ended(enqueue(v0, "fails", max_attempts=5), status="dead")
    assert run["attempt"] == 2
    assert "no luck" in run["error"]


def test_a_run_may_end_itself(v0: RunningHost) -> None:
    assert v0.ended(enqueue(v0, "gives_up"), status="cancelled")["reason"] == "not needed"


def test_a_deferred_run_waits_for_its_time(v0: RunningHost) -> None:
    v0.ended(enqueue(v0, "greet", {"name": "Ada"}))  # the worker is up
    run_id = enqueue(v0, "defers", False, run_at_ms=v0.host.clock.now_ms() + 3_600_000)
    assert v0.ok("get_run", id=run_id)["status"] == "pending"
    v0.ended(enqueue(v0, "defers", True))


def test_a_signal_wakes_every_run_that_waits_for_it(v0: RunningHost) -> None:
    runs = [enqueue(v0, "waits") for _ in range(2)]

    def both_wait() -> bool:
        return all(v0.ok("get_run", id=run_id)["status"] == "waiting" for run_id in runs)

    v0.until(both_wait, what="both wait")
    assert v0.ok("signal", event_name="approved", payload={"by": "Ada"}) == {"woken": 2}
    for run_id in runs:
        v0.ended(run_id)


def test_a_signal_that_nobody_waits_for_is_kept(v0: RunningHost) -> None:
    assert v0.ok("signal", event_name="approved", payload=1) == {"woken": 0}
    v0.ended(enqueue(v0, "waits"))


@pytest.mark.parametrize(
    ("request_", "begins"),
    [
        ({"command": "enqueue_run", "name": "nothing", "payload": 1, "opts": {}}, "enqueue failed: "),
        ({"command": "claim_run", "worker_id": "w", "names": ["greet"], "lease_ms": 1}, "`claim_run` is for workers"),
        ({"command": "complete_run", "id": "x", "worker_id": "w"}, "`complete_run` is for workers"),
    ],
)
def test_a_refusal_begins_as_v0_says(v0: RunningHost, request_: dict[str, Any], begins: str) -> None:
    v0.ended(enqueue(v0, "greet", {"name": "Ada"}))
    reply = v0.call(request_.pop("command"), **request_)
    assert reply["status"] == "error"
    assert reply["message"].startswith(begins)


def test_an_unknown_app_is_named(v0: RunningHost) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(v0.host.places.internal_socket))
        connection.sendall(b'{"command":"signal","app":"other"}\n')
        reply = json.loads(connection.makefile("rb").readline())
    assert reply["message"] == "unknown app: other"


def test_schedules_are_registered_as_a_full_set(v0: RunningHost) -> None:
    nightly = {"name": "greet", "cron": "0 3 * * *"}
    assert v0.ok("register_schedules", schedules=[nightly, {"name": "waits", "cron": "*/5 * * * *"}]) == {"count": 2}
    assert v0.ok("register_schedules", schedules=[nightly]) == {"count": 1}
    assert [schedule["spec"] for schedule in v0.ok("list_schedules")["schedules"]] == ["0 3 * * *"]

    reply = v0.call("register_schedules", schedules=[{"name": "greet", "cron": "61 * * * *"}])
    assert reply["message"].startswith("register_schedules failed: invalid cron '61 * * * *' for 'greet': ")
    assert len(v0.ok("list_schedules")["schedules"]) == 1
