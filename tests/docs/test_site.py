"""`make site`: the pages as a site, without a warning, without a dead link, and without a request to another host."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest

from tests.support.chromium import Chromium

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """What a built page links to and loads, and what on it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.targets.add(value)
            elif name in ("id", "name") and value is not None:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site() -> Path:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "zensical"), "build", "--strict", "--clean"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build/site"


def test_every_page_of_the_docs_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}

    assert {page for page in pages if not page.startswith("decisions/") and page not in menu} == set()


def test_the_site_asks_no_other_host(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|link|img)[^>]*(?:src|href)=["'](https?:)?//""")

    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert [
        str(page) for page in pages if loaded.search(re.sub(r'<link rel="canonical"[^>]*>', "", page.read_text()))
    ] == []


def test_every_link_leads_to_a_page_and_to_a_place_on_it(site: Path) -> None:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the root of wherever the site is
        for target in page.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            file, _, anchor = unquote(target).partition("#")
            found = (path.parent / file.partition("?")[0]).resolve() if file else path
            found = found / "index.html" if found.is_dir() else found
            if not found.is_file() or (anchor and found in pages and anchor not in pages[found].anchors):
                dead.append(f"{path.relative_to(site.resolve())}: {target}")

    assert dead == []
    assert sum(len(page.targets) for page in pages.values()) > 1_000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


WIDE = """[...document.querySelectorAll(".md-typeset *")].filter((one) =>
    /auto|scroll/.test(getComputedStyle(one).overflowX) && one.scrollWidth > one.clientWidth + 1)"""


def test_what_is_wider_than_its_place_can_be_scrolled_with_the_keyboard(address: str, tmp_path: Path) -> None:
    with Chromium(tmp_path) as browser:
        for width in (390, 1280):
            with browser.page(width=width, phone=width < 400) as page:
                for name in ("howto/django.html", "promises.html"):
                    page.goto(f"{address}/{name}")
                    page.wait_for("document.querySelector('nav.md-code__nav, .md-typeset__scrollwrap') !== null")
                    page.wait_for(f"{WIDE}.every((one) => one.tabIndex == 0)")
                    page.wait_for("!document.querySelector('.md-typeset th:empty, nav.md-code__nav:not([role])')")
                    assert page.evaluate(f"{WIDE}.length") > 0 or name == "promises.html"
                    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
