"""The site: from a request through the guard to a page, and whatever goes wrong into words."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

from tako.dashboard import guard, shown
from tako.dashboard.apps import App
from tako.dashboard.guard import Refused
from tako.dashboard.http import Request, Response, TooLarge, redirect
from tako.dashboard.live import Live
from tako.errors import RunNotFound, TakoError
from tako.metrics import exposition, process

log = logging.getLogger("tako.dashboard")

Page = Callable[["View"], Awaitable[Response]]
KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
NOTES = 200


class Site:
    """An ASGI app for one or several apps."""

    def __init__(self, apps: Callable[[], Sequence[App]], *, key: str) -> None:
        from tako.dashboard.routes import ROUTES

        self.apps = apps
        self.key = key
        self.token = secrets.token_urlsafe(16)  # of this start: buttons of older pages do nothing
        self.open: set[Live] = set()
        self._routes = ROUTES
        self._notes: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tako.dashboard"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters.update(shown.FILTERS)
        self._templates.globals.update(asset=asset, version=version("tako-py"))
        self._templates.globals["parts"] = self._templates.get_template("parts.html").module

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        await (await self.answer(request)).send(request, send)

    async def answer(self, request: Request) -> Response:
        """The page, or the words for why there is none."""
        try:
            return await self._answer(request)
        except Refused as refused:
            return self._only(refused.words, refused.status)
        except TooLarge:
            return self._only("That is more than any form here sends.", 413)
        except Exception:  # the engine must outlive a bug of a page; its log tells us
            log.exception("the dashboard could not answer %s", request.method)
            return self._only("This page could not be made. That is a bug of Tako's; the engine's log has it.", 500)

    def close(self) -> None:
        """End what open pages listen to."""
        for live in list(self.open):
            live.close()

    def _only(self, words: str, status: int, *, home: str | None = None) -> Response:
        """A page that tells nothing but this; `home` is where whoever may see more finds it."""
        return Response(self.render("only.html", words=words, home=home), status=status)

    async def _answer(self, request: Request) -> Response:
        guard.check_host(request.headers)
        if request.method not in ("GET", "POST"):
            raise Refused(405, "The dashboard knows GET and POST.")
        _, first, *rest = request.path.split("/")
        if first == "static" and len(rest) == 1 and request.method == "GET":
            return _static(rest[0])
        if first == "metrics" and not rest:  # for Prometheus, whose file of credentials the key's file can be
            guard.check_key(request.headers.get("authorization", "").removeprefix("Bearer ").strip(), self.key)
            return await self._metrics()
        if first == "favicon.ico" and not rest:  # what browsers ask for by themselves
            return _static("tako.svg")
        guard.check_key(first, self.key)
        if rest == ["metrics"]:
            return await self._metrics()
        if request.method == "POST":
            guard.check_origin(request.headers)
            await request.read_form()
            guard.check_token(request.form.get("token", ""), self.token)
        return await self._page(request, rest or [""])

    async def _page(self, request: Request, path: list[str]) -> Response:
        apps = {app.name: app for app in self.apps()}
        name, *rest = path
        if not name:
            return redirect(f"/{self.key}/{min(apps)}/") if apps else self._no_app(request)
        if name not in apps or not rest:
            return redirect(f"/{self.key}/{name}/") if name in apps else self._no_app(request)
        view = View(self, apps[name], request, sorted(apps))
        try:
            handler, view.parts = _find(self._routes, request.method, rest)
        except Refused as refused:
            return self._only(refused.words, refused.status, home=f"/{self.key}/{name}/")
        try:
            return await handler(view)
        except RunNotFound as error:
            return view.page("problem.html", code=404, error=error, here="")
        except TakoError as error:
            return view.page("problem.html", code=409, error=error, here="")

    def _no_app(self, request: Request) -> Response:
        raise Refused(404, f"There is no such app here. There are: {', '.join(app.name for app in self.apps())}.")

    async def _metrics(self) -> Response:
        families = process.families()
        for app in self.apps():
            families += await app.families()
        return Response(exposition.text(families), content_type=exposition.CONTENT_TYPE)

    # --- what pages share -------------------------------------------------------------------------------------------

    def render(self, template: str, **context: Any) -> str:
        """The template as text."""
        return self._templates.get_template(template).render(**context)

    def note(self, kind: str, words: str) -> str:
        """Keep what the next page is to say; its name, for the address. So no address can make a page say anything."""
        name = secrets.token_urlsafe(6)
        self._notes[name] = (kind, words)
        if len(self._notes) > NOTES:
            self._notes.popitem(last=False)
        return name

    def said(self, name: str) -> tuple[str, str] | None:
        """What was kept under this name."""
        return self._notes.get(name)


class View:
    """One request for a page of one app. `parts` are what the route has left open, such as a run's id."""

    def __init__(self, site: Site, app: App, request: Request, apps: list[str]) -> None:
        self.site = site
        self.app = app
        self.request = request
        self.apps = apps
        self.parts: list[str] = []
        self.changes = app.changes  # before anything is asked: what changes while the page is made is news
        self.now_ms = time.time_ns() // 1_000_000

    def url(self, path: str = "", /, **query: str | int | None) -> str:
        """The address of a page of this app."""
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return f"/{self.site.key}/{self.app.name}/{quote(path)}" + (
            f"?{urlencode(given, quote_via=quote)}" if given else ""
        )

    def page(self, template: str, *, here: str, code: int = 200, **context: Any) -> Response:
        """The page. `here` is the entry of the navigation that it belongs to."""
        text = self.site.render(
            template,
            app=self.app.name,
            apps=self.apps,
            url=self.url,
            root=f"/{self.site.key}/",
            token=self.site.token,
            here=here,
            now_ms=self.now_ms,
            changes=self.changes,
            note=self.site.said(self.request.query.get("note", "")),
            query=self.request.query,
            redact=self.app.redact,
            **context,
        )
        return Response(text, status=code)

    def done(self, path: str, words: str, *, kind: str = "done", **query: str | int | None) -> Response:
        """After a form: go there, and say this."""
        return redirect(self.url(path, **query, note=self.site.note(kind, words)))


def _find(routes: dict[tuple[str, ...], Page], method: str, path: list[str]) -> tuple[Page, list[str]]:
    for pattern, handler in routes.items():
        wanted, *parts = pattern
        if (
            wanted == method
            and len(parts) == len(path)
            and all(p in ("*", q) for p, q in zip(parts, path, strict=True))
        ):
            return handler, [q for p, q in zip(parts, path, strict=True) if p == "*"]
    raise Refused(404, "There is no such page.")


# --- files ----------------------------------------------------------------------------------------------------------


@cache
def _file(name: str) -> bytes | None:
    """A file of ours. Only those that are there: a name from an address is never joined to a path."""
    found = {file.name: file for file in files("tako.dashboard").joinpath("static").iterdir()}
    return found[name].read_bytes() if name in found else None


@cache
def asset(name: str) -> str:
    """Where a page finds a file of ours; another content is another address, so browsers may keep it."""
    data = _file(name)
    assert data is not None, name
    return f"/static/{name}?{hashlib.sha256(data).hexdigest()[:12]}"


def _static(name: str) -> Response:
    data = _file(name)
    if data is None:
        raise Refused(404, "There is no such file.")
    kind = KINDS[name.rpartition(".")[2]]
    return Response(data, content_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"})
