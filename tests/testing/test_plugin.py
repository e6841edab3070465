"""The plug-in in a pytest of its own, in a fresh folder, as users have it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tako.cli import templates


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def write(project: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(textwrap.dedent(text))


def run_pytest(folder: Path, *arguments: str, command: tuple[str, ...] = ("-m", "pytest")) -> str:
    """What pytest printed, its exit code in front."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, *command, "-q", "-p", "no:cacheprovider", "-W", "error", *arguments],
        cwd=folder,
        env=clean | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return f"exit {done.returncode}\n{done.stdout}{done.stderr}"


# As the command `pytest`, which does not put the folder on sys.path.
BARE = ("-c", "import sys, pytest; sys.path.remove(''); sys.exit(pytest.main(sys.argv[1:]))")

GREET = """
    from tako import Context, secrets, workflow

    @workflow
    def greet(ctx: Context, name: str) -> str:
        return ctx.step("write", lambda: f"Hello, {name}!")
"""


@pytest.mark.parametrize("is_sync", [True, False])
@pytest.mark.parametrize("command", [("-m", "pytest"), BARE])
def test_the_test_that_tako_init_writes_passes_in_a_fresh_folder(
    project: Path, is_sync: bool, command: tuple[str, ...]
) -> None:
    for path, text in templates.files(name="shop", is_sync=is_sync).items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)

    said = run_pytest(project, command=command)

    assert "2 passed" in said


def test_a_project_without_tako_toml_will_do_and_runs_are_enqueued_by_name(project: Path) -> None:
    write(
        project,
        {
            "workflows/greet.py": GREET,
            "test_it.py": """
            import tako

            def test_by_name(tako_engine):
                assert tako.enqueue("greet", {"name": "Ada"}).result() == "Hello, Ada!"
        """,
        },
    )

    assert "1 passed" in run_pytest(project)


def test_a_project_with_an_engine_of_its_own_has_the_second_name(project: Path) -> None:
    write(
        project,
        {
            "workflows/greet.py": GREET,
            "conftest.py": """
            import pytest

            @pytest.fixture
            def engine():
                return "a database"
        """,
            "test_it.py": """
            from workflows.greet import greet

            def test_both(engine, tako_engine):
                assert engine == "a database"
                assert greet.enqueue(name="Ada").result() == "Hello, Ada!"
        """,
        },
    )

    assert "1 passed" in run_pytest(project)


def test_a_fault_that_is_never_reached_fails_the_test(project: Path) -> None:
    write(
        project,
        {
            "workflows/greet.py": GREET,
            "test_it.py": """
            from workflows.greet import greet

            def test_crash(engine):
                engine.crash(after="right")
                greet.enqueue(name="Ada")
                engine.drain()

            def test_fail_in_a_block(engine):
                with engine.fail(step="write", workflow="other"):
                    greet.enqueue(name="Ada").result()
        """,
        },
    )

    said = run_pytest(project)

    assert "2 failed" in said
    assert "error" not in said.splitlines()[-1]
    assert "engine.crash(after='right') was never reached. Steps that were executed: 'write'." in said


def test_vars_and_secrets_are_there_when_modules_are_imported_and_what_is_set_stays(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "of the test machine")
    write(
        project,
        {
            "tako.toml": """
            name = "shop"

            [vars]
            DATABASE_URL = "of development"
            GREETING = "Hello"
        """,
            "pytest.ini": """
            [pytest]
            tako_secrets =
                API_KEY=not a real one
        """,
            "workflows/greet.py": """
            import os
            from tako import Context, current, secrets, workflow

            KEY, GREETING = secrets["API_KEY"], os.environ["GREETING"]

            @workflow
            def greet(ctx: Context) -> list[str]:
                return [KEY, secrets["API_KEY"], GREETING, os.environ["DATABASE_URL"], current.app]
        """,
            "tests/test_it.py": """
            import pytest
            from tako import secrets
            from workflows.greet import greet

            def test_them(engine):
                assert greet.enqueue().result() == [
                    "not a real one", "not a real one", "Hello", "of the test machine", "shop"
                ]

            class TestOthers:
                @pytest.fixture
                def tako_secrets(self):
                    return {"API_KEY": "another"}

                def test_secrets_may_be_others(self, engine):
                    assert secrets["API_KEY"] == "another"
        """,
        },
    )

    assert "2 passed" in run_pytest(project)


