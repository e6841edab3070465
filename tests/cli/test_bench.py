"""`tako bench` on a real engine, so small that it is over in seconds."""

from __future__ import annotations

import pytest
from tests.support.cli import Cli

from tako.bench import table
from tako.cli.commands.bench import WORKLOADS

pytestmark = pytest.mark.acceptance


def test_every_workload_is_measured_on_an_engine_and_a_store_of_its_own(cli: Cli) -> None:
    said = cli("bench", "--quick", "--json")

    figures = said.json["figures"]
    assert said.code == 0, said.err
    assert {name.split(",")[0].split(" ")[0] for name in figures} >= {"fsync", "enqueue", "drain", "warm", "cold"}
    assert all(value > 0 for found in figures.values() for value in found)
    assert said.json["durability"] == "full"
    assert said.json["machine"]["calibration_ms"] > 0
    assert not list(cli.folder.iterdir()), "nothing is left in the folder it was started in"
    assert all(words.endswith("…") for _, words, _ in WORKLOADS)


def test_a_figure_is_shown_with_its_unit_and_what_the_rounds_lay_between() -> None:
    rows = table.rows({"enqueue, 1 caller": [4_000.4, 3_900.0, 4_100.0], "warm, p50": [0.912]})

    assert rows == [
        ["enqueue, 1 caller", "4,000 /s", "3,900 to 4,100"],
        ["warm, p50", "0.91 ms", "0.91 to 0.91"],
    ]
    assert table.is_rate("drain, 1 step")
    assert not table.is_rate("cold start")
