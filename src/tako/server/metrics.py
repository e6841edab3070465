"""`/metrics`: what there is to count, in the text format of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tako.host import status as engine_status
from tako.protocol import http1
from tako.server import routing

if TYPE_CHECKING:
    from tako.server.daemon import Daemon
    from tako.server.site import Site

Sample = tuple[Mapping[str, str], float]
HEAD_TIMEOUT_S = 10.0


def text(daemon: Daemon) -> str:
    """Everything, now."""
    found: list[str] = []
    sites = list(daemon.sites.values())
    found += _metric("tako_up", "gauge", "1 as long as the daemon answers", [({}, 1.0)])
    found += _metric(
        "tako_web_instances",
        "gauge",
        "web instances that serve",
        [(_of(site), float(_instances(site))) for site in sites],
    )
    found += _metric(
        "tako_web_requests_total", "counter", "requests that instances have answered, those that ended included",
        [(_of(site), float(site.pool.requests)) for site in sites if site.pool is not None],
    )  # fmt: skip
    found += _metric(
        "tako_web_requests_in_flight", "gauge", "requests that are being answered",
        [(_of(site), float(site.pool.inflight)) for site in sites if site.pool is not None],
    )  # fmt: skip
    found += _metric(
        "tako_web_cold_starts_total", "counter", "times that a request has woken the web app",
        [(_of(site), float(site.pool.wakes)) for site in sites if site.pool is not None],
    )  # fmt: skip
    found += _metric(
        "tako_web_restarts_total", "counter", "instances that ended without being asked to",
        [(_of(site), float(site.pool.deaths)) for site in sites if site.pool is not None],
    )  # fmt: skip
    found += _metric("tako_runs", "gauge", "runs by status", _runs(sites))
    found += _metric("tako_workers", "gauge", "worker processes by group and state", _workers(sites))
    found += _metric("tako_group_failures", "gauge", "failed starts in a row, by group", _failures(sites))
    found += _metric(
        "tako_deploy_running", "gauge", "1 as long as a job is under way",
        [(_of(site), 0.0 if site.job is None else 1.0) for site in sites],
    )  # fmt: skip
    return "\n".join(found) + "\n"


def _of(site: Site) -> dict[str, str]:
    return {"app": site.app, "env": site.env}


def _instances(site: Site) -> int:
    return 0 if site.pool is None else len(site.pool.serving)


def _runs(sites: Iterable[Site]) -> list[Sample]:
    return [
        ({**_of(site), "status": name}, float(n))
        for site in sites
        if site.host is not None
        for name, n in engine_status.totals(dict(site.host.store.counts)).items()
    ]


def _workers(sites: Iterable[Site]) -> list[Sample]:
    found: dict[tuple[str, ...], int] = {}
    for site in sites:
        for group, pool in site.host.groups.pools.items() if site.host is not None else ():
            for slot in pool.state.slots:
                key = (site.app, site.env, group, slot.phase.value)
                found[key] = found.get(key, 0) + 1
    return [
        ({"app": app, "env": env, "group": group, "state": state}, float(n))
        for (app, env, group, state), n in sorted(found.items())
    ]


def _failures(sites: Iterable[Site]) -> list[Sample]:
    return [
        ({**_of(site), "group": group}, float(pool.state.failures))
        for site in sites
        if site.host is not None
        for group, pool in site.host.groups.pools.items()
    ]


def _metric(name: str, kind: str, what: str, samples: Iterable[Sample]) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *(_line(name, *sample) for sample in samples)]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {value:g}" if shown else f"{name} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
            body = text(self._daemon).encode() if is_ours else b"Ask for /metrics.\n"
            status = b"200 OK" if is_ours else b"404 Not Found"
            writer.write(
                b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                b"Content-Length: " + str(len(body)).encode() + b"\r\nConnection: close\r\n\r\n" + body
            )
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
