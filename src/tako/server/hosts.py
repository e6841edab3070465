"""The folder that Caddy reads: which host, and which path of it, is which app's. A change is a file; nothing reloads.

    HOST/                     `_.example.com` is *.example.com
        owner                 "app/env": who answers for the host itself
        tls                   the host may have a certificate
        sock -> the app's listening socket
        public -> the static files of its current release
        maintenance           503, without asking the app
        paths/~shop/          the same (but for tls) for HOST/shop; ~shop~admin for HOST/shop/admin

It lies on a file system that a reboot wipes: what it should hold is in the daemon's store, and `put` restores it.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tako.errors import TakoError
from tako.server.caddy import DEPTH, WILDCARD


class RouteTaken(TakoError):
    """Another app answers there. Nothing was changed."""

    code = "route_taken"


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """`example.com/shop` as host and path: `path` is "" or begins with a slash. `*.example.com` is a host, too."""

    host: str
    path: str = ""

    def __str__(self) -> str:
        return self.host + self.path


def parse(text: str) -> Route:
    """The route that tako.toml writes so.

    Raises:
        TakoError: its path is longer than Caddy's configuration looks.
    """
    host, slash, path = text.lower().rstrip("/").partition("/")
    if path.count("/") >= DEPTH or "~" in path:
        raise TakoError(
            f"{text}: a route has at most {DEPTH} path segments, and no ~ in them.",
            cure="Use a shorter path, or a host.",
        )
    # Hosts are compared in lower case; paths are not.
    return Route(host.rstrip("."), slash + text.partition("/")[2].rstrip("/") if slash else "")


class Hosts:
    """The folder. Not for two processes at once: it is the daemon's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, owner: str, routes: Iterable[Route]) -> None:
        """Raises RouteTaken when one of the routes belongs to somebody else."""
        for route in routes:
            holder = self._owner_of(self._place(route))
            if holder not in (None, owner):
                raise RouteTaken(
                    f"{route} belongs to {holder} on this server; nothing was changed.",
                    cure=f"Take it out of the routes of {holder} and deploy that first, or delete it: tako delete",
                )

    def put(self, owner: str, routes: Sequence[Route], *, socket: Path, public: Path | None) -> list[str]:
        """Make these, and no others, the owner's. The hosts that were not there before: they have no certificate yet.

        Each route appears whole, by a rename; one that goes is gone at once, and requests on their way stay.

        Raises:
            RouteTaken: see `check`; nothing was changed.
        """
        self.check(owner, routes)
        new = []
        for route in routes:
            host = self._folder / _folder_of(route.host)
            if not (host / "tls").exists():
                new.append(route.host)
            host.mkdir(parents=True, exist_ok=True)
            (host / "tls").touch()
            self._put_one(self._place(route), owner, socket=socket, public=public)
        wanted = {self._place(route) for route in routes}
        for place in [place for place, holder in self._places() if holder == owner and place not in wanted]:
            self._take_away(place)
        return list(dict.fromkeys(new))

    def remove(self, owner: str) -> None:
        """Take away all routes of an owner."""
        for place in [place for place, holder in self._places() if holder == owner]:
            self._take_away(place)

    def set_maintenance(self, owner: str, *, on: bool) -> None:
        """Answer 503 in place of the app, or no more."""
        for place, holder in self._places():
            if holder == owner and on:
                (place / "maintenance").touch()
            elif holder == owner:
                (place / "maintenance").unlink(missing_ok=True)

    def routes(self) -> list[tuple[Route, str, bool]]:
        """Every route, with its owner and whether it is down for maintenance."""
        found = [(self._route_of(place), holder, (place / "maintenance").exists()) for place, holder in self._places()]
        return sorted(found)

    def names(self) -> list[str]:
        """Every host that may have a certificate; no wildcards, which get one for each name that is asked for."""
        if not self._folder.is_dir():
            return []
        return sorted(
            host.name
            for host in self._folder.iterdir()
            if (host / "tls").exists() and not host.name.startswith(WILDCARD)
        )

    # --- places ---

    def _place(self, route: Route) -> Path:
        host = self._folder / _folder_of(route.host)
        return host / "paths" / route.path.replace("/", "~") if route.path else host

    def _route_of(self, place: Path) -> Route:
        is_path = place.parent.name == "paths" and place.parent.parent.parent == self._folder
        host = (place.parent.parent if is_path else place).name
        host = f"*.{host.removeprefix(WILDCARD)}" if host.startswith(WILDCARD) else host
        return Route(host, place.name.replace("~", "/") if is_path else "")

    def _places(self) -> Iterator[tuple[Path, str]]:
        """Every place that somebody owns."""
        if not self._folder.is_dir():
            return
        for host in sorted(self._folder.iterdir()):
            paths = host / "paths"
            for place in (host, *(sorted(paths.iterdir()) if paths.is_dir() else ())):
                if (holder := self._owner_of(place)) is not None:
                    yield place, holder

    @staticmethod
    def _owner_of(place: Path) -> str | None:
        try:
            return (place / "owner").read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _put_one(self, place: Path, owner: str, *, socket: Path, public: Path | None) -> None:
        place.mkdir(parents=True, exist_ok=True)
        _link(place / "sock", socket)
        if public is None:
            (place / "public").unlink(missing_ok=True)
        else:
            _link(place / "public", public)
        if self._owner_of(place) is None:
            # Last: without an owner the place answers 404, and so it does until all of it is there.
            temporary = place / ".owner"
            temporary.write_text(owner)
            temporary.replace(place / "owner")

    def _take_away(self, place: Path) -> None:
        (place / "owner").unlink(missing_ok=True)
        for name in ("sock", "public", "maintenance"):
            (place / name).unlink(missing_ok=True)
        host = place if place.parent == self._folder else place.parent.parent
        if place != host:
            place.rmdir()
        paths = host / "paths"
        if not (host / "owner").exists() and not (paths.is_dir() and any(paths.iterdir())):
            (host / "tls").unlink(missing_ok=True)
            shutil.rmtree(host)


def _folder_of(host: str) -> str:
    return f"{WILDCARD}{host[2:]}" if host.startswith("*.") else host


def _link(path: Path, target: Path) -> None:
    """Make a link, or point it elsewhere, in one step."""
    if path.is_symlink() and path.readlink() == target:
        return
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
