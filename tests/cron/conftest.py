from __future__ import annotations

import pytest

from tako.engine.store import Store
from tests.support.clock import FakeClock
from tests.support.engine import Rig


@pytest.fixture
def engine(store: Store, clock: FakeClock) -> Rig:
    return Rig(store, clock)
