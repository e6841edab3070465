"""Servers for tests of what happens over SSH: a real Debian with systemd, and a plain sshd where that cannot be.

`Box` is a machine as a provider rents it out: Debian 12 with systemd and sshd and nothing else, booted by
systemd-nspawn with a network of its own, reached at an address that only this machine has. Its disk is a layer over a
system that is put together once, by debootstrap from the mirror that this machine itself uses, and kept in `build/`.

`PlainBox` is sshd and `tako-server --foreground` as processes of ours: the same SSH, channel, daemon and Caddy-less
ingress, in a second. What needs systemd is not tested by it.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pytest

from tests.support.ports import free_port
from tests.support.server import SERVER, Server

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "box"
PATIENCE_S = 60.0
SUITE = "bookworm"
INCLUDED = (
    "systemd", "systemd-sysv", "dbus", "python3", "openssh-server", "ca-certificates", "iproute2", "procps",
)  # fmt: skip
NETWORK = ipaddress.IPv4Network("10.213.0.0/16")  # a /30 of it a box; it exists on this machine only


class Keys:
    """A key pair to log in with, and one for the host."""

    def __init__(self, folder: Path) -> None:
        self.login = folder / "id"
        self.host = folder / "host_key"
        for path in (self.login, self.host):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)

    @property
    def host_fingerprint(self) -> str:
        shown = subprocess.run(
            ["ssh-keygen", "-lf", f"{self.host}.pub"], check=True, capture_output=True, text=True
        ).stdout
        return shown.split()[1]


class PlainBox:
    """sshd on a free port of 127.0.0.1, and `server` behind it. A `with` starts and ends both."""

    def __init__(self, folder: Path, *, watch_s: float = 0.4) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.keys = Keys(folder)
        self.server = Server(folder, watch_s=watch_s)
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._write_ssh()
        self.start_ssh()
        try:
            self.server.start()
        except BaseException:
            self.stop_ssh()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_ssh()
        self.server.__exit__(kind, error, trace)

    def _write_ssh(self) -> None:
        binaries = self.folder / "bin"
        binaries.mkdir()
        wrapper = binaries / "tako-server"
        wrapper.write_text(f'#!/bin/sh\nexec {SERVER} --run-dir {self.server.run} "$@"\n')
        wrapper.chmod(0o755)
        authorized = self.folder / "authorized_keys"
        authorized.write_text(Path(f"{self.keys.login}.pub").read_text())
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.keys.host}\nAuthorizedKeysFile {authorized}\n"
            f"StrictModes no\nPidFile {self.folder}/sshd.pid\nUsePAM no\nPasswordAuthentication no\n"
            f"SetEnv PATH={binaries}:/usr/bin:/bin\n"
        )

    def start_ssh(self) -> None:
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "sshd.log").open("ab") as log:
            self._sshd = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL
            )
        wait_for(lambda: _listens("127.0.0.1", self.port), "sshd", self._sshd)

    def stop_ssh(self) -> None:
        """No new connections; those that are there stay, as sshd's do."""
        self._sshd.terminate()
        self._sshd.wait(PATIENCE_S)

    def new_host_key(self) -> None:
        """As after a new installation."""
        self.stop_ssh()
        for path in (self.keys.host, Path(f"{self.keys.host}.pub")):
            path.unlink()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.keys.host)], check=True)
        self.start_ssh()

    def cut_connections(self) -> None:
        """End every SSH session as a cable that is pulled does: without a word to the other side."""
        for pid in children_of(self._sshd.pid):
            for each in (*descendants_of(pid), pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)


