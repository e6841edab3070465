from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tako.contrib import flask as flask_seam
from tako.sdk import startup
from tako.sdk import workflow as workflows

# Projects of their own, for the processes that tests start.
collect_ignore = ["django_project", "django_tasks_project"]
if find_spec("django.tasks") is None:  # Django has it from version 6 on
    collect_ignore.append("test_django_tasks.py")


@pytest.fixture(autouse=True)
def _nothing_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(workflows, "_declared", {})
    monkeypatch.setattr(startup, "hooks", [])
    monkeypatch.setattr(flask_seam, "_app", None)
    before = (list(startup.around_handlers), list(startup.around_steps))
    yield
    # In place: the worker's code has imported the lists themselves.
    startup.around_handlers[:], startup.around_steps[:] = before


@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `tako dev` had started the process."""
    monkeypatch.setattr("tako.testing.engine.ENVIRONMENT", "development")
