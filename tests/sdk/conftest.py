from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tako.protocol.env import ProcessEnvironment
from tako.sdk import runtime
from tako.sdk import workflow as workflows
from tako.sdk.engine import RemoteEngine
from tests.support.fake_engine import FakeEngine


@pytest.fixture(autouse=True)
def _no_workflows_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "_declared", {})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """An engine that answers from a script, on a real socket; `tako` talks to it."""
    with FakeEngine(tmp_path) as engine:
        engine.answers["enqueue_runs"] = lambda message: {
            "runs": [{"id": run["id"], "is_new": True} for run in message["runs"]]
        }
        remote = RemoteEngine(str(engine.socket), engine.app, "t0ken")
        environment = ProcessEnvironment(
            app=engine.app, socket=str(engine.socket), environment="development", release="dev", data_dir="/data"
        )
        before = runtime.install(remote, environment=environment, secrets={"STRIPE_KEY": "sk_live_123", "PIN": "12"})
        yield engine
        runtime.restore(before)
        remote.close()
