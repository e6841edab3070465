"""Have Caddy get a certificate before the first visitor asks for it, and say what came of it.

A certificate is fetched at the first handshake for its host. One handshake at a time: certificate authorities, and
Caddy itself, limit how many are asked for at once.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tako.server.caddy import Settings
from tako.server.hosts import Hosts

DEADLINE_S = 20.0
RENEW_EVERY_S = 12 * 3600.0
_LOG_BYTES = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a host has now. `issuer` is None when it has none, and `problem` says why."""

    host: str
    issuer: str | None = None
    expires_ms: int | None = None
    problem: str | None = None


class Keeper:
    """Sees to it that every host has a certificate: at its deploy, and daily, since Caddy renews at handshakes."""

    def __init__(self, hosts: Hosts, ingress: Settings) -> None:
        self._hosts = hosts
        self._ingress = ingress
        self._one_at_a_time = asyncio.Lock()

    async def fetch(self, host: str, *, deadline_s: float = DEADLINE_S) -> Certificate:
        """The host's certificate, fetched if it has none."""
        async with self._one_at_a_time:
            log = Path(self._ingress.log)
            return await asyncio.to_thread(warm, host, port=self._ingress.https_port, log=log, deadline_s=deadline_s)

    async def renew(self) -> None:
        """Ask for every host, again and again. What has gone wrong stands in Caddy's log, and in the next deploy."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            for host in self._hosts.names():
                await self.fetch(host)


def warm(host: str, *, port: int, log: Path, deadline_s: float = DEADLINE_S) -> Certificate:
    """Shake hands for this host, which fetches its certificate, or renews it when it is due. Blocks.

    `log` is Caddy's, from which the reason is taken when it has none by the deadline.
    """
    since_s = time.time()
    context = ssl.create_default_context()
    context.check_hostname = False  # Whoever signed it: we ask whether there is one, not whether we trust it.
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=deadline_s) as plain:
            plain.settimeout(deadline_s)
            with context.wrap_socket(plain, server_hostname=host) as secured:
                found = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    except ConnectionRefusedError:
        return Certificate(host=host, problem=f"nothing listens on port {port}: is tako-caddy running?")
    except (OSError, ValueError) as error:
        why = _reason(log, host, since_s=since_s) or _words(error, deadline_s)
        return Certificate(host=host, problem=why)
    expires_ms = int(found.not_valid_after_utc.timestamp() * 1000)
    return Certificate(host=host, issuer=_issuer(found), expires_ms=expires_ms)


def _issuer(found: x509.Certificate) -> str:
    for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
        for attribute in found.issuer.get_attributes_for_oid(oid):
            return str(attribute.value)
    return "an unnamed authority"


def _words(error: Exception, deadline_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no certificate came within {deadline_s:g} s"
    return "the handshake was refused: the host is not one that may have a certificate"


def _reason(log: Path, host: str, *, since_s: float) -> str | None:
    """What Caddy said last about a certificate for the host."""
    reason = None
    for entry in _entries(log):
        at_s = entry.get("ts")
        is_new = isinstance(at_s, float) and at_s >= since_s - 1
        if entry.get("level") == "error" and is_new and host in json.dumps(entry):
            reason = str(entry.get("error") or entry.get("msg") or "") or reason
    return reason


def _entries(log: Path) -> Iterator[dict[str, object]]:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        for line in file:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    yield entry
