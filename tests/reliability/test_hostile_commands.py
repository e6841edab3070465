"""Every command of the socket, with fields that no client of ours would send: a live engine, in a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from reliability.hostile import siege
from reliability.hostile.engine import Engine
from reliability.hostile.messages import FIELDS, LEFT_OUT

from tako.protocol import ids
from tests.protocol.test_commands import ANSWERED


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("h")) as engine:
        yield engine


def run(engine: Engine, workflow: str, **arguments: Any) -> dict[str, Any]:
    """Enqueue, and wait for the end."""
    new = {"id": ids.uuid7(), "workflow": workflow, "payload_json": json.dumps(arguments)}
    with siege.Client(engine.socket, timeout_s=60) as client:
        client.call("enqueue_runs", runs=[new])
        found: dict[str, Any] = client.call("wait_run", id=new["id"], timeout_ms=50_000)
    return found


def test_every_command_is_attacked() -> None:
    assert set(FIELDS) | LEFT_OUT == set(ANSWERED)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_field_holds_the_reply_is_one_of_ours_and_nobody_else_waits(engine: Engine, seed: int) -> None:
    with siege.Others(engine.socket) as others:
        report = siege.fire(engine, seed=seed, count=1_000)

    assert report.codes["ok"] > 50
    assert not others.failures
    assert others.percentile_ms(0.5) < 10
    assert siege.traces(engine) == []


def test_a_run_that_logs_prints_and_fails_with_half_a_surrogate_pair_ends_as_any_other(engine: Engine) -> None:
    assert run(engine, "halves", where="nowhere")["status"] == "succeeded"
    assert run(engine, "halves", where="result")["status"] == "succeeded"
    assert run(engine, "halves", where="error")["error"] == "ValueError: caf\\udce9"
    assert run(engine, "halves", where="stop")["reason"] == "caf\\ud800"
