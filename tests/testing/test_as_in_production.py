"""What is refused or fails in a test is refused or fails in production, with the same words (loud.md 34)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tako
from tako.protocol.env import ProcessEnvironment
from tako.sdk import runtime
from tako.sdk.engine import RemoteEngine
from tako.testing import Engine
from tests.host.running import RunningHost

FLOWS = """
from decimal import Decimal
from tako import Context, Fatal, workflow

@workflow(max_pending=1)
def keep(ctx: Context, text: str, n: int = 0) -> int:
    return n

@workflow(retries=0)
def hoard(ctx: Context, kind: str) -> object:
    results = {
        "object": lambda: {"items": [1, {"due": object()}]},
        "large": lambda: "x" * 1_048_576,
        "nearly": lambda: "x" * 1_048_540,
        "quotes": lambda: '"' * 600_000,
    }
    if kind == "result":
        return {1, 2}
    if kind == "fatal":
        raise Fatal("no such address")
    if kind == "twice":
        ctx.step("a", int)
        ctx.step("a", int)
    return ctx.step("step", results[kind])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "shop"
    (root / "workflows").mkdir(parents=True)
    (root / "workflows/__init__.py").write_text("")
    (root / "workflows/flows.py").write_text(FLOWS)
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    yield root
    for name in ("workflows", "workflows.flows"):
        sys.modules.pop(name, None)


def in_a_test(project: Path, story: Callable[[], str]) -> str:
    with Engine(project):
        return story()


def in_production(project: Path, story: Callable[[], str]) -> str:
    with RunningHost(project) as running:
        host = running.host
        app, socket = host.config.name, str(host.places.internal_socket)
        remote = RemoteEngine(socket, app, None)
        environment = ProcessEnvironment(app=app, socket=socket, environment="x", release="dev", data_dir="")
        before = runtime.install(remote, environment=environment)
        try:
            return story()
        finally:
            runtime.restore(before)
            remote.close()


def refused(name: str, payload: dict[str, Any]) -> Callable[[], str]:
    def story() -> str:
        with pytest.raises(tako.EnqueueError) as error:
            tako.enqueue(name, payload)
        assert list(tako.runs()) == []
        # How long a request is also depends on the names in it that say who sends it.
        return re.sub(r"\d,\d{3},\d{3} bytes", "N bytes", f"{type(error.value).__name__}: {error.value}")

    return story


def nested(depth: int) -> Any:
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("keep", {"text": "x" * 1_048_576}),
        ("keep", {"text": "x" * 1_048_400}),
        ("keep", {"text": '"' * 600_000}),
        ("keep", {}),
        ("keep", {"text": 7}),
        ("keep", {"text": "x", "m": 1}),
        ("keep", {"text": object()}),
        ("keeep", {"text": "x"}),
    ],
    ids=["large", "nearly as large", "large with its escapes", "missing", "type", "unknown", "no JSON", "name"],
)
def test_what_cannot_be_stored_is_refused_alike(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, payload: dict[str, Any]
) -> None:
    # By name, as from an app that has not imported the workflow.
    told = in_a_test(project, lambda: _unimported(monkeypatch, refused(name, payload)))

    assert told == in_production(project, lambda: _unimported(monkeypatch, refused(name, payload)))


def _unimported(monkeypatch: pytest.MonkeyPatch, story: Callable[[], str]) -> str:
    """Run the story as a process that has imported no workflow, though this one has."""
    with monkeypatch.context() as patched:
        patched.setattr("tako.sdk.sending.workflows", SimpleNamespace(declared=dict))
        return story()


@pytest.mark.parametrize("kind", ["object", "large", "nearly", "quotes", "result", "fatal", "twice"])
def test_what_ends_a_run_ends_it_alike(project: Path, kind: str) -> None:
    def story() -> str:
        run = tako.enqueue("hoard", {"kind": kind})
        with pytest.raises(tako.RunFailed) as error:
            run.result()
        return re.sub(rf"{run.id}|{re.escape(str(project))}/|\d,\d{{3}},\d{{3}} bytes", "", str(error.value))

    assert in_a_test(project, story) == in_production(project, story)


def test_a_queue_is_full_alike(project: Path) -> None:
    def story() -> str:
        tako.enqueue("keep", {"text": "x"}, delay="1h")
        with pytest.raises(tako.QueueFull) as error:
            tako.enqueue("keep", {"text": "x"})
        return str(error.value)

    assert in_a_test(project, story) == in_production(project, story)
