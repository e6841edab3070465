from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.engine import Engine, WorkerProcess

Start = Callable[..., WorkerProcess]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path) as engine:
        yield engine


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "workflows").mkdir(parents=True)
    (root / "workflows/__init__.py").write_text("")
    return root


@pytest.fixture
def start(app: Path, engine: Engine) -> Iterator[Start]:
    """Write workflow files and start a worker on them: start("…code…") or start({"workflows/a.py": "…"})."""
    started: list[WorkerProcess] = []

    def run(code: str | dict[str, str], **options: Any) -> WorkerProcess:
        files = {"workflows/flows.py": code} if isinstance(code, str) else code
        for path, text in files.items():
            (app / path).parent.mkdir(parents=True, exist_ok=True)
            (app / path).write_text(textwrap.dedent(text))
        worker = WorkerProcess(app, engine, **options)
        started.append(worker)
        return worker

    yield run
    for worker in started:
        worker.stop()