def test_a_workflow_file_that_cannot_be_imported_fails_every_test_that_asks_for_the_engine(project: Path) -> None:
    write(
        project,
        {
            "workflows/greet.py": GREET,
            "workflows/broken.py": "import nonesuch\nfrom tako import workflow\n\n@workflow\ndef f(ctx): ...\n",
            "test_it.py": "def test_it(engine): ...\n",
        },
    )

    said = run_pytest(project)

    assert "ModuleNotFoundError: No module named 'nonesuch'" in said
    assert "1 error" in said


def test_two_workflows_of_one_name_are_an_error_as_in_dev(project: Path) -> None:
    write(project, {"workflows/a.py": GREET, "workflows/b.py": GREET, "test_it.py": "def test_it(engine): ...\n"})

    assert "two workflows are named 'greet': workflows/a.py:5 and workflows/b.py:5" in run_pytest(project)


def test_an_app_in_a_folder_below_is_found_from_its_tests(project: Path) -> None:
    write(
        project,
        {
            "pytest.ini": "[pytest]\n",
            "apps/shop/tako.toml": 'name = "the-shop"\n',
            "apps/shop/workflows/greet.py": GREET,
            "apps/shop/tests/test_it.py": """
            import tako

            def test_it(engine):
                assert tako.current.app == "the-shop"
                assert tako.enqueue("greet", {"name": "Ada"}).result() == "Hello, Ada!"
        """,
        },
    )

    assert "1 passed" in run_pytest(project)
    assert "1 passed" in run_pytest(project / "apps/shop")


def test_a_broken_tako_toml_is_said_in_one_sentence(project: Path) -> None:
    write(project, {"tako.toml": "nmae = 'x'\n", "test_it.py": "def test_it(): ...\n"})

    said = run_pytest(project)

    assert "tako.toml:1" in said
    assert "Traceback" not in said


def test_a_project_that_is_none_of_ours_loads_nothing_of_ours(project: Path) -> None:
    write(
        project,
        {
            "test_it.py": """
            import sys

            def test_it():
                assert {name for name in sys.modules if name.startswith("tako.")} <= {
                    "tako.testing", "tako.testing.plugin"
                }
        """,
        },
    )

    assert "1 passed" in run_pytest(project)


def test_what_the_worker_logged_is_shown_when_a_test_fails(project: Path) -> None:
    write(
        project,
        {
            "workflows/greet.py": GREET.replace("return ctx.step", "raise ValueError(name)\n        return ctx.step"),
            "test_it.py": """
            from workflows.greet import greet

            def test_it(engine):
                run = greet.enqueue(name="Ada")
                engine.drain()
                assert run.status() == "succeeded"
        """,
        },
    )

    said = run_pytest(project)

    assert "ValueError: Ada" in said
    assert "workflows/greet.py" in said


def test_a_unittest_uses_the_engine_as_a_block(project: Path) -> None:
    write(
        project,
        {
            "workflows/greet.py": GREET,
            "tests/__init__.py": "",
            "tests/test_it.py": """
            import unittest
            from tako.testing import Engine
            from workflows.greet import greet

            class GreetTest(unittest.TestCase):
                def setUp(self):
                    self.engine = self.enterContext(Engine("."))

                def test_it(self):
                    self.assertEqual(greet.enqueue(name="Ada").result(), "Hello, Ada!")
        """,
        },
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "discover", "-t", ".", "tests"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "OK" in done.stderr, done.stderr
