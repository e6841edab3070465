"""The examples: their own tests pass, and they run under `tako dev` as their pages say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.dev import Dev, until

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN_TESTS = {
    "fastapi": ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
    "flask": ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
    "django": ["manage.py", "test"],
}


@pytest.fixture
def example(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the example that the test is about."""
    folder = tmp_path / str(request.param)
    shutil.copytree(EXAMPLES / request.param, folder, ignore=shutil.ignore_patterns("__pycache__", ".tako"))
    return folder


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", OWN_TESTS, indirect=True)
def test_the_tests_of_an_example_pass(example: Path) -> None:
    python(example, *OWN_TESTS[example.name])


@pytest.mark.parametrize("example", ["fastapi"], indirect=True)
def test_fastapi_makes_a_report(example: Path) -> None:
    with Dev(example) as dev:
        made = dev.http("/reports/2026-11", {}).json()

        def report() -> Any:
            return dev.http(f"/reports/{made['id']}").json()["report"]

        assert until(report, what="the report is made") == "2026-11: 38 sold"


@pytest.mark.parametrize("example", ["flask"], indirect=True)
def test_flask_sends_to_every_subscriber_with_the_settings_of_its_app(example: Path) -> None:
    with Dev(example) as dev:
        database = example / ".tako/data/newsletter.sqlite3"
        dev.http("/")  # makes the table
        python(
            example, "-c",
            f"import sqlite3; c = sqlite3.connect({str(database)!r}); "
            "c.execute(\"INSERT INTO subscribers VALUES ('ada@example.com')\"); c.commit(); c.close()",
        )  # fmt: skip

        dev.http("/send/news", {})

        dev.wait_for("from news@example.com to ada@example.com: news")


@pytest.mark.parametrize("example", ["django"], indirect=True)
def test_django_ships_what_is_paid(example: Path) -> None:
    python(example, "manage.py", "migrate", "--verbosity=0")
    with Dev(example) as dev:
        order = dev.http("/orders/lamp", {}).json()["order"]
        until(lambda: dev.runs("--status", "waiting"), what="the run waits for its payment")

        dev.http(f"/orders/{order}/pay", {})

        def shipped() -> bool:
            state: str = dev.http(f"/orders/{order}/show").json()["state"]
            return state == "shipped, paid by card"

        until(shipped, what="the order is shipped")


@pytest.mark.parametrize("example", ["django"], indirect=True)
def test_django_refuses_an_order_while_its_workers_cannot_start(example: Path) -> None:
    python(example, "manage.py", "migrate", "--verbosity=0")
    with Dev(example) as dev:
        assert dev.http("/orders/lamp", {}).status == 202
        file = example / "workflows/shipping.py"
        file.write_text(f"import nonesuch\n{file.read_text()}")

        def refused() -> Any:
            answer = dev.http("/orders/lamp", {})
            return answer if answer.status == 503 else None

        answer = until(refused, what="the group is unhealthy")

        assert int(answer.headers["retry-after"]) >= 1
        assert answer.body.startswith("worker unhealthy: worker exited with status 1 after")
        assert "No module named 'nonesuch'" in answer.body
