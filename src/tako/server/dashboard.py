"""The dashboard of a server: every app's, on connections of the management socket. `tako open --server` makes those
through SSH, so no port is opened here, and who may see it is who may deploy."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from tako.dashboard.server import Dashboard
from tako.host.app import AppHost
from tako.host.window import Window
from tako.metrics.exposition import Family
from tako.server import metrics

if TYPE_CHECKING:
    from tako.server.daemon import Daemon
    from tako.server.site import Site


class Pages:
    """One dashboard for all apps. Nothing of it is loaded before somebody asks."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._windows: dict[str, tuple[AppHost, SiteWindow]] = {}
        # The port at the other end is open to other users of that machine: the address holds a key there, too.
        self.key = secrets.token_urlsafe(16)
        self._dashboard = Dashboard(self._apps, key=self.key)

    async def protocol(self) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a connection."""
        return await self._dashboard.protocol()

    async def stop(self) -> None:
        """End every page."""
        await self._dashboard.stop()

    def _apps(self) -> list[Window]:
        found: list[Window] = []
        for site in self._daemon.sites.values():
            if site.host is not None:
                name = name_of(site)
                known = self._windows.get(name)
                if known is None or known[0] is not site.host:  # it was closed and opened again
                    known = self._windows[name] = (site.host, SiteWindow(site, site.host))
                found.append(known[1])
        return found


class SiteWindow(Window):
    """An app of the server: its engine, and the web beside it."""

    def __init__(self, site: Site, host: AppHost) -> None:
        super().__init__(host, name=name_of(site))
        self._site = site

    async def families(self) -> list[Family]:
        """The same as `/metrics` of the server tells of this app."""
        return await metrics.families(self._site)


def name_of(site: Site) -> str:
    """What a site is called in an address."""
    return f"{site.app}-{site.env}"
