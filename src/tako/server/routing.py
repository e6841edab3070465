"""Which host name leads to which site: rows, and what the ingress sees of them."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from tako.config import load
from tako.errors import DeployRefused, TakoError
from tako.ingress.pages import Page
from tako.ingress.relay import Target
from tako.server import stage
from tako.server.hosts import Route, parse

if TYPE_CHECKING:
    from tako.server.daemon import Daemon
    from tako.server.site import Site


def split(route: str) -> tuple[str, str]:
    """Host and path of a route: lower case, no port, no dot at the end.

    Raises:
        DeployRefused: it is none.
    """
    parse(route)  # how deep paths may be is what the ingress looks at
    host, slash, path = route.strip().partition("/")
    host = host.lower().rstrip(".")
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        host = ""
    labels = host.removeprefix("*.").split(".")
    if not host or ":" in host or len(host) > 253 or not all(_is_label(label) for label in labels):
        raise DeployRefused(f"{route[:100]!r} is no route", cure='Use "example.com" or "example.com/shop".')
    path = (slash + path).rstrip("/")
    if path and (".." in path.split("/") or not path.isprintable()):
        raise DeployRefused(f"{route[:100]!r} is no route", cure='Use "example.com" or "example.com/shop".')
    return host, path


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and all(c.isascii() and (c.isalnum() or c in "-_") for c in label)


def wanted(site: Site, release: str) -> list[tuple[str, str]]:
    """The routes of a release: those it was sent with, else those of its tako.toml."""
    row = site.release_row(release)
    if row is not None and row["routes"] is not None:
        return [split(route) for route in json.loads(row["routes"])]
    try:
        config = load.load(site.layout.source(release))
    except TakoError:
        return []
    environment = config.envs.get(site.env)
    return [split(route) for route in (environment.routes if environment else ())]


def check(daemon: Daemon, site: Site, routes: list[tuple[str, str]]) -> None:
    """Refuse routes that lead to another site, or come twice. Raises DeployRefused."""
    if len(set(routes)) < len(routes):
        raise DeployRefused("a route comes twice", cure="Take one of them out of tako.toml.")
    for row in daemon.state.all("routes"):
        if (row["host"], row["path"]) in routes and (row["app"], row["env"]) != (site.app, site.env):
            raise DeployRefused(
                f"{row['host']}{row['path']} leads to {row['app']} ({row['env']}) already",
                cure="Take the route from one of them, and deploy again.",
            )


def publish(daemon: Daemon, site: Site, release: str) -> None:
    """Let the routes of this release be those of the site."""
    routes = wanted(site, release)
    with daemon.state.transaction():
        daemon.state.run("delete_routes", app=site.app, env=site.env)
        for host, path in routes:
            daemon.state.run("add_route", host=host, path=path, app=site.app, env=site.env)
    show(daemon, site)


def withdraw(daemon: Daemon, site: Site) -> None:
    """Let no route lead to the site any more."""
    daemon.hosts.remove(owner(site))
    daemon.state.run("delete_routes", app=site.app, env=site.env)


def show(daemon: Daemon, site: Site) -> None:
    """Let the ingress see the rows: at a switch, and after a start, since a reboot wipes what it looks at."""
    found = [Route(row["host"], row["path"]) for row in daemon.state.all("routes_of", app=site.app, env=site.env)]
    # Looked for in the release itself: at a switch the link `current` is moved after this.
    has_public = site.current is not None and (site.layout.release(site.current) / stage.PUBLIC).is_dir()
    public = site.layout.current / stage.PUBLIC if has_public else None
    daemon.hosts.put(owner(site), found, socket=site.layout.listener, public=public)
    daemon.hosts.set_maintenance(owner(site), on=bool(site.row["maintenance"]))


def owner(site: Site) -> str:
    """Under whose name the ingress knows the site."""
    return f"{site.app}/{site.env}"


def mark(daemon: Daemon, site: Site, *, is_on: bool) -> None:
    """Let the ingress know whether the site is under maintenance."""
    daemon.hosts.set_maintenance(owner(site), on=is_on)


class Routes:
    """The routes for `--http`: an ingress for tests and containers, which knows hosts and no paths."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def route(self, name: str | None, host: str) -> Target | Page:
        """The site for a Host."""
        for row in self._daemon.state.all("routes"):
            if row["host"] == name or (row["host"].startswith("*.") and name and name.endswith(row["host"][1:])):
                return self._target(row["app"], row["env"])
        for app, env in self._daemon.sites:
            if name in (f"{app}.localhost", f"{env}.{app}.localhost"):
                return self._target(app, env)
        return Page(404, "There is no such host here.", [f"No app on this server answers for {name or 'it'}."])

    def _target(self, app: str, env: str) -> Target | Page:
        site = self._daemon.sites.get((app, env))
        if site is None or site.listener is None:
            return Page(503, "There is nothing to serve.", ["The app is registered, and no release of it is there."])
        return Target(app, site.listener.path)


def listen(address: tuple[str, int]) -> socket.socket:
    """Listen on an address. Raises TakoError."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise TakoError(f"{address[0]}:{address[1]} cannot be used: {error.strerror}.") from error
    sock.listen(2048)
    sock.setblocking(False)
    return sock
