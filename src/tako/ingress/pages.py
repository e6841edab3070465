"""What is answered when there is no app to ask: text for programs, a page for browsers. Everything in it is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from tako.ingress.routes import Running


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of our own: a title, sentences, and links."""

    status: int
    title: str
    sentences: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()

    def render(self, *, as_html: bool, with_body: bool = True) -> bytes:
        """The whole response; it is the last one of its connection."""
        body = (self._html() if as_html else self._text()).encode("utf-8", "replace")
        kind = "text/html" if as_html else "text/plain"
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"Content-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
        return head + body if with_body else head

    def _text(self) -> str:
        lines = [self.title, *(f"  {sentence}" for sentence in self.sentences)]
        lines += [f"  {url}  {label}" for url, label in self.links]
        return "\n".join(lines) + "\n"

    def _html(self) -> str:
        sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences)
        links = "".join(
            f'<li><a href="{html.escape(url)}">{html.escape(url)}</a> <small>{html.escape(label)}</small></li>'
            for url, label in self.links
        )
        return _PAGE.format(title=html.escape(self.title), body=sentences + (f"<ul>{links}</ul>" if links else ""))


def foreign(host: str) -> Page:
    """For a Host that is not ours. It names no app: who asks may be a page from elsewhere."""
    return Page(
        404,
        "This is Tako's development server.",
        (f"It answers for names that end in .localhost, and not for {host}.",),
    )


def unknown(name: str, apps: Sequence[Running], *, port: int) -> Page:
    """For a name of ours that no app has."""
    return Page(404, f"No app is called {name}.", (_list_title(apps),), _links(apps, port))


def index(apps: Sequence[Running], *, port: int) -> Page:
    """For `localhost` itself at the shared port."""
    return Page(200, "Tako's development server", (_list_title(apps),), _links(apps, port))


def not_running(name: str) -> Page:
    """For an app whose socket is there, but nobody listens."""
    return Page(502, f"{name} is not running.", ("Its `tako dev` has ended. Start it again in the app's folder.",))


def no_answer(name: str) -> Page:
    """For an app that closed the connection without a word."""
    return Page(
        502,
        f"{name} closed the connection without an answer.",
        ("Its process has ended while it worked on this request. See why in the terminal of `tako dev`.",),
    )


def bad_request(why: str) -> Page:
    """For what is no request that can be passed on."""
    return Page(400, "This request cannot be passed on.", (f"{why[:1].upper()}{why[1:]}.",))


def head_too_long() -> Page:
    """For a head without an end."""
    return Page(431, "The head of this request is too long.", ("At most 64 KiB are passed on: too many cookies?",))


def too_many() -> Page:
    """For a connection too many."""
    return Page(503, "Too many connections.", ("All of them wait for answers of an app.",))


def _list_title(apps: Sequence[Running]) -> str:
    return "These apps run:" if apps else "No app runs. Start one with `tako dev` in its folder."


def _links(apps: Sequence[Running], port: int) -> list[tuple[str, str]]:
    return [(f"http://{app.name}.localhost:{port}/", app.root) for app in apps]


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }}
small {{ opacity: .6; }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""
