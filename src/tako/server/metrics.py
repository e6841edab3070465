"""`/metrics` of a server: what each engine counts of itself, as in development, and beside it the web and deploys."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tako.errors import TakoError
from tako.host import metrics as engine_metrics
from tako.metrics import exposition, process
from tako.metrics.exposition import Family
from tako.protocol import http1
from tako.server import routing

if TYPE_CHECKING:
    from tako.server.daemon import Daemon
    from tako.server.site import Site

log = logging.getLogger("tako.server")

HEAD_TIMEOUT_S = 10.0


async def text(daemon: Daemon) -> str:
    """Everything, now."""
    found = process.families()
    for site in list(daemon.sites.values()):
        found += await families(site)
    return exposition.text(found)


async def families(site: Site) -> list[Family]:
    """All of one app in one environment."""
    found = _of_web(site)
    if site.host is not None:
        try:
            found += await engine_metrics.families(site.host)
        except TakoError as error:  # its store cannot be read: the other apps' figures are wanted all the more
            log.warning("%s %s: its engine has no figures: %s", site.app, site.env, error)
    return found


def _of_web(site: Site) -> list[Family]:
    own = {"app": site.app, "env": site.env}
    deploy = Family("tako_deploy_running", "gauge", "1 while a deploy, a roll-back or a roll is under way.")
    deploy.add(float(site.job is not None), **own)
    instances = Family("tako_web_instances", "gauge", "Web instances that serve.")
    requests = Family("tako_web_requests_total", "counter", "Requests that were answered, by ended instances too.")
    in_flight = Family("tako_web_requests_in_flight", "gauge", "Requests that are being answered.")
    starts = Family("tako_web_cold_starts_total", "counter", "Times that a request has woken the web app.")
    restarts = Family("tako_web_restarts_total", "counter", "Instances that ended without being asked to.")
    if site.pool is not None:
        instances.add(len(site.pool.serving), **own)
        requests.add(site.pool.requests, **own)
        in_flight.add(site.pool.inflight, **own)
        starts.add(site.pool.wakes, **own)
        restarts.add(site.pool.deaths, **own)
    return [deploy, instances, requests, in_flight, starts, restarts]


class MetricsServer:
    """Answers `GET /metrics`, and nothing else."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._server: asyncio.Server | None = None

    async def start(self, address: tuple[str, int]) -> None:
        """Listen. Raises TakoError: the address cannot be used."""
        self._server = await asyncio.start_server(self._answer, sock=routing.listen(address))

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(http1.END)
            is_ours = head.split(b" ", 2)[:2] == [b"GET", b"/metrics"]
            body = (await text(self._daemon)).encode() if is_ours else b"Ask for /metrics.\n"
            status = "200 OK" if is_ours else "404 Not Found"
            answer = f"HTTP/1.1 {status}\r\nContent-Type: {exposition.CONTENT_TYPE}\r\nConnection: close\r\n"
            writer.write(f"{answer}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