class Box:
    """A Debian. `boot` it; a `with` boots and removes it. Its disk stays over `power_cut` and `reboot`."""

    def __init__(self, folder: Path, *, disk_mb: int | None = None) -> None:
        self.folder = folder
        self.keys = Keys(folder)
        self.root = folder / "root"
        self.name = ""  # after its network, of which there is one on this machine
        self._disk_mb = disk_mb
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._claim: IO[bytes] | None = None

    @property
    def host(self) -> str:
        return str(self._addresses[1])

    @property
    def gateway(self) -> str:
        """This machine, as the box sees it."""
        return str(self._addresses[0])

    @property
    def address(self) -> str:
        return f"root@{self.host}"

    def __enter__(self) -> Self:
        base = base_system()
        self._claim, self._addresses = claim_network()
        self.name = f"tako-{self._addresses[1].packed[2]}-{self._addresses[1].packed[3]}"
        layers = self.folder / "layers"
        layers.mkdir()
        size = f"size={self._disk_mb}m" if self._disk_mb else "mode=0755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tako-box", str(layers)], check=True)
        for name in ("upper", "work"):
            (layers / name).mkdir()
        self.root.mkdir()
        options = f"lowerdir={base},upperdir={layers}/upper,workdir={layers}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "tako-box", str(self.root)], check=True)
        self._configure()
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.power_cut()
        for path in (self.root, self.folder / "layers"):
            subprocess.run(["umount", "--lazy", str(path)], check=False)
        if self._claim is not None:
            self._claim.close()

    def _configure(self) -> None:
        etc = self.root / "etc"
        shutil.copy(self.keys.host, etc / "ssh/ssh_host_ed25519_key")
        shutil.copy(f"{self.keys.host}.pub", etc / "ssh/ssh_host_ed25519_key.pub")
        (etc / "ssh/ssh_host_ed25519_key").chmod(0o600)
        (etc / "ssh/sshd_config.d/box.conf").write_text(
            "HostKey /etc/ssh/ssh_host_ed25519_key\nPermitRootLogin prohibit-password\n"
        )
        (self.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        (self.root / "root/.ssh/authorized_keys").write_text(Path(f"{self.keys.login}.pub").read_text())
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "machine-id").write_text("")
        # The box has no way out: what environments are built from is a folder of wheels of this machine.
        (etc / "uv").mkdir(exist_ok=True)
        (etc / "uv/uv.toml").write_text('no-index = true\nfind-links = ["/wheels"]\n')

    def boot(self) -> None:
        """Boot it, and wait until SSH answers."""
        network = [f"--network-veth-extra=ve-{self.name}:host0", "--private-network"]
        binds = [f"--bind-ro={app_wheels()}:/wheels"]
        # In control groups of its own: else units of two boxes that have one name would be one unit to the kernel.
        enter = 'for each in "$@"; do [ "$each" != -- ] || { shift; break; }; echo $$ > "$each"; shift; done; exec "$@"'
        groups = [f"{path}/cgroup.procs" for path in control_groups(self.name)]
        with (self.folder / "console.log").open("ab") as log:
            self._nspawn = subprocess.Popen(
                # It dies with us, or else a killed test run would leave its boxes on the machine, with their addresses.
                ["sh", "-euc", enter, "sh", *groups, "--", "setpriv", "--pdeathsig", "TERM",
                 "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--directory", str(self.root),
                 "--machine", self.name, "--resolv-conf=off", "--kill-signal=SIGRTMIN+3", *network, *binds, "--boot"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: bool(children_of(self._pid)) and self._link_is_there(), "systemd-nspawn", self._nspawn)
        ours, theirs = self._addresses
        run("ip", "addr", "add", f"{ours}/30", "dev", f"ve-{self.name}")
        run("ip", "link", "set", f"ve-{self.name}", "up")
        inside = ["nsenter", "-t", str(children_of(self._pid)[0]), "-n", "ip"]
        is_there = [*inside, "link", "show", "host0"]
        wait_for(
            lambda: subprocess.run(is_there, capture_output=True, check=False).returncode == 0, "host0", self._nspawn
        )
        run(*inside, "addr", "add", f"{theirs}/30", "dev", "host0")
        run(*inside, "link", "set", "host0", "up")
        wait_for(lambda: _listens(self.host, 22), f"sshd of {self.name} (see {self.folder}/console.log)", self._nspawn)

    def power_cut(self) -> None:
        """Everything in it dies at once. Twice is harmless."""
        if self._nspawn is None:
            return
        for pid in descendants_of(self._pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._nspawn.kill()
        self._nspawn.wait(PATIENCE_S)
        self._nspawn = None
        subprocess.run(["ip", "link", "del", f"ve-{self.name}"], check=False, capture_output=True)
        for group in control_groups(self.name):
            for each in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    each.rmdir()

    def watch_for(self, seconds: float = 0.5) -> None:
        """Let a new release be watched for a moment only. After `tako servers add`."""
        self.sh(
            f"""
            mkdir -p /etc/systemd/system/tako-server.service.d
            cd /etc/systemd/system
            line=$(grep ^ExecStart= tako-server.service)
            printf '[Service]\\nExecStart=\\n%s --watch {seconds}\\n' "$line" > tako-server.service.d/test.conf
            systemctl daemon-reload
            systemctl restart tako-server
            """
        )

    def reboot(self, *, clean: bool) -> None:
        """Off and on again; `clean` lets its services stop first."""
        if clean:
            assert self._nspawn is not None
            self._nspawn.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(PATIENCE_S)
        self.power_cut()
        self.boot()

    def cut_network(self) -> None:
        """Pull the cable: nothing is refused, nothing answers."""
        run("ip", "link", "set", f"ve-{self.name}", "down")

    def mend_network(self) -> None:
        """Put it back."""
        run("ip", "link", "set", f"ve-{self.name}", "up")

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script in it as root, over SSH; its output."""
        done = subprocess.run(
            ["ssh", "-q", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
             "-o", "ControlPath=none", "-i", str(self.keys.login), self.address, "--", "sh -s"],
            input=script, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def _pid(self) -> int:
        assert self._nspawn is not None
        return self._nspawn.pid

    def _link_is_there(self) -> bool:
        return Path(f"/sys/class/net/ve-{self.name}").exists()


# --- what boxes are made of ---


def why_no_box() -> str | None:
    """Why this machine cannot boot a Debian of its own, whatever is installed; None when it can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    argv = ["ip", "link", "add", "takoprobe0", "type", "veth", "peer", "name", "takoprobe1"]
    with contextlib.suppress(FileNotFoundError):  # a missing program is missing for the test that needs it
        probe = subprocess.run(argv, check=False, capture_output=True, text=True)
        if probe.returncode and "exists" not in probe.stderr:
            return f"there can be no virtual network here: {probe.stderr.strip()}"
        subprocess.run(["ip", "link", "del", "takoprobe0"], check=False, capture_output=True)
    return None


def tell_what_was_left_out(terminal: pytest.TerminalReporter, why: str | None) -> None:
    """Say at the end of a run what this machine could not try."""
    if why:
        left_out = f"test_deploy_box.py was left out: {why}. Only test_deploy_ssh.py tried `tako deploy`."
        terminal.write_line(left_out, yellow=True)


def base_system() -> Path:
    """The folder of the system that all boxes are layers over; made when it is not there (a minute, 320 MB)."""
    BUILD.mkdir(parents=True, exist_ok=True)
    base = BUILD / SUITE
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / ".complete").exists():
            shutil.rmtree(base, ignore_errors=True)
            mirror = subprocess.run(
                ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}"],
                check=True, capture_output=True, text=True,
            ).stdout.split()[0]  # fmt: skip
            log = BUILD / "debootstrap.log"
            with log.open("wb") as out:
                done = subprocess.run(
                    ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", SUITE, str(base), mirror],
                    stdout=out, stderr=out, check=False,
                )  # fmt: skip
            assert done.returncode == 0, f"debootstrap failed: see {log}"
            for key in (base / "etc/ssh").glob("ssh_host_*"):
                key.unlink()
            (base / ".complete").touch()
    return base


