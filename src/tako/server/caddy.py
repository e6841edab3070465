"""The whole configuration of Caddy: it is made once, when the server is installed, and no deploy changes it.

A new host is a new folder under `hosts/` (`hosts.py`): Caddy finds the app's socket through a placeholder in the
path, so nothing is reloaded and no connection of anybody is dropped. Also who may have a certificate is a question to
that folder, which Caddy asks itself; so certificates do not depend on the daemon.

    python -m tako.server.caddy [/etc/tako/server.toml] > /etc/tako/caddy.json
"""

import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOSTS = "/run/tako/hosts"
ADMIN = "/run/tako-caddy/admin.sock"
LOG = "/var/log/tako-caddy/caddy.log"
# How many path segments of a route are looked at: example.com/a/b/c.
DEPTH = 3
# The folder of *.example.com is _.example.com: a `*` would be a pattern, and no host of a route has a `_`.
WILDCARD = "_."
NOBODY = "_none"
NOBODY_ANSWERS = "No app answers here.\n"
SEGMENT = "{{http.request.uri.path.{}}}"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`[https]` of /etc/tako/server.toml. `acme` None is Let's Encrypt, "internal" certificates of Caddy's own.

    `acme_root` is a file with the certificate that an ACME server of one's own is trusted by. `ask_port` is used on
    127.0.0.1 only.
    """

    http_port: int = 80
    https_port: int = 443
    ask_port: int = 7999
    email: str | None = None
    acme: str | None = None
    acme_root: str | None = None
    hosts: str = HOSTS
    admin: str = ADMIN
    log: str = LOG


_KEYS: dict[str, type] = {
    "http_port": int, "https_port": int, "ask_port": int, "email": str, "acme": str, "acme_root": str, "hosts": str,
    "admin": str, "log": str,
}  # fmt: skip


def settings_of(path: Path) -> Settings:
    """What the file says; the defaults without one. Raises ValueError for what it cannot mean."""
    try:
        table = tomllib.loads(path.read_text()).get("https", {})
    except FileNotFoundError:
        return Settings()
    if not isinstance(table, dict):
        raise ValueError(f"{path}: https: expected a table")
    for key, value in table.items():
        if key not in _KEYS:
            raise ValueError(f"{path}: https.{key}: unknown key; known: {', '.join(sorted(_KEYS))}")
        if type(value) is not _KEYS[key]:
            raise ValueError(f"{path}: https.{key}: expected a {_KEYS[key].__name__}, found {value!r}")
    return Settings(**table)


def config(settings: Settings) -> Json:
    """The configuration, as Caddy's JSON."""
    return {
        # Without `origins` the admin API refuses requests over a unix socket.
        "admin": {"listen": f"unix/{settings.admin}", "origins": ["localhost"], "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "INFO", "writer": _log_file(settings.log)}}},
        "apps": {
            "tls": {"automation": _automation(settings)},
            # Its own authority is for `acme = "internal"`; it must not make the machine trust it.
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "http": {
                "http_port": settings.http_port,
                "https_port": settings.https_port,
                "grace_period": "30s",
                "servers": {
                    "ask": _ask(settings),
                    "http": _http(settings),
                    "https": _https(settings),
                },
            },
        },
    }


def _log_file(path: str) -> Json:
    return {"output": "file", "filename": path, "mode": "0640", "roll_size_mb": 10, "roll_keep": 5}


# --- certificates ---


def _automation(settings: Settings) -> Json:
    issuer: Json = {"module": "internal"}
    if settings.acme != "internal":
        issuer = {
            "module": "acme",
            "email": settings.email,
            "ca": settings.acme,
            "trusted_roots_pem_files": [settings.acme_root] if settings.acme_root else None,
            # Challenges come in on the ports that we listen on; a server behind a port-forward has others.
            "challenges": {
                "http": {"alternate_port": settings.http_port},
                "tls-alpn": {"alternate_port": settings.https_port},
            },
        }
    permission = {"module": "http", "endpoint": f"http://127.0.0.1:{settings.ask_port}/"}
    return {
        "on_demand": {"permission": permission},
        "policies": [{"on_demand": True, "issuers": [_without_none(issuer)]}],
    }


def _ask(settings: Settings) -> Json:
    """Whether a host may have a certificate: when its folder holds `tls`, or that of its wildcard."""
    marker = {"root": settings.hosts, "try_files": ["/{tako.host}/tls", "/{tako.wildcard}/tls"]}
    return {
        "listen": [f"127.0.0.1:{settings.ask_port}"],
        "automatic_https": {"disable": True},
        "routes": [
            *_names_of("{http.request.uri.query.domain}"),
            {"match": [{"file": marker}], "handle": [_answer(200)], "terminal": True},
            {"handle": [_answer(403)]},
        ],
    }


# --- requests ---


def _http(settings: Settings) -> Json:
    """Everything goes to https, under the same name; the port is only said when it is not the usual one."""
    port = "" if settings.https_port == 443 else f":{settings.https_port}"
    location = f"https://{{http.request.host}}{port}{{http.request.uri}}"
    return {
        "listen": [f":{settings.http_port}"],
        "automatic_https": {"disable": True},
        "routes": [{"handle": [_answer(308, headers={"Location": [location]})]}],
    }


def _https(settings: Settings) -> Json:
    host = {"root": settings.hosts, "try_files": ["/{tako.host}/", "/{tako.wildcard}/"]}
    # The longest path that a route names, else the host itself.
    paths = [
        "/paths/" + "".join(f"~{SEGMENT.format(at)}" for at in range(depth)) + "/" for depth in range(DEPTH, 0, -1)
    ]
    app = {"root": f"{settings.hosts}/{{http.vars.host}}", "try_files": [*paths, "/"]}
    folder = f"{settings.hosts}/{{http.vars.host}}/{{http.vars.app}}"
    return {
        "listen": [f":{settings.https_port}"],
        "tls_connection_policies": [{}],
        "automatic_https": {"disable_redirects": True},
        "routes": [
            *_names_of("{http.request.host}"),
            _when({"not": [{"file": host}]}, _answer(404, body=NOBODY_ANSWERS)),
            {"match": [{"file": host}], "handle": [_remember("host")]},
            {"match": [{"file": app}], "handle": [_remember("app")]},
            # The folder of a host may be there for its paths only.
            _when({"not": [{"file": {"root": folder, "try_files": ["owner"]}}]}, _answer(404, body=NOBODY_ANSWERS)),
            _when(
                {"file": {"root": folder, "try_files": ["maintenance"]}},
                _answer(503, body="Down for maintenance.\n", headers={"Retry-After": ["30"]}),
            ),
            _static(f"{folder}/public"),
            {"handle": [{"handler": "encode", "encodings": {"gzip": {}, "zstd": {}}}, _proxy(f"{folder}/sock")]},
        ],
        "errors": {
            "routes": [{"handle": [_answer(502, body="The app does not answer.\n", headers={"Retry-After": ["5"]})]}]
        },
    }


def _static(root: str) -> Json:
    """Files of the app's static folders, by Caddy itself. What is not there is the app's to answer."""
    match = {
        "method": ["GET", "HEAD"],
        "path_regexp": {"pattern": r"\.[A-Za-z0-9]+$"},
        "file": {"root": root, "try_files": ["{http.request.uri.path}"]},
    }
    return _when(match, {"handler": "file_server", "root": root})


def _proxy(socket: str) -> Json:
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{socket}"}],
        # Over a unix socket a new connection costs nothing, and a connection that is one request is drained by waiting.
        "transport": {"protocol": "http", "keep_alive": {"enabled": False}},
        "stream_close_delay": "24h",
        # A full queue, or a daemon that is about to bind the socket: dial again. Requests that were sent are not.
        "load_balancing": {"try_duration": "10s", "try_interval": "50ms"},
    }


