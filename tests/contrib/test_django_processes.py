"""A Django app under a real engine: its workers, and processes that die between their commit and the engine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tako.dev.variables import variables_of
from tests.host.running import RunningHost

PROJECT = Path(__file__).parent / "django_project"

# What a web instance does in a request. The second kind dies where its transaction has committed and nothing is sent.
REQUEST = """
import os, sys
import django
django.setup()
from django.db import transaction
from shop.models import Order
from tako.contrib.django.outbox import Outbox
from workflows.orders import fulfil

if sys.argv[1] == "dies":
    Outbox._committed = lambda *_: os._exit(9)
with transaction.atomic():
    order = Order.objects.create(name="Ada")
    run = fulfil.enqueue(order_id=order.pk)
    print(run.id, flush=True)
"""

# A process that serves: it has nothing to do with the one that died but the database.
SERVE = """
import sys
import django
django.setup()
sys.stdin.read()
"""


class Shop:
    """The project in a folder of its own, migrated, under an engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running = RunningHost(folder)
        self.running.host.variables = variables_of(self.running.host.config)

    def start(self, program: str, *arguments: str, serves: bool = False) -> subprocess.Popen[str]:
        environment = self.running.host.environment_of_children(web={"TAKO_CTL_SOCK": "/nowhere"} if serves else {})
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def query(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "shop.sqlite3")) as database:
            return database.execute(sql).fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", "check_*", "conftest.py"))
    migrate = [sys.executable, "manage.py", "migrate", "--run-syncdb", "--verbosity=0"]
    subprocess.run(migrate, cwd=folder, check=True, timeout=60, env={"PATH": os.environ["PATH"]})
    shop = Shop(folder)
    with shop.running:
        yield shop


def test_workers_import_files_that_use_models_and_a_request_reaches_them(shop: Shop) -> None:
    with shop.start(REQUEST, "lives") as request:
        run_id, _ = request.communicate(timeout=60)

    assert request.returncode == 0
    assert shop.running.ended(run_id.strip())["result_json"] == '"shipped"'
    assert shop.query("SELECT state FROM shop_order") == [("shipped",)]
    assert shop.query("SELECT * FROM tako_outbox") == []


def test_a_process_killed_between_its_commit_and_the_engine_loses_nothing(shop: Shop) -> None:
    with shop.start(REQUEST, "dies") as request:
        run_id, _ = request.communicate(timeout=60)
    assert request.returncode == 9
    assert shop.query("SELECT state FROM shop_order") == [("new",)]
    assert len(shop.query("SELECT * FROM tako_outbox")) == 1
    assert shop.running.call("get_run", id=run_id.strip())["code"] == "run_not_found"

    with shop.start(SERVE, serves=True) as another:
        shop.running.until(lambda: not shop.query("SELECT * FROM tako_outbox"), what="the outbox is swept")
        another.communicate(timeout=60)

    assert shop.running.ended(run_id.strip())["result_json"] == '"shipped"'


def test_settings_that_cannot_be_imported_are_a_failed_start_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/one.py").write_text(
        "from tako import Context, workflow\n\n@workflow\ndef one(ctx: Context): ...\n"
    )
    running = RunningHost(tmp_path)
    running.host.variables = {"DJANGO_SETTINGS_MODULE": "nonesuch.settings"}

    with running:
        run = {"id": "0198c0de-0000-7000-8000-000000000000", "workflow": "one", "payload_json": "{}"}
        refused = running.call("enqueue_runs", runs=[run])

    assert refused["code"] == "worker_unhealthy"
    assert "No module named 'nonesuch'" in refused["message"]