def app_wheels() -> Path:
    """A folder with the wheels of what the apps of tests need, the example's included: boxes have no way out."""
    folder = BUILD / "wheels"
    text = (ROOT / "examples/signup/requirements.txt").read_text() + (ROOT / "scripts/constraints.txt").read_text()
    with (BUILD / ".wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = folder / ".complete"
        if not mark.exists() or mark.read_text() != text:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            run(
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                "--dest", str(folder), "--only-binary", ":all:",
                "--requirement", str(ROOT / "examples/signup/requirements.txt"),
                "--constraint", str(ROOT / "scripts/constraints.txt"),
            )  # fmt: skip
            mark.write_text(text)
    return folder


def claim_network() -> tuple[IO[bytes], tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]]:
    """Four addresses that no other box of this machine has, as long as the file is open: ours and the box's."""
    folder = Path(tempfile.gettempdir()) / "tako-box-networks"
    folder.mkdir(exist_ok=True)
    for number, network in enumerate(NETWORK.subnets(new_prefix=30)):
        file = (folder / str(number)).open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        ours, theirs = network.hosts()
        return file, (ours, theirs)
    raise AssertionError("there are no networks left")


def control_groups(name: str) -> list[Path]:
    """A group of this name below our own, in each hierarchy of this machine; made if it is not there."""
    root, found = Path("/sys/fs/cgroup"), []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        unified = root / "unified" if (root / "unified").is_dir() else root
        hierarchy = unified if number == "0" else root / controllers.removeprefix("name=")
        group = hierarchy / path.lstrip("/") / name
        if hierarchy.is_dir():
            group.mkdir(parents=True, exist_ok=True)
            for inherited in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1, where nobody may run
                if number != "0" and (group / inherited).exists():
                    (group / inherited).write_text((group.parent / inherited).read_text())
            found.append(group)
    return found


def run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"


def wait_for(is_there: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    """Look until it is there: nobody tells us when another program has begun to listen."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_there():
        assert process.poll() is None, f"{what} ended with exit code {process.returncode}"
        assert time.monotonic() < deadline, f"{what} was not there within {PATIENCE_S:g} s"
        threading.Event().wait(0.02)


def children_of(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def descendants_of(pid: int) -> list[int]:
    found = []
    for child in children_of(pid):
        found += [child, *descendants_of(child)]
    return found


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1) as sock:
        return sock.recv(4) == b"SSH-"
    return False
