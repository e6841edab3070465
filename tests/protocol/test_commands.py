"""Every command of SPEC.md section 3 is answered by the daemon, and every command of the daemon stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest

from tako.host import handlers, v0, workers
from tako.protocol.messages import Enqueued, Hello, HelloData
from tako.rpc.request import REPEATABLE

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text()
ANSWERED = handlers.commands(cast(Any, object()))


def section(heading: str) -> str:
    start = SPEC.index(f"### {heading}")
    end = re.compile(r"^##+ ", re.MULTILINE).search(SPEC, start + 4)
    return SPEC[start : end.start() if end else len(SPEC)]


def commands_of(heading: str) -> list[str]:
    """The first column of the section's table, in which a cell may name two that belong together."""
    cells = re.findall(r"^\| (`[^|]+`) \|", section(heading), re.MULTILINE)
    assert cells, heading
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell) if name != "command"]


APPS, WORKERS, V0 = commands_of("Apps, tools"), commands_of("Workers"), commands_of("v0")


@pytest.mark.parametrize("command", sorted({*APPS, *WORKERS, *V0}))
def test_every_command_of_the_specification_is_answered(command: str) -> None:
    assert callable(ANSWERED[command])


def test_every_command_that_is_answered_stands_in_the_specification() -> None:
    assert set(ANSWERED) == {*APPS, *WORKERS, *V0}


def test_what_the_specification_gives_to_workers_is_refused_to_apps() -> None:
    shared = {"enqueue_run", "register_schedules", "signal"}  # v0: an app's, and workers may use them

    assert {*WORKERS, *V0} - shared == handlers.WORKER_COMMANDS
    assert set(workers.COMMANDS) == set(WORKERS)
    assert set(v0.WORKER_COMMANDS) == set(V0) - shared - set(WORKERS)  # `save_step` serves both


def test_what_clients_repeat_is_for_apps() -> None:
    assert set(APPS) >= REPEATABLE


@pytest.mark.parametrize(
    ("command", "shape", "column"), [("enqueue_runs", Enqueued, 3), ("hello", HelloData, 3), ("hello", Hello, 2)]
)
def test_the_fields_of_a_shape_stand_in_its_row(command: str, shape: Any, column: int) -> None:
    row = next(line for line in SPEC.splitlines() if line.startswith(f"| `{command}` |"))
    common = {"command", "app", "token", "protocol", "sdk", "request"}

    missing = [field for field in shape.__annotations__ if field not in row.split(" | ")[column - 1]]

    assert not set(missing) - common
