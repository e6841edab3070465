"""How a comparison is told. That it measures, a user sees; here it is that it reads the figures right."""

from __future__ import annotations

import copy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from benchmarks.compare import best_other, joined
from benchmarks.subjects import OTHERS, SYSTEMS

from benchmarks import chart, report


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "date": "2026-01-01",
        "machine": {
            "cores": 2, "system": "Linux", "python": "3.11", "load": 0.1, "calibration_ms": 100.0,
            "calibration_after_ms": 101.0,
        },
        "disk": {"fsync, p50": 0.1, "fsync, p99": 0.4},
        "subjects": {
            "tako": subject(durable=True, figures={"drain, 1 step": [8_000.0, 9_000.0, 7_000.0], "warm, p50": [1.0]}),
            "slow": subject(durable=True, figures={"drain, 1 step": [1_000.0], "warm, p50": [3.0]}),
            "careless": subject(durable=False, figures={"drain, 1 step": [20_000.0]}),
        },
    }  # fmt: skip


def subject(*, durable: bool, figures: dict[str, list[float]]) -> dict[str, Any]:
    return {"version": "1", "store": "a store", "durability": "synced", "durable": durable, "figures": figures}


def test_a_row_has_medians_spread_and_the_ratio_to_the_best_of_those_that_sync(document: dict[str, Any]) -> None:
    lines = report.table(document).splitlines()

    assert (
        "| drain, 1 step, /s | **8,000** (7,000 to 9,000) | **1,000** | **20,000** | 8.00 × slow, 7 wanted |" in lines
    )
    assert "| warm, p50, ms | **1.00** | **3.00** |  | 3.00 × slow |" in lines


def test_who_does_not_sync_says_so_and_is_no_measure(document: dict[str, Any]) -> None:
    assert best_other(document, "drain, 1 step", more_is_better=True, durable=True) == ("slow", 1_000.0)
    assert best_other(document, "drain, 1 step", more_is_better=True, durable=False) == ("careless", 20_000.0)
    assert "- careless 1, a store: synced (not durable against a power cut)" in report.table(document)


def test_what_could_not_be_measured_is_told_and_costs_the_others_nothing(document: dict[str, Any]) -> None:
    document["subjects"]["broken"] = {"figures": {}, "failures": ["no such server\nand why"]}

    lines = report.table(document).splitlines()

    assert "- broken FAILED in a round: no such server" in lines
    assert "| warm, p50, ms | **1.00** | **3.00** |  |  | 3.00 × slow |" in lines
    ElementTree.fromstring(chart.chart(document))


def test_the_chart_has_a_bar_for_each_system_in_each_panel(document: dict[str, Any]) -> None:
    root = ElementTree.fromstring(chart.chart(document))

    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["other", "tako", "durable", "tako", "durable"]
    assert float(bars[0].get("width", "0")) > float(bars[1].get("width", "0")) > float(bars[2].get("width", "0"))


def test_a_comparison_made_in_pieces_has_the_rounds_of_all(document: dict[str, Any]) -> None:
    more = copy.deepcopy(document)
    more["machine"]["load"] = 7.5
    more["subjects"] = {
        "slow": subject(durable=True, figures={"drain, 1 step": [3_000.0]}),
        "late": subject(durable=True, figures={"cold start": [50.0]}),
    }
    found = report.table(joined(document, more))

    assert "**2,000** (1,000 to 3,000)" in found
    assert "| cold start, ms |  |  |  | **50.0** |" in found
    assert "load 0.1 to 7.5 at the start" in found


def test_what_is_possible_is_shown_and_is_no_peer(document: dict[str, Any]) -> None:
    document["subjects"]["floor"] = subject(durable=True, figures={"drain, 1 step": [16_000.0]})

    assert best_other(document, "drain, 1 step", more_is_better=True, durable=True) == ("slow", 1_000.0)
    assert "8.00 × slow, 7 wanted; 0.50 × floor |" in report.table(document)


def test_each_system_has_its_file() -> None:
    assert all((SYSTEMS / f"{system.module}.py").is_file() for system in OTHERS.values())


def test_an_unknown_system_is_refused_with_those_there_are() -> None:
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks", "celary"], cwd=root, capture_output=True, text=True, timeout=60
    )

    assert said.returncode == 2
    assert "unknown: celary. There are: tako, huey" in said.stderr
