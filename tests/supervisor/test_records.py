"""What a refused enqueue is told, what `tako status` is shown, what is stored."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.supervisor.group import START_MS, Group

from tako import errors
from tako.supervisor import events, records
from tako.supervisor.events import Refusal
from tako.supervisor.exits import ExitKind
from tako.supervisor.states import Failure, GroupState, Health

FIELDS = {
    "reason", "exit_code", "signal", "ran_ms", "traceback_tail", "stderr_tail",
    "group", "release", "failures", "since", "retry_after",
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("utc")


def broken() -> Group:
    group = Group()
    failure = Failure(
        words="worker exited with status 1 after 84ms without claiming any runs",
        kind=ExitKind.STATUS,
        at_ms=START_MS,
        release="dev",
        exit_code=1,
        ran_ms=84,
        traceback_tail="ModuleNotFoundError: No module named 'jinja2'\n"
        "  workflows/send_email.py:3  from jinja2 import Environment",
        stderr_tail=("Traceback (most recent call last):", "ModuleNotFoundError: No module named 'jinja2'"),
    )
    group.state = GroupState(
        health=Health.COOLDOWN,
        failures=2,
        until=group.now.mono + 1.9,
        failure=failure,
        since_ms=START_MS,
    )
    return group


def refused(group: Group, refusal: Refusal = Refusal.UNHEALTHY) -> errors.WorkerUnhealthy:
    return records.refused(refusal, group.state, config=group.config, now=group.now)


def test_a_refusal_says_the_founding_notes_sentence_then_cause_place_and_what_comes_next() -> None:
    assert str(refused(broken())) == (
        "worker unhealthy: worker exited with status 1 after 84ms without claiming any runs\n"
        "  ModuleNotFoundError: No module named 'jinja2'\n"
        "    workflows/send_email.py:3  from jinja2 import Environment\n"
        '  group "default", 2 failed starts since 22:13:20, next start in 2s; nothing was enqueued'
    )


def test_a_refusal_without_a_traceback_shows_what_the_worker_said_last() -> None:
    group = broken()
    assert group.state.failure is not None
    said = ("importing", "", 'two workflows are called "charge":', "  workflows/a.py:3", "  workflows/b.py:9")
    failure = replace(group.state.failure, traceback_tail=None, stderr_tail=said, exit_code=78)
    group.state = replace(group.state, failure=failure)

    assert str(refused(group)).splitlines()[1:4] == [
        '  two workflows are called "charge":',
        "    workflows/a.py:3",
        "    workflows/b.py:9",
    ]


def test_a_refusal_carries_every_field_and_they_survive_the_wire() -> None:
    error = refused(broken())
    reply = json.loads(json.dumps({"code": error.code, "message": str(error), "detail": error.detail}))

    arrived = errors.from_reply(reply)

    assert isinstance(arrived, errors.WorkerUnhealthy)
    assert set(arrived.detail) == FIELDS
    assert arrived.reason == "worker exited with status 1 after 84ms without claiming any runs"
    assert (arrived.exit_code, arrived.ran_ms, arrived.failures, arrived.retry_after) == (1, 84, 2, 2)
    assert str(arrived) == str(error)


def test_a_refusal_while_a_worker_is_tried_says_since_when_and_the_last_failure() -> None:
    group = broken()
    group.state = replace(group.state, until=None)
    group.enqueue()
    group.boot()
    group.now = replace(group.now, mono=group.now.mono + 4, unix_ms=group.now.unix_ms + 4000)

    error = refused(group, Refusal.STARTING)

    assert str(error).splitlines()[0] == (
        "worker unhealthy: worker has been starting since 22:13:20; last failure: "
        "worker exited with status 1 after 84ms without claiming any runs"
    )
    assert str(error).endswith("2 failed starts since 22:13:20, a start is being tried; nothing was enqueued")
    assert error.retry_after == 1


def test_a_refusal_of_a_stopped_group_says_so_and_blames_no_worker() -> None:
    group = broken()
    group.do(events.Shutdown(timeout_s=1))

    error = refused(group, Refusal.STOPPED)

    assert str(error) == (
        'worker unhealthy: workers are stopped\n  group "default" is shutting down; nothing was enqueued'
    )
    assert set(error.detail) == FIELDS
    assert error.retry_after is None


def test_a_refusal_of_a_paused_group_names_the_command_that_ends_the_pause() -> None:
    group = broken()
    group.do(events.Shutdown(timeout_s=1, paused=True))

    assert str(refused(group, Refusal.STOPPED)) == (
        "worker unhealthy: workers are paused\n"
        '  group "default" is paused (`tako workflows resume --group default`); nothing was enqueued'
    )


def test_a_group_is_shown_with_its_workers_and_its_reason() -> None:
    group = broken()
    group.state = replace(group.state, failures=11)
    group.queue(1)
    group.advance(2)
    slot = group.boot()

    shown = records.shown(
        group.state, config=group.config, now=group.now, pids={slot.id: 42}, since_ms={slot.id: START_MS}
    )

    assert (shown["state"], shown["failing"], shown["failures"]) == ("probing", True, 11)
    assert shown["reason"] == "worker exited with status 1 after 84ms without claiming any runs"
    assert shown["workers"] == [
        {
            "id": slot.id, "pid": 42, "state": "booting", "why": None,
            "since_ms": START_MS, "in_flight": 0, "solo": False,
        }
    ]  # fmt: skip
    json.dumps(shown)


def test_a_healthy_groups_record_starts_the_next_engine_unproven() -> None:
    group = Group()
    group.active()

    assert records.restored(records.stored(group.state, now=group.now)) == GroupState()
    assert records.restored(None) == GroupState()


def test_a_record_is_plain_json_and_tells_when_the_next_start_is_due() -> None:
    group = broken()

    record = json.loads(json.dumps(records.stored(group.state, now=group.now)))

    assert record["retry_at_ms"] == START_MS + 1900
    assert records.restored(record).failure == group.state.failure
