from __future__ import annotations

from collections.abc import Iterator

import pytest

from tako.contrib import flask as flask_seam
from tako.sdk import startup
from tako.sdk import workflow as workflows

# A project of its own, for the processes that test_django.py starts.
collect_ignore = ["django_project"]


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
