"""What every test may ask for, and in which company it runs. What one room alone needs stands in that room's conftest.

`scripts/test` runs the files of tests side by side, a file always in one process (pytest-xdist). A test that is marked
`alone` measures time, or takes the whole machine: it waits until the tests that run have ended, and the others wait for
it. Waiting is not part of a test's time. Such a test has a file of its own, which comes last: in the middle of a run it
would hold up everybody until the longest of those that run has ended.
"""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tako.engine.store import Store
from tests.support.box import tell_what_was_left_out, why_no_box
from tests.support.clock import FakeClock

# The longest first, so that no process is left with them at the end; then the rooms; what runs alone comes last.
_LONGEST = (
    "tests/reliability/test_simulation",
    "tests/acceptance/test_deploy_box",
    "tests/reliability/test_powercut",
    "tests/acceptance/",
    "tests/reliability/",
)


# How long an example takes says nothing on a machine that does other things, too.
settings.register_profile("tako", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tako")

# A shell starts what stands before `&` with Ctrl-C ignored, and all that it starts inherits that. Tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.memory()
    yield store
    store.close()


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local times are those of UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# --- side by side, and alone ---


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _is_one_of_several(config):
        items.sort(key=_place)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout's
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with ExitStack() as stack:
        if _is_one_of_several(item.config):
            stack.enter_context(_turn(alone=_is_alone(item)))
        return (yield)


def _is_one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _place(item: pytest.Item) -> tuple[bool, int]:
    ranks = (rank for rank, name in enumerate(_LONGEST) if item.nodeid.startswith(name))
    return _is_alone(item), next(ranks, len(_LONGEST))


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    """Be the only one that runs, or one of many."""
    folder = Path(__file__).parents[1] / "build" / "turns"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        # Who wants to be alone stands in the door until the room is empty: others that keep coming cannot starve it.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Said, and not left to the end of the file: a process that the test left behind may have it open, too.
            fcntl.flock(room, fcntl.LOCK_UN)


# --- what was left out ---


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # The process that only gathers what the others say does not read their conftest.py, which would tell it otherwise.
    if terminalreporter.config.getoption("numprocesses", None):
        tell_what_was_left_out(terminalreporter, why_no_box())
