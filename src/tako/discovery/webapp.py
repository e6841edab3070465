"""Find the web app of a folder without configuration and without importing anything.

Looked at, in this order: `app.py main.py asgi.py wsgi.py` and Django's `manage.py`, then the same names and
`__init__.py` in the packages of the folder. In a file an app is, in this order: a name bound to a web framework's
class, a conventional name (`app application asgi wsgi`) bound to anything that may be one, and a factory. An app comes
before a factory. Whether an app speaks ASGI or WSGI is seen only after import, so the runner decides that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

FILES = ("app.py", "main.py", "asgi.py", "wsgi.py")
NAMES = ("app", "application", "asgi", "wsgi")
FACTORIES = ("create_app", "make_app", "get_app", "create_application")
MAX_FILE_BYTES = 1_048_576

# Classes that make an app, by the top module that they are imported from.
FRAMEWORKS = {
    "fastapi": "FastAPI", "starlette": "Starlette", "flask": "Flask", "quart": "Quart", "litestar": "Litestar",
    "sanic": "Sanic", "falcon": "App", "bottle": "Bottle", "pyramid": "Configurator", "blacksheep": "Application",
}  # fmt: skip
# Their objects are often called `app` too, and are none.
NOT_WEB = frozenset({
    "argparse", "asyncer", "celery", "click", "cyclopts", "dramatiq", "huey", "kivy", "modal", "procrastinate",
    "PyQt5", "PyQt6", "PySide2", "PySide6", "rq", "slack_bolt", "tako", "textual", "tkinter", "typer", "wx",
})  # fmt: skip
_NOT_PACKAGES = frozenset({"workflows", "tests", "test", "migrations", "venv", "env", "node_modules", "docs", "build"})
_IN_TEXT = re.compile(
    rf"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)*({'|'.join(sorted(set(FRAMEWORKS.values())))})\(", re.MULTILINE
)
_SETTINGS_IN_TEXT = re.compile(r"""DJANGO_SETTINGS_MODULE["']\s*,\s*["']([\w.]+)["']""")


@dataclass(frozen=True, slots=True)
class WebApp:
    """Where the app is: `target` is "module:attribute", with "()" when it must be called first.

    `framework` is "fastapi", "django", …, or None when only import can tell. `file` is relative to the root, None
    when `main` names a module that is not in the folder. `settings` is Django's settings module: its processes need
    it as DJANGO_SETTINGS_MODULE.
    """

    target: str
    framework: str | None = None
    file: str | None = None
    settings: str | None = None

    @property
    def is_factory(self) -> bool:
        """Whether the attribute is called to get the app."""
        return self.target.endswith("()")


def find(root: Path, *, main: str | None = None) -> WebApp | None:
    """The web app of `root`; `main`, if given, is where it is. None: there is none that can be recognised.

    A file that cannot be parsed counts as holding an app if no other file does: importing it is what shows the error.
    """
    if main is not None:
        return _named(root, main)
    for folder in (root, *_packages(root)):
        candidates = list(_candidates(root, folder))
        if django := _django(root) if folder == root else None:
            candidates.append(django)
        if candidates:
            return min(candidates, key=lambda app: app.is_factory)  # the first of those that need no call, if any
    return _unparsed(root)


def elsewhere(root: Path) -> str | None:
    """Where an app seems to be that `find` does not look for, as `main` would say it: "server:app"."""
    for path in sorted(root.glob("*.py")):
        if path.name not in FILES and (tree := _parse(path)) is not None and (apps := _File(tree).apps):
            return f"{path.stem}:{next(iter(apps))}"
    return None


def _named(root: Path, main: str) -> WebApp:
    module, _, attribute = main.partition(":")
    django = _django(root)
    settings = django.settings if django else None
    for path in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py"):
        tree = _parse(root / path)
        if tree is not None:
            file = _File(tree)
            framework = file.apps.get(attribute) or next(iter(file.frameworks), None)
            return WebApp(main, framework=framework, file=path, settings=settings)
    return WebApp(main, settings=settings)


def _packages(root: Path) -> Iterator[Path]:
    """The packages in the folder that may hold the app; one called like the folder or `app` first."""
    try:
        found = [entry for entry in root.iterdir() if entry.name.isidentifier() and entry.name not in _NOT_PACKAGES]
    except OSError:
        return
    likely = ("app", root.name, root.name.replace("-", "_"))
    for entry in sorted(found, key=lambda entry: (entry.name not in likely, entry.name)):
        if (entry / "__init__.py").is_file():
            yield entry


def _candidates(root: Path, folder: Path) -> Iterator[WebApp]:
    names = FILES if folder == root else (*FILES, "__init__.py")
    for name in names:
        path = folder / name
        if (folder / path.stem / "__init__.py").is_file():
            continue  # Python imports the package, not the file
        tree = _parse(path)
        found = _File(tree).best() if tree is not None else None
        if found is None:
            continue
        attribute, framework = found
        file = path.relative_to(root)
        module = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
        yield WebApp(f"{module}:{attribute}", framework=framework, file=str(file))


def _parse(path: Path) -> ast.Module | None:
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:  # a device has no end
            return None
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _unparsed(root: Path) -> WebApp | None:
    for name in FILES:
        if not (root / name).is_file():
            continue
        try:
            text = (root / name).read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if _parse(root / name) is not None:
            continue  # it parses and holds no app
        found = _IN_TEXT.search(text)
        attribute = found[1] if found else "app"
        framework = next((key for key, value in FRAMEWORKS.items() if found and value == found[2]), None)
        return WebApp(f"{Path(name).stem}:{attribute}", framework=framework, file=name)
    return None


class _File:
    """What the top level of a file binds. `apps` are names bound to a framework's class, `others` may be apps too."""

    def __init__(self, tree: ast.Module) -> None:
        self.apps: dict[str, str] = {}
        self.others: dict[str, None] = {}
        self.factories: dict[str, None] = {}
        self._imported: dict[str, tuple[str, str]] = {}
        for statement in _top_level(tree.body):
            self._read(statement)

    @property
    def frameworks(self) -> list[str]:
        """The web frameworks that the file imports."""
        tops = [module.partition(".")[0] for module, _ in self._imported.values()]
        return [top for top in tops if top in FRAMEWORKS or top == "django"]

    def best(self) -> tuple[str, str | None] | None:
        """The attribute that is most likely the app, and its framework; None when there is none."""
        for name in (*(name for name in NAMES if name in self.apps), *self.apps):
            return name, self.apps[name]
        framework = next(iter(self.frameworks), None)
        for name in NAMES:
            if name in self.others:
                return name, framework
        for name in FACTORIES:
            if name in self.factories:
                return f"{name}()", framework
        return None

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._import(statement)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    self._bind(target.id, statement.value)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            self._bind(statement.target.id, statement.value)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            self._function(statement)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        for alias in statement.names:
            bound = alias.asname or alias.name.partition(".")[0]
            if isinstance(statement, ast.Import):
                self._imported[bound] = (alias.name if alias.asname else bound, "")
                continue
            module = statement.module or ""
            self._imported[bound] = (module, alias.name)
            if alias.asname is None and module.partition(".")[0] not in NOT_WEB:
                if bound in NAMES:
                    self.others[bound] = None
                elif bound in FACTORIES:
                    self.factories[bound] = None

    def _bind(self, name: str, value: ast.expr) -> None:
        if isinstance(value, ast.Await | ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.Set):
            return
        module, made = self._source(value)
        top = module.partition(".")[0]
        if made and FRAMEWORKS.get(top) == made:
            self.apps.setdefault(name, top)
        elif name in NAMES and top not in NOT_WEB:
            self.others[name] = None

    def _source(self, value: ast.expr) -> tuple[str, str]:
        """The module and name that a called class comes from; empty texts when that cannot be seen."""
        function = value.func if isinstance(value, ast.Call) else value
        parts: list[str] = []
        while isinstance(function, ast.Attribute):
            parts.insert(0, function.attr)
            function = function.value
        if not isinstance(function, ast.Name) or function.id not in self._imported:
            return "", ""
        module, name = self._imported[function.id]
        path = [part for part in (name, *parts) if part]
        return module, path[0] if len(path) == 1 else (path[-1] if not name else "")

    def _function(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = function.args
        needed = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
        needed += sum(default is None for default in arguments.kw_defaults)
        speaks = 3 if isinstance(function, ast.AsyncFunctionDef) else 2
        if function.name in NAMES and (needed == speaks or function.decorator_list):
            self.others[function.name] = None
        elif function.name in FACTORIES and needed == 0 and isinstance(function, ast.FunctionDef):
            self.factories[function.name] = None


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import, those in `if`, `try` and `with` included, except under `__main__`."""
    for statement in body:
        if isinstance(statement, ast.If):
            if "__main__" not in ast.dump(statement.test):
                yield from _top_level([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handlers = [inner for handler in statement.handlers for inner in handler.body]
            yield from _top_level([*statement.body, *handlers, *statement.orelse, *statement.finalbody])
        elif isinstance(statement, ast.With):
            yield from _top_level(statement.body)
        else:
            yield statement


# Django


def _django(root: Path) -> WebApp | None:
    """The app of a Django project: the one that its settings name, else that of `asgi.py` or `wsgi.py` beside them."""
    if not (root / "manage.py").is_file():
        return None
    try:
        text = (root / "manage.py").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    found = _SETTINGS_IN_TEXT.search(text)
    if not found:
        return None
    settings = found[1]
    app = WebApp("django.core.wsgi:get_wsgi_application()", framework="django", file="manage.py", settings=settings)
    for dotted in (*_applications(root, settings), *_beside(root, settings)):
        module, _, attribute = dotted.rpartition(".")
        if _module_file(root, module):
            return replace(app, target=f"{module}:{attribute}")
    return app


def _applications(root: Path, settings: str) -> Iterator[str]:
    """What the settings say: ASGI_APPLICATION first, since Django does not write it by itself: somebody wants it."""
    path = _module_file(root, settings)
    if path is None:
        return
    files = [path]
    if path.name == "__init__.py" or path.parent.name == "settings":  # settings/{base,production}.py
        files += [file for file in (path.parent / "base.py", path.parent / "common.py") if file != path]
    said: dict[str, str] = {}
    for tree in map(_parse, files):
        for statement in _top_level(tree.body) if tree else ():
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                for target in statement.targets:
                    if isinstance(target, ast.Name) and isinstance(statement.value.value, str):
                        said.setdefault(target.id, statement.value.value)
    yield from (said[name] for name in ("ASGI_APPLICATION", "WSGI_APPLICATION") if name in said)


def _beside(root: Path, settings: str) -> Iterator[str]:
    package = settings.partition(".")[0]
    for name in ("wsgi", "asgi"):
        tree = _parse(root / package / f"{name}.py")
        if tree is not None and "application" in _File(tree).others:
            yield f"{package}.{name}.application"


def _module_file(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None
