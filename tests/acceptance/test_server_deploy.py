"""Deploys to a real `tako-server` with load running: what serves, what is refused, and that nobody notices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.load import Load
from tests.support.server import Server, failed, phases_of
from tests.support.shop import shop

BROKEN = "from tako import workflow\n\nimport jinja3\n\n\n@workflow\ndef broken(ctx):\n    pass\n"

pytestmark = pytest.mark.acceptance


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        yield running


def test_a_second_release_takes_over_under_load_and_no_request_fails(server: Server, tmp_path: Path) -> None:
    with server.client() as client:
        events = client.deploy("shop", shop(tmp_path, "r1"), "r1")
        assert phases_of(events) == [
            "upload", "stage", "build", "release", "gate", "boot", "health", "switch", "watch", "drain", "workers",
            "prune",
        ]  # fmt: skip

        with Load(server.port) as load:
            load.more()
            client.deploy("shop", shop(tmp_path, "r2"), "r2")
            load.until_answered_by("r2")

        assert load.report.failed == []
        assert set(load.report.answered) == {"r1", "r2"}
        assert server.status()["release"] == "r2"


def test_a_release_with_a_typo_in_a_workflow_is_refused_with_file_line_and_traceback(
    server: Server, tmp_path: Path
) -> None:
    with server.client() as client:
        client.deploy("shop", shop(tmp_path, "r1"), "r1")
        broken = shop(tmp_path, "r2", files={"workflows/broken.py": BROKEN})

        with Load(server.port) as load:
            events = client.deploy("shop", broken, "r2", outcome="failed")
            load.more()

        found = failed(events)
        assert found["phase"] == "gate"
        assert found["code"] == "deploy_refused"
        assert (found["detail"]["file"], found["detail"]["line"]) == ("workflows/broken.py", 3)
        assert "No module named 'jinja3'" in found["message"]
        assert "Traceback" in "\n".join(found["detail"]["lines"])
        assert load.report.failed == []
        assert set(load.report.answered) == {"r1"}
        assert client.ask("releases", app="shop", env="production")["current"] == "r1"


def test_workflows_run_with_the_release_that_is_active(server: Server, tmp_path: Path) -> None:
    with server.client() as client:
        client.deploy("shop", shop(tmp_path, "r1"), "r1")
        first = server.get("/enqueue").text
        with server.engine() as engine:
            assert engine.ask("wait_run", id=first, timeout_ms=30_000)["result_json"] == '"r1"'

        client.deploy("shop", shop(tmp_path, "r2"), "r2")

        second = server.get("/enqueue").text
        with server.engine() as engine:
            assert engine.ask("wait_run", id=second, timeout_ms=30_000)["result_json"] == '"r2"'
