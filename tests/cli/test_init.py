from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.support.cli import Cli

from tako.cli import templates
from tako.config import load

APPS = {
    "fastapi": ("app.py", "from fastapi import FastAPI\n\napi = FastAPI()\n", "app:api"),
    "flask": ("wsgi.py", "import flask\n\napp: flask.Flask = flask.Flask(__name__)\n", "wsgi:app"),
    "starlette": (
        "main.py",
        "from starlette.applications import Starlette\n\napp = Starlette(routes=[])\n",
        "main:app",
    ),
    "django": ("manage.py", "import os\n\ndef main():\n    from django.core.management import x\n", "manage.py"),
}


def test_an_empty_folder_gets_settings_a_workflow_with_two_steps_and_a_test(cli: Cli) -> None:
    said = cli("init")

    assert said.code == 0
    for path in (templates.CONFIG, templates.PACKAGE, templates.WORKFLOW, templates.TEST):
        assert (cli.folder / path).exists()
        assert f"Wrote {path}" in said.err
    assert (cli.folder / templates.WORKFLOW).read_text().count("ctx.step(") == 2
    assert "tako dev" in said.err
    assert "tako enqueue hello name=Ada" in said.err


def test_what_is_written_can_be_used_as_it_is(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My Shop!"
    folder.mkdir()
    monkeypatch.chdir(folder)

    cli("init")

    assert load.load(folder).name == "my-shop"
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text())


def test_nothing_is_ever_overwritten(cli: Cli) -> None:
    cli("init")
    for path in (templates.CONFIG, templates.WORKFLOW, templates.TEST):
        (cli.folder / path).write_text("# mine\n")

    said = cli("init")

    assert said.code == 0
    for path in (templates.CONFIG, templates.WORKFLOW, templates.TEST):
        assert (cli.folder / path).read_text() == "# mine\n"
        assert f"Kept {path}" in said.err
    assert "Wrote" not in said.err


def test_a_file_that_is_a_dangling_link_is_not_written_through(cli: Cli) -> None:
    (cli.folder / "tako.toml").symlink_to(cli.folder / "elsewhere.toml")

    cli("init")

    assert not (cli.folder / "elsewhere.toml").exists()


def test_a_folder_that_has_workflows_gets_no_example(cli: Cli) -> None:
    (cli.folder / "workflows").mkdir()
    (cli.folder / "workflows" / "mail.py").write_text("x = 1\n")

    cli("init")

    assert (cli.folder / templates.CONFIG).exists()
    assert (cli.folder / templates.PACKAGE).exists()
    assert not (cli.folder / templates.WORKFLOW).exists()
    assert not (cli.folder / templates.TEST).exists()


@pytest.mark.parametrize("name", list(APPS))
def test_each_framework_is_recognised_and_its_next_step_named(cli: Cli, name: str) -> None:
    file, text, target = APPS[name]
    (cli.folder / file).write_text(text)

    said = cli("init")
    workflow = (cli.folder / templates.WORKFLOW).read_text()

    assert target in said.err
    assert f"tako.contrib.{'asgi' if name in ('fastapi', 'starlette') else name}" in said.err
    assert ("async def hello" in workflow) is (name in ("fastapi", "starlette"))
    assert "await" not in workflow or name in ("fastapi", "starlette")


def test_with_json_it_tells_what_was_written_and_found(cli: Cli) -> None:
    (cli.folder / "app.py").write_text(APPS["fastapi"][1])

    said = cli("init", "--json")

    assert said.json == {
        "written": ["tako.toml", "workflows/__init__.py", "workflows/hello.py", "tests/test_workflows.py"],
        "kept": [],
        "framework": "fastapi",
        "target": "app:api",
    }
