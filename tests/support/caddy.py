"""The real Caddy with our configuration, on free ports, and pebble, a real ACME server, for its certificates."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tako.server import caddy
from tests.support.ports import free_port

PATIENCE_S = 30.0
BINARY = Path(sys.executable).with_name("caddy")


class Caddy:
    """Caddy in `folder`; `hosts` is the folder that it reads. A `with` starts and stops it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.hosts = folder / "hosts"
        self.log = folder / "caddy.log"
        http_port, https_port, ask_port = free_port(), free_port(), free_port()
        self.settings = caddy.Settings(
            http_port=http_port, https_port=https_port, ask_port=ask_port, hosts=str(self.hosts),
            admin=str(folder / "admin.sock"), log=str(self.log), **settings,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.hosts.mkdir(exist_ok=True)
        config = self.folder / "caddy.json"
        config.write_text(json.dumps(caddy.config(self.settings)))
        home = {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "data")}
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [str(BINARY), "run", "--config", str(config)], env={**os.environ, **home}, stdout=out, stderr=out
            )
        wait_for_port(self.settings.https_port, self.process, self.folder / "out")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, host: str, path: str = "/", *, named: str | None = None, method: str = "GET") -> tuple[int, str]:
        """Status and body of a request by https. `named` is another Host than the one that shakes hands."""
        with self.connect(host) as secured:
            request = f"{method} {path} HTTP/1.1\r\nHost: {named or host}\r\nConnection: close\r\n\r\n"
            secured.sendall(request.encode())
            answer = b"".join(iter(lambda: secured.recv(65_536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    @contextlib.contextmanager
    def connect(self, host: str) -> Iterator[ssl.SSLSocket]:
        """A connection after its handshake. Raises ssl.SSLError when the host is refused."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.settings.https_port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            yield secured


class App:
    """An app on a unix socket: it answers with its name and what it was asked."""

    def __init__(self, path: Path) -> None:
        name = path.name

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f"{name} {self.path} {self.headers['X-Forwarded-Proto']}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_UNIX

            def server_bind(self) -> None:
                self.socket.bind(str(path))
                self.server_name, self.server_port = name, 0

        self.socket = path
        self._server = Server(("", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name=f"app-{name}")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)


class Pebble:
    """An ACME server that validates for real, over the ports of a Caddy. It is at `host`; all names lead to `names`."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", names: str = "127.0.0.1") -> None:
        self.folder = folder
        self._host = host
        self._leads_to = names
        self.port, self._management, self._dns, self._dns_management = (free_port() for _ in range(4))
        self.root = folder / "pebble.pem"

    @property
    def directory(self) -> str:
        return f"https://{self._host}:{self.port}/dir"

    def authority(self) -> str:
        """The certificate that all its certificates are trusted by, in PEM. After `start`."""
        trusting = ssl.create_default_context(cafile=str(self.root))
        with urllib.request.urlopen(f"https://{self._host}:{self._management}/roots/0", context=trusting) as answer:
            text: str = answer.read().decode()
        return text

    def start(self, *, http_port: int, tls_port: int) -> None:
        """Start it for challenges on these ports. `pebble` is a Debian package: scripts/debian-packages."""
        assert shutil.which("pebble"), "pebble is missing: scripts/install --tests"
        self._write_certificate()
        config = {
            "pebble": {
                "listenAddress": f"{self._host}:{self.port}",
                "managementListenAddress": f"{self._host}:{self._management}",
                "certificate": str(self.root), "privateKey": str(self.folder / "pebble.key"), "httpPort": http_port,
                "tlsPort": tls_port, "ocspResponderURL": "", "externalAccountBindingRequired": False,
            }
        }  # fmt: skip
        (self.folder / "pebble.json").write_text(json.dumps(config))
        dns = f"127.0.0.1:{self._dns}"
        self._names = self._run(
            "pebble-challtestsrv", "-defaultIPv6", "", "-defaultIPv4", self._leads_to, "-dns01", dns, "-http01", "",
            "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{self._dns_management}",
        )  # fmt: skip
        self._server = self._run(
            "pebble", "-config", str(self.folder / "pebble.json"), "-dnsserver", dns,
            PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0",
        )  # fmt: skip
        wait_for_port(self.port, self._server, self.folder / "pebble.out", host=self._host)

    def stop(self) -> None:
        """Twice is harmless."""
        for process in (self._server, self._names):
            process.terminate()
            process.wait(PATIENCE_S)

    def _run(self, *argv: str, **env: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{argv[0]}.out").open("ab") as out:
            return subprocess.Popen(argv, stdout=out, stderr=out, env={**os.environ, **env})

    def _write_certificate(self) -> None:
        """Of the ACME server itself: Caddy trusts it by `acme_root`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pebble")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(self._host))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.root.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / "pebble.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def wait_for_port(port: int, process: subprocess.Popen[bytes], out: Path, *, host: str = "127.0.0.1") -> None:
    """Wait until somebody listens there; there is no event for that. Fails with the output when the process ends."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, out.read_text()
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"nobody listens on {port}: {out.read_text()}")
