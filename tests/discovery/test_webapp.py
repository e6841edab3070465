"""The web app of a folder is found without configuration and without importing anything."""

from pathlib import Path

import pytest

from tako.discovery import webapp
from tako.discovery.webapp import WebApp


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def write(root: Path, **files: str) -> None:
    """Write files; "__" in a name is a slash."""
    for name, text in files.items():
        name = name.replace("____init__", "/.").replace("__", "/").replace(".", "__init__")
        path = root / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        if path.parent != root:
            (path.parent / "__init__.py").touch()
        path.write_text(text)


def target(root: Path) -> str | None:
    found = webapp.find(root)
    return found.target if found else None


@pytest.mark.parametrize(
    ("text", "attribute", "framework"),
    [
        ("from fastapi import FastAPI\napp = FastAPI()", "app", "fastapi"),
        ("import fastapi as f\nweb: object = f.FastAPI(title='x')", "web", "fastapi"),
        ("from fastapi import FastAPI\napi = FastAPI()\napp = FastAPI()\napp.mount('/api', api)", "app", "fastapi"),
        ("from starlette.applications import Starlette\nsite = Starlette()", "site", "starlette"),
        ("import starlette.applications\napp = starlette.applications.Starlette()", "app", "starlette"),
        ("from flask import Flask\napplication = Flask(__name__)", "application", "flask"),
        ("from flask import Flask\ndef create_app(config=None):\n  return Flask('x')", "create_app()", "flask"),
        ("from somewhere import build\napp = build()", "app", None),
        ("from .factory import app", "app", None),
        ("async def app(scope, receive, send): ...", "app", None),
        ("def application(environ, start_response): ...", "application", None),
        ("try:\n  from fast import app\nexcept ImportError:\n  app = object()", "app", None),
        ("from django.core.wsgi import get_wsgi_application as f\napplication = f()", "application", "django"),
    ],
)  # fmt: skip
def test_an_app_is_recognised_by_its_framework_or_its_name(
    root: Path, text: str, attribute: str, framework: str | None
) -> None:
    write(root, main=text)

    assert webapp.find(root) == WebApp(f"main:{attribute}", framework=framework, file="main.py")


@pytest.mark.parametrize(
    "text",
    [
        "import typer\napp = typer.Typer()",
        "from celery import Celery\napp = Celery('x')",
        "def app(): ...",
        "app = 'my app'",
        "app = None",
        "def create_app(config): ...",
        "if __name__ == '__main__':\n  app = object()",
        "def f():\n  from flask import Flask\n  app = Flask('x')",
        "from tako import workflow as app",
        "",
    ],
)
def test_what_is_called_app_but_is_none_is_left_alone(root: Path, text: str) -> None:
    write(root, app=text)

    assert webapp.find(root) is None


def test_a_folder_with_workflows_only_has_no_web_app(root: Path) -> None:
    write(root, workflows__app="from fastapi import FastAPI\napp = FastAPI()", tests__app="app = object()")

    assert webapp.find(root) is None
    assert webapp.find(root / "gone") is None


def test_an_app_in_a_file_of_another_name_is_told_of_and_not_served(root: Path) -> None:
    write(root, server="from fastapi import FastAPI\napi = FastAPI()", tools="import flask\napp = object()")

    assert webapp.find(root) is None
    assert webapp.elsewhere(root) == "server:api"
    assert webapp.elsewhere(root / "gone") is None


def test_main_wins_over_all_that_could_be_found(root: Path) -> None:
    write(root, app="app = f()", site__web="from flask import Flask\nserver = Flask('x')")

    assert webapp.find(root, main="site.web:server") == WebApp("site.web:server", framework="flask", file="site/web.py")
    assert webapp.find(root, main="installed:app") == WebApp("installed:app")


def test_files_are_looked_at_in_a_fixed_order_and_an_app_comes_before_a_factory(root: Path) -> None:
    write(root, wsgi="app = f()", main="def create_app(): ...")
    assert target(root) == "wsgi:app"

    write(root, app="application = f()")
    assert target(root) == "app:application"


def test_packages_of_the_folder_are_looked_at_after_its_files(root: Path) -> None:
    write(root, zebra__main="app = f()", shop__asgi="application = f()")
    assert target(root) == "shop.asgi:application"

    write(root, shop____init__="def create_app(): ...")
    assert target(root) == "shop.asgi:application"

    write(root, main="app = f()")
    assert target(root) == "main:app"


def test_a_factory_in_the_init_file_of_a_package_is_found(root: Path) -> None:
    write(root, app____init__="from flask import Flask\ndef create_app(): return Flask('x')")

    assert webapp.find(root) == WebApp("app:create_app()", framework="flask", file="app/__init__.py")


def test_a_file_that_a_package_of_the_same_name_hides_is_not_looked_at(root: Path) -> None:
    write(root, app="app = f()", app__main="api = 1\napp = g()")

    assert target(root) == "app.main:app"


def test_a_file_that_cannot_be_parsed_is_the_app_when_nothing_else_is(root: Path) -> None:
    write(root, main="from fastapi import FastAPI\nweb = FastAPI()\ndef (:\n")
    assert webapp.find(root) == WebApp("main:web", framework="fastapi", file="main.py")

    write(root, asgi="app = f()")
    assert target(root) == "asgi:app"


@pytest.mark.parametrize("text", [b"\x00", b"\xff\xfe", b"(" * 10_000, b"app = f(", b"# coding: nonsense\napp=f()"])
def test_any_bytes_are_survived(root: Path, text: bytes) -> None:
    (root / "app.py").write_bytes(text)

    assert webapp.find(root) == WebApp("app:app", file="app.py")


# Django


MANAGE = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', '{}')\n"


def test_a_django_project_is_found_through_manage_py_and_its_settings(root: Path) -> None:
    write(root, manage=MANAGE.format("site.settings"), site__settings="WSGI_APPLICATION = 'site.web.application'")
    write(root, site__web="application = f()", site__wsgi="application = f()")

    assert webapp.find(root) == WebApp(
        "site.web:application", framework="django", file="manage.py", settings="site.settings"
    )


def test_an_asgi_application_in_the_settings_is_preferred_since_somebody_wrote_it(root: Path) -> None:
    settings = "WSGI_APPLICATION = 'site.wsgi.application'\nASGI_APPLICATION = 'site.asgi.application'"
    write(root, manage=MANAGE.format("site.settings.dev"), site__settings__dev="DEBUG = True")
    write(root, site__settings__base=settings, site__asgi="application = f()", site__wsgi="application = f()")
    (root / "site/__init__.py").touch()

    assert target(root) == "site.asgi:application"


def test_without_a_word_in_the_settings_wsgi_py_beside_them_is_the_app(root: Path) -> None:
    write(root, manage=MANAGE.format("site.settings"), site__settings="", site__asgi="application = f()")
    assert target(root) == "site.asgi:application"

    write(root, site__wsgi="from x import y\napplication = y()")
    assert target(root) == "site.wsgi:application"


def test_a_django_project_without_either_gets_djangos_own(root: Path) -> None:
    write(root, manage=MANAGE.format("site.settings"), site__settings="WSGI_APPLICATION = 'gone.application'")

    assert target(root) == "django.core.wsgi:get_wsgi_application()"


def test_main_of_a_django_project_still_knows_the_settings(root: Path) -> None:
    write(root, manage=MANAGE.format("site.settings"), site__wsgi="application = f()")

    found = webapp.find(root, main="site.wsgi:application")

    assert found is not None
    assert (found.target, found.settings) == ("site.wsgi:application", "site.settings")
