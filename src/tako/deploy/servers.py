"""The servers that this user knows: `~/.config/tako/servers.json`, with the address and the host key of each.

A name in `servers = [...]` of tako.toml is looked up here. For machines that have no such file (CI), tako.toml itself
may hold both: `[servers.NAME]` with `address` and `host_key`.
"""

import base64
import binascii
import difflib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tako.errors import TakoError

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z_][A-Za-z0-9_.-]*)@)?(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server and how to reach it. `user`, `port` and `identity` None are left to ssh and its configuration.

    `host_key` is the one key that it may show: type and base64, as in a .pub file.
    """

    name: str
    host: str
    host_key: str
    user: str | None = None
    port: int | None = None
    identity: str | None = None

    @property
    def address(self) -> str:
        """As a person types it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return "".join([f"{self.user}@" if self.user else "", host, f":{self.port}" if self.port else ""])


def config_folder(environ: Mapping[str, str]) -> Path:
    """Where this user's Tako keeps what belongs to no app: servers, private keys."""
    base = environ.get("XDG_CONFIG_HOME", "")
    home = environ.get("HOME") or "~"
    return (Path(base) if base.startswith("/") else Path(home).expanduser() / ".config") / "tako"


def parse_address(text: str) -> tuple[str | None, str, int | None]:
    """User, host and port of `root@host:22`. Raises TakoError when it is no address."""
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65_536):
        raise TakoError(f"{text[:80]!r} is not an address.", cure="Write it as root@203.0.113.5 or root@host:2222.")
    return found["user"], found["six"] or found["host"], port


def fingerprint(host_key: str) -> str:
    """SHA256:… of a host key, as ssh shows it. Raises TakoError when it is no key."""
    words = host_key.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        raise TakoError(
            f"{host_key[:40]!r} is not a host key.",
            cure='Write it as in /etc/ssh/ssh_host_ed25519_key.pub: "ssh-ed25519 AAAA…".',
        ) from None
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode()


class Registry:
    """The file. Every change replaces it by rename."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "servers.json"

    def all(self) -> dict[str, Server]:
        """Every server, by name. Raises TakoError when the file is not what this class writes."""
        try:
            document = json.loads(self.path.read_bytes())
            return {name: Server(name=name, **values) for name, values in document["servers"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise TakoError(f"{self.path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TakoError(
                f"{self.path} is not what `tako servers add` writes.",
                cure="Mend it, or move it away and add the servers again: nothing on them is lost.",
            ) from error

    def get(self, name: str) -> Server:
        """The server of this name. Raises TakoError with the nearest name."""
        known = self.all()
        if name in known:
            return known[name]
        raise unknown(name, known)

    def put(self, server: Server) -> None:
        """Add it, or replace the one of its name."""
        self._write({**self.all(), server.name: server})

    def remove(self, name: str) -> None:
        """Forget it; the server itself is not touched. Raises TakoError when it is unknown."""
        self.get(name)
        self._write({known: server for known, server in self.all().items() if known != name})

    def _write(self, servers: Mapping[str, Server]) -> None:
        content = {
            name: {key: value for key, value in asdict(server).items() if key != "name" and value is not None}
            for name, server in sorted(servers.items())
        }
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd, temporary = tempfile.mkstemp(prefix=".servers-", dir=self.path.parent)
            with os.fdopen(fd, "w") as file:
                file.write(json.dumps({"servers": content}, indent=2) + "\n")
                file.flush()
                os.fsync(fd)
            Path(temporary).replace(self.path)
        except OSError as error:
            raise TakoError(f"{self.path} cannot be written: {error.strerror}.") from error


def unknown(name: str, known: Iterable[str]) -> TakoError:
    """The error for a server that is not in the registry."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    listed = f"Known: {', '.join(names)}. " if names and not near else "" if names else "There is none yet. "
    return TakoError(
        f"There is no server {name!r} on this machine's list.",
        cure=f"{hint}{listed}Add it: tako servers add root@ADDRESS --name {name}",
    )
