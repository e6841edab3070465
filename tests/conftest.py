"""What every test may ask for. A fixture that one room alone needs stands in that room's conftest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tako.engine.store import Store
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.memory()
    yield store
    store.close()
