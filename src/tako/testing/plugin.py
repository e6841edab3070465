"""The pytest plug-in: the fixtures `engine` and `tako_engine`, and what a project's code needs while it is collected.

pytest loads this in every project of an environment that has Tako: it imports nothing of Tako until there is a use.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tako.testing.engine import Engine

_ENGINE = pytest.StashKey["Engine"]()
_UNDO = pytest.StashKey[list[Any]]()
_ROOTS = pytest.StashKey[set[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One setting: secrets, which code may want as soon as it is imported."""
    parser.addini(
        "tako_secrets",
        "secrets that tests see through tako.secrets, as NAME=value, one a line; never real ones",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let test modules import the project's workflows: its root on sys.path, its [vars], its tests' secrets."""
    undo: list[Any] = []
    config.stash[_UNDO] = undo
    config.stash[_ROOTS] = set()
    _prepare(config, config.invocation_params.dir)
    secrets = _secrets(config)
    if secrets:
        from tako.sdk import runtime

        before = runtime.install(None, secrets=secrets)
        undo.append(lambda: runtime.restore(before))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """The same for an app in a folder below, before a test module of it is imported."""
    if file_path.suffix == ".py":
        _prepare(parent.config, file_path.parent)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Put back what `pytest_configure` changed."""
    undo = config.stash.get(_UNDO, [])
    while undo:
        undo.pop()()


@pytest.fixture
def tako_secrets(pytestconfig: pytest.Config) -> dict[str, str]:
    """The secrets of a test: the setting `tako_secrets`. Override it to make others."""
    return _secrets(pytestconfig)


@pytest.fixture
def tako_engine(request: pytest.FixtureRequest, tako_secrets: dict[str, str]) -> Iterator[Engine]:
    """An engine in process, on a fake clock. See `tako.testing.Engine`."""
    from tako.testing.engine import Engine

    root = _nearest(request.path.parent, request.config.rootpath)
    engine = Engine(root, secrets=tako_secrets)
    engine.start()
    request.node.stash[_ENGINE] = engine
    yield engine
    engine.close()


@pytest.fixture
def engine(tako_engine: Engine) -> Engine:
    """As `tako_engine`, for projects that have no fixture of this name."""
    return tako_engine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A fault that was planned and never came fails the test: here, so that it is a failure and not an error."""
    result = yield
    engine = item.stash.get(_ENGINE, None)
    if engine is not None:
        engine.check_faults()
    return result


def _nearest(start: Path, top: Path) -> Path | None:
    # Told apart without importing anything of ours, since most projects are none.
    folders = [start, *start.parents]
    if not any((folder / mark).exists() for folder in folders for mark in ("tako.toml", "workflows")):
        return None
    from tako.testing import project

    return project.root_of(start, top=top)


def _prepare(config: pytest.Config, folder: Path) -> None:
    """Put the root of the project around a folder on sys.path, and its [vars] into the environment; once."""
    root = _nearest(folder, config.rootpath)
    if root is None or root in config.stash[_ROOTS]:
        return
    config.stash[_ROOTS].add(root)
    from tako.config import load
    from tako.errors import ConfigError
    from tako.testing import project

    try:
        loaded = load.load(root)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from error
    project.put_first(loaded.root)
    for name, value in loaded.variables("test").items():
        # What is set already stays: whoever set a DATABASE_URL for tests must not get the one of development.
        if name not in os.environ:
            os.environ[name] = value
            config.stash[_UNDO].append(lambda name=name: os.environ.pop(name, None))


def _secrets(config: pytest.Config) -> dict[str, str]:
    found = {}
    for line in config.getini("tako_secrets"):
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise pytest.UsageError(f"tako_secrets: expected lines such as NAME=value, found {line!r}")
        found[name.strip()] = value.strip()
    return found
