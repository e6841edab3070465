"""What a server is, before anything is put on it: one small script, and what is wrong with its answers."""

from collections.abc import Iterator
from dataclasses import dataclass

from tako.deploy.payload import CAN_RUN_ON

MIN_SYSTEMD = 247  # scopes with limits for what a service starts, and descriptors that it keeps
MIN_FREE_MB = 700
MIN_PYTHON = (3, 11)

# POSIX sh, and nothing that a bare Debian has not. A line a fact.
SCRIPT = r"""
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
fact() { printf '%s=%s\n' "$1" "$2"; }
fact os "$(. /etc/os-release 2>/dev/null; printf '%s' "${PRETTY_NAME:-unknown}")"
fact kernel "$(uname -s)"
fact machine "$(uname -m)"
fact uid "$(id -u)"
case "$(ldd --version 2>&1)" in
  *musl*) fact libc musl ;;
  *) fact libc "glibc $(ldd --version 2>/dev/null | head -n 1 | sed 's/.* //')" ;;
esac
[ -d /run/systemd/system ] && fact systemd "$(systemctl --version | head -n 1 | cut -d' ' -f2)"
fact free_mb "$(df -Pm /var | tail -n 1 | awk '{print $4}')"
for python in python3 python3.14 python3.13 python3.12 python3.11; do
  path=$(command -v "$python") || continue
  fact python "$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) $path"
done
for port in 80 443; do
  fact "port_$port" "$( (ss -Hltnp "sport = :$port" 2>/dev/null || true) | head -n 1)"
done
command -v tako-server >/dev/null && fact tako "$(tako-server --version 2>/dev/null | cut -d' ' -f2)"
for tool in tar useradd setpriv systemd-run; do command -v $tool >/dev/null || fact missing "$tool"; done
true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the script told. `tako` is the version that is installed, `ports` who holds 80 and 443 (None: nobody)."""

    os: str
    kernel: str
    machine: str
    libc: str
    uid: int
    systemd: int | None
    free_mb: int
    pythons: tuple[tuple[tuple[int, int], str], ...]
    ports: dict[int, str | None]
    missing: tuple[str, ...]
    tako: str | None

    @property
    def python(self) -> str | None:
        """The path of a Python that will do; None when uv must bring one."""
        return next((path for version, path in self.pythons if version >= MIN_PYTHON), None)

    @property
    def python_version(self) -> str:
        """That Python's, or the one that uv brings."""
        version = next((version for version, _ in self.pythons if version >= MIN_PYTHON), MIN_PYTHON)
        return f"{version[0]}.{version[1]}"


def parse(text: str) -> Probe:
    """The answers of SCRIPT."""
    facts: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            facts.setdefault(name, []).append(value.strip())

    def one(name: str) -> str:
        return facts.get(name, [""])[0]

    return Probe(
        os=one("os"),
        kernel=one("kernel"),
        machine=one("machine"),
        libc=one("libc"),
        uid=int(one("uid") or -1),
        systemd=int("".join(filter(str.isdigit, one("systemd"))) or 0) or None,
        free_mb=int(one("free_mb") or 0),
        pythons=tuple(_pythons(facts.get("python", []))),
        ports={port: _holder(one(f"port_{port}")) for port in (80, 443)},
        missing=tuple(facts.get("missing", [])),
        tako=one("tako") or None,
    )


def problems(probe: Probe, *, needs_ports: bool) -> Iterator[str]:
    """Why this machine cannot be a server, each with what would help."""
    if probe.kernel != "Linux":
        yield f"it runs {probe.kernel or 'an unknown system'}; Tako's server needs Linux"
        return
    if probe.machine not in CAN_RUN_ON:
        yield f"its machine is {probe.machine}; Tako runs on {' and '.join(CAN_RUN_ON)}"
    if probe.uid != 0:
        yield "the login has no rights of root: log in as root, or allow `sudo` without a password"
    if probe.systemd is None:
        yield "systemd does not run it; in a container, start `tako-server --foreground` yourself"
    elif probe.systemd < MIN_SYSTEMD:
        yield f"its systemd is {probe.systemd}; at least {MIN_SYSTEMD} is needed (Debian 11, Ubuntu 22.04)"
    if probe.free_mb < MIN_FREE_MB:
        yield f"{probe.free_mb} MB are free in /var; {MIN_FREE_MB} MB are needed"
    for tool in probe.missing:
        yield f"it has no {tool}: install the package that brings it"
    if needs_ports:
        for port, holder in probe.ports.items():
            if holder is not None:
                yield f"port {port} is held by {holder}: stop it, or give Tako other ports with --http and --https"


def _pythons(lines: list[str]) -> Iterator[tuple[tuple[int, int], str]]:
    for line in lines:
        version, _, path = line.partition(" ")
        major, _, minor = version.partition(".")
        if major.isdigit() and minor.isdigit():
            yield (int(major), int(minor)), path


def _holder(line: str) -> str | None:
    """Who listens, from a line of `ss`: users:(("nginx",pid=812,fd=6))."""
    if not line:
        return None
    name = line.partition('(("')[2].partition('"')[0]
    pid = line.partition("pid=")[2].partition(",")[0]
    return f"{name} (pid {pid})" if name and pid.isdigit() else "another program"
