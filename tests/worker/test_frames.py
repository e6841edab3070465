"""Requests as lines."""

from __future__ import annotations

import json

import pytest

from tako.protocol.framing import MAX_FRAME_BYTES
from tako.worker import frames
from tako.worker.frames import Common, TooLarge


def save(run_id: str, text: str = "1") -> Common:
    return Common("save_step", f'"id":"{run_id}","result_json":{json.dumps(text)}')


def end(run_id: str) -> Common:
    return Common("finish", f'"id":"{run_id}","outcome":"succeeded"')


def lines(*bodies: Common | dict[str, object]) -> list[dict[str, object]]:
    packed = [(number, frames.packed(number, body)) for number, body in enumerate(bodies)]
    return [json.loads(line) for line in frames.lines(packed).splitlines()]


def test_what_is_alone_is_a_line_of_its_own() -> None:
    assert lines(save("a"), end("b"), {"command": "idle"}) == [
        {"request": 0, "command": "save_step", "id": "a", "result_json": "1"},
        {"request": 1, "command": "finish", "id": "b", "outcome": "succeeded"},
        {"request": 2, "command": "idle"},
    ]


def test_saves_and_ends_that_leave_together_are_a_line_each() -> None:
    assert lines(save("a"), {"command": "idle"}, end("b"), save("c"), end("d")) == [
        {
            "requests": [0, 3],
            "command": "save_steps",
            "steps": [{"id": "a", "result_json": "1"}, {"id": "c", "result_json": "1"}],
        },
        {
            "requests": [2, 4],
            "command": "finish_runs",
            "runs": [{"id": "b", "outcome": "succeeded"}, {"id": "d", "outcome": "succeeded"}],
        },
        {"request": 1, "command": "idle"},
    ]


def test_large_results_do_not_make_a_line_that_the_engine_would_not_read() -> None:
    large = "x" * 150_000

    found = lines(*(save(str(n), large) for n in range(20)))

    assert [one["request"] for one in found] == list(range(20))


def test_many_small_ones_are_several_lines_of_64_kib_at_most() -> None:
    bodies = [save(str(n), "x" * 1_000) for n in range(200)]
    packed = [(number, frames.packed(number, body)) for number, body in enumerate(bodies)]

    found = frames.lines(packed).splitlines()

    assert [n for line in found for n in json.loads(line)["requests"]] == list(range(200))
    assert len(found) == 4
    assert all(len(line) < 2 * 65_536 for line in found)


def test_half_of_a_surrogate_pair_goes_out_as_its_escape() -> None:
    packed = [(0, frames.packed(0, Common("save_step", '"result_json":"caf\udce9"')))]

    assert b"caf\\udce9" in frames.lines([*packed, *packed])


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES, 2 * MAX_FRAME_BYTES])
def test_what_the_engine_would_not_read_is_not_packed(size: int) -> None:
    with pytest.raises(TooLarge) as caught:
        frames.packed(0, save("a", "x" * size))

    assert caught.value.size > size
