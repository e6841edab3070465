"""The real Prometheus, which scrapes one page each second and answers queries."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

CONFIG = """
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: tako
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Prometheus:
    """Scrapes the port. A `with` starts and stops it."""

    def __init__(self, folder: Path, *, scrapes: int) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "prometheus.yml").write_text(CONFIG.format(port=scrapes))

    def __enter__(self) -> Self:
        arguments = {
            "config.file": self.folder / "prometheus.yml",
            "storage.tsdb.path": self.folder / "prometheus",
            "web.listen-address": f"127.0.0.1:{self.port}",
            "log.level": "warn",
        }
        self.log = (self.folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            ["prometheus", *(f"--{name}={value}" for name, value in arguments.items())],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def query(self, text: str) -> list[float]:
        """The values that a query finds, without those that are no numbers. None as long as it does not answer yet."""
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "prometheus.log").read_text())
        query = urllib.parse.urlencode({"query": text})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:  # it has not read its own files yet
                    raise AssertionError(f"{text}: {error.read().decode()}") from error
            return []
        except urllib.error.URLError:  # it does not listen yet
            return []
        values = [float(each["value"][1]) for each in found]
        return [value for value in values if not math.isnan(value)]
