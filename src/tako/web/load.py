"""Import the user's app and find out whether it speaks ASGI or WSGI. What is wrong is printed as Python would."""

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

ASGI, WSGI = "asgi", "wsgi"


class NotLoaded(Exception):
    """The app cannot be served, and why has been printed."""


def app(target: str) -> tuple[Callable[..., Any], str]:
    """The app that "module:attribute" or "module:factory()" names, and "asgi" or "wsgi".

    Raises:
        NotLoaded: its traceback, or what is missing, stands on stderr.
    """
    _put_root_first()
    module_name, _, attribute = target.partition(":")
    is_factory = attribute.endswith("()")
    attribute = attribute.removesuffix("()")
    found = _import(module_name, target)
    for name in attribute.split("."):
        found = _attribute(found, name, target)
    if is_factory:
        found = _call(found, target)
    if not callable(found):
        raise _refuse(f"{target} is a {type(found).__name__}, not an ASGI or WSGI app.")
    return _with_static_files(found), interface(found, target)


def _with_static_files(app: Any) -> Any:
    """A Django app in DEBUG also answers for its static files, as under `manage.py runserver`."""
    if not type(app).__module__.startswith("django.core.handlers"):
        return app
    from django.conf import settings

    if not settings.DEBUG or "django.contrib.staticfiles" not in settings.INSTALLED_APPS:
        return app
    from django.contrib.staticfiles import handlers

    is_asgi = interface(app, "") == ASGI
    return handlers.ASGIStaticFilesHandler(app) if is_asgi else handlers.StaticFilesHandler(app)


def interface(found: Any, target: str) -> str:
    """ "asgi" or "wsgi", by what the app is called with.

    Raises:
        NotLoaded: it is neither.
    """
    if inspect.isclass(found):
        raise _refuse(f"{target} is the class {found.__name__}, not an app.", cure=f'Did you mean "{target}()"?')
    call = found if inspect.isroutine(found) else type(found).__call__
    if inspect.iscoroutinefunction(inspect.unwrap(call)) or inspect.iscoroutinefunction(call):
        return ASGI
    while hasattr(call, "func"):  # functools.partial
        if inspect.iscoroutinefunction(call.func):
            return ASGI
        call = call.func
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return WSGI  # written in C; WSGI is the older and wider
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [item for item in parameters if item.kind in positional and item.default is inspect.Parameter.empty]
    if len(needed) in (0, 1) and not any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in parameters):
        raise _refuse(
            f"{target} takes {len(needed)} arguments: an ASGI app takes 3, a WSGI app 2.",
            cure=f'If it makes the app, write main = "{target}()" in tako.toml.' if not needed else "",
        )
    return ASGI if len(needed) == 3 else WSGI


def _put_root_first() -> None:
    # `python -m` does so too, but for PYTHONSAFEPATH; and only the app's own root must stand there.
    root = os.getcwd()  # noqa: PTH109 - as `python -m` writes it
    if sys.path[0] != root:
        sys.path.insert(0, root)


def _import(name: str, target: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _refuse(
                f"There is no module {error.name!r} in {os.getcwd()}, from which {target} would be served.",  # noqa: PTH109
                cure='Say where the app is with main = "module:attribute" in tako.toml.',
            ) from None
        raise _failed(error) from error
    except (Exception, SystemExit) as error:
        raise _failed(error) from error


def _attribute(found: Any, name: str, target: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError as error:
        # Lazy modules and properties run code of the user's, which may raise AttributeError for reasons of its own.
        if error.name not in (name, None):
            raise _failed(error) from error
        close = difflib.get_close_matches(name, [item for item in dir(found) if not item.startswith("_")], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        where = getattr(found, "__file__", None) or repr(found)
        raise _refuse(f"{where} has no {name!r}, from which {target} would be served.{hint}") from None
    except Exception as error:
        raise _failed(error) from error


def _call(factory: Any, target: str) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise _failed(error) from error


def _refuse(message: str, *, cure: str = "") -> NotLoaded:
    print(f"{message}\n  {cure}" if cure else message, file=sys.stderr, flush=True)  # noqa: T201 - what a user reads
    return NotLoaded(message)


def _failed(error: BaseException) -> NotLoaded:
    if isinstance(error, SystemExit):
        print(f"The app ended its process while it was imported: {error!r}", file=sys.stderr)  # noqa: T201
    frames = _of_the_user(error.__traceback__)
    if frames is None:  # a file that cannot be parsed has not run: say so in the form that readers and tools know
        print("Traceback (most recent call last):", file=sys.stderr)  # noqa: T201
    traceback.print_exception(type(error), error, frames)
    sys.stderr.flush()
    return NotLoaded(str(error))


def _of_the_user(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is neither ours nor the import system's; a SyntaxError has none."""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name != __file__ and not name.startswith("<frozen importlib") and name != importlib.__file__:
            return trace
        trace = trace.tb_next
    return None
