"""Which web framework the folder's app is written in: for the words of `tako init`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework, and what its users do next."""

    name: str
    label: str
    is_sync: bool
    enqueue: str  # how a request handler enqueues
    seam: str  # the line that connects the framework, "" for none
    file: str = ""
    target: str = ""


FRAMEWORKS = (
    Framework(
        "fastapi", "FastAPI", False, 'await hello.aenqueue(name="Ada")',
        "app.add_middleware(tako.contrib.asgi.Unhealthy)   answers 503 while workers cannot start",
    ),
    Framework(
        "django", "Django", True, 'hello.enqueue(name="Ada")',
        'Add "tako.contrib.django" to INSTALLED_APPS, and make its table: python manage.py migrate',
    ),
    Framework(
        "flask", "Flask", True, 'hello.enqueue(name="Ada")',
        "tako.contrib.flask.init(app)    answers 503 while workers cannot start, and gives handlers an app context",
    ),
    Framework(
        "starlette", "Starlette", False, 'await hello.aenqueue(name="Ada")',
        "app.add_middleware(tako.contrib.asgi.Unhealthy)   answers 503 while workers cannot start",
    ),
)  # fmt: skip
FILES = ("app.py", "main.py", "asgi.py", "wsgi.py", "manage.py")
_CLASSES = {"fastapi": "FastAPI", "flask": "Flask", "starlette": "Starlette"}


def recognise(folder: Path) -> Framework | None:
    """The framework of the app in `folder`; None when no file of the usual names has one."""
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for framework in FRAMEWORKS:
            if re.search(rf"^\s*(?:from|import)\s+{framework.name}\b", text, re.MULTILINE):
                return _found(framework, name, text)
    return None


def _found(framework: Framework, file: str, text: str) -> Framework:
    from dataclasses import replace

    module = file.removesuffix(".py")
    if framework.name == "django":
        return replace(
            framework, file=file, target="the project of manage.py" if module == "manage" else f"{module}:application"
        )
    made = re.search(rf"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)?{_CLASSES[framework.name]}\(", text, re.MULTILINE)
    return replace(framework, file=file, target=f"{module}:{made[1] if made else 'app'}")
