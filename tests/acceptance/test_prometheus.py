"""A real Prometheus reads a server's `/metrics`, and finds an answer to everything that Grafana's dashboard asks."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.dev import until
from tests.support.prometheus import Prometheus, free_port
from tests.support.server import App, Server

from tako.errors import TakoError

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
GRAFANA = json.loads((ROOT / "grafana/tako.json").read_text())
GUIDE = ROOT / "docs/howto/metrics.md"
NIGHTLY = """
from tako import Context, workflow

@workflow(schedule="0 3 * * *")
def nightly(ctx: Context) -> None: ...
"""
# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "4s", "$app": "shop", "$env": ".*", "$workflow": ".*"}


def asked() -> Iterator[tuple[str, str]]:
    """Each query of each panel, and those that fill the variables' menus."""
    for panel in GRAFANA["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", filled(target["expr"])
    for variable in GRAFANA["templating"]["list"]:
        if variable["type"] == "query":
            menu = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert menu is not None, variable
            yield f"the menu {variable['name']}", f"count by ({menu[2]}) ({filled(menu[1])})"


def filled(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def test_every_panel_of_grafanas_dashboard_has_data_from_a_real_prometheus(tmp_path: Path) -> None:
    port = free_port()
    with Server(tmp_path, f"--metrics=127.0.0.1:{port}") as server, App(server, "shop", tmp_path) as app:
        app.deploy("r1", files={"workflows/nightly.py": NIGHTLY})
        missing = dict(asked())
        with Prometheus(tmp_path, scrapes=port) as prometheus, app.engine() as engine:

            def has_everything() -> bool:
                app.get("/enqueue")
                with suppress(TakoError):
                    engine.ask("enqueue_runs", runs=[{"id": "x", "workflow": "nobody", "payload_json": "{}"}])
                for panel, query in list(missing.items()):
                    if prometheus.query(query):
                        del missing[panel]
                return not missing

            try:
                until(has_everything, what="every panel has data")
            except AssertionError as error:
                raise AssertionError(f"no data for {missing}") from error
            assert prometheus.query('tako_build_info{app="shop",env="production",release="r1"}') == [1]
            assert prometheus.query('sum(tako_runs_ended_total{app="shop",status="succeeded"})')[0] >= 1
            assert prometheus.query('tako_web_instances{app="shop",env="production"}') == [1]

        page = app.client.ask("metrics")["text"]
        checked = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, "")
        told = re.findall(r"`((?:tako|process)_\w+)`", GUIDE.read_text().partition("## What to be woken for")[0])
        assert set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)) == set(told)
