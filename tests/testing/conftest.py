from __future__ import annotations

import pytest

from tako.sdk import startup
from tako.sdk import workflow as workflows


@pytest.fixture(autouse=True)
def _nothing_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "_declared", {})
    monkeypatch.setattr(startup, "hooks", [])