def _names_of(host: str) -> list[Json]:
    """Set `tako.host` (without a trailing dot) and `tako.wildcard` (the folder of *.PARENT) from a host name."""
    name = r"[a-z0-9-]+(?:\.[a-z0-9-]+)*"
    whole = {"input_regexp": rf"^({name})\.?$", "outputs": ["${1}"]}
    parent = {"input_regexp": rf"^[a-z0-9-]+\.({name})\.?$", "outputs": [f"{WILDCARD}${{1}}"]}
    return [
        {"handle": [_map(host, "{tako.host}", whole, default=NOBODY)]},
        {"handle": [_map(host, "{tako.wildcard}", parent, default=NOBODY)]},
    ]


def _map(source: str, destination: str, mapping: Json, *, default: str) -> Json:
    return {
        "handler": "map", "source": source, "destinations": [destination], "mappings": [mapping], "defaults": [default],
    }  # fmt: skip


def _remember(name: str) -> Json:
    """Keep the folder that the file matcher has just found."""
    return {"handler": "vars", name: "{http.matchers.file.relative}"}


def _when(match: Json, handler: Json) -> Json:
    return {"match": [match], "handle": [handler], "terminal": True}


def _answer(status: int, *, body: str = "", headers: Json | None = None) -> Json:
    answer = {"handler": "static_response", "status_code": status, "body": body or None, "headers": headers}
    return _without_none(answer)


def _without_none(values: Mapping[str, Any]) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def main(argv: list[str]) -> int:
    """Print the configuration for a server.toml."""
    try:
        settings = settings_of(Path(argv[0] if argv else "/etc/tako/server.toml"))
    except (ValueError, TypeError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command of its own, run by the installation
        return 1
    print(json.dumps(config(settings), indent=1))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
