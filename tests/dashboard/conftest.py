"""One bookshop and one browser for all tests that look at pages: each starts in a second or two."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.dashboard.bookshop import Bookshop
from tests.support.chromium import Chromium
from tests.support.dev import runtime_folder


@pytest.fixture(scope="package")
def bookshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bookshop]:
    """The app, its engine, and some runs of each kind."""
    folder = tmp_path_factory.mktemp("bookshop")
    shop = Bookshop(folder)
    with shop:
        for order in (1, 2, -3):
            shop.ended(shop.enqueue("sell", order=order))
        yield shop
    shutil.rmtree(runtime_folder(folder), ignore_errors=True)


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """The browser."""
    folder: Path = tmp_path_factory.mktemp("chromium")
    with Chromium(folder) as browser:
        yield browser
