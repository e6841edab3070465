"""The box, the laptop that deploys to it, the ACME server between them, and what a person would type."""

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.box import ROOT, Box
from tests.support.caddy import Pebble
from tests.support.dev import until
from tests.support.laptop import Ended, Laptop

from reliability.deploys import till
from reliability.deploys.books import Books, balance
from reliability.deploys.load import Load

SETTLED_S = 120.0
LEDGER = "/var/lib/tako/apps/till/production/data/app/ledger"
UNFINISHED = ("pending", "running")


@dataclass
class Act:
    """One act of the trial: what it did, in figures, and what was wrong."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = [f"{self.name}: " + ", ".join(f"{name} {value}" for name, value in self.figures.items())]
        return "\n".join([*shown, *(f"  PROBLEM {each}" for each in self.problems)])


class Scene:
    """A box, a laptop that knows it as fra1, and how to trust the box's certificates."""

    def __init__(self, box: Box, laptop: Laptop, context: ssl.SSLContext) -> None:
        self.box = box
        self.laptop = laptop
        self.context = context
        context.set_alpn_protocols(["http/1.1"])  # all that the load speaks
        self._number = 0
        self.keep: Path | None = None  # where logs and store go when something is wrong

    # --- what a person types ---

    def deploy_example(self) -> Act:
        """`git clone`, `tako deploy` of examples/signup as it is but for its address, and a person signs up."""
        clone = self.laptop.folder / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        app = clone / "examples/signup"
        with (app / "tako.toml").open("a") as file:
            file.write('\n[envs.production]\nroutes = ["signup.test"]\nservers = ["fra1"]\n')
        began = time.monotonic()
        done = self.laptop.tako("deploy", cwd=app)
        act = Act("the example is deployed from a clone", {"s": round(time.monotonic() - began, 1)})
        act.figures["said"] = "\n" + done.err
        form = "email=ann%40example.com&password=correct+horse"
        with self.connect("signup.test") as secured:
            secured.sendall(
                "POST /signup HTTP/1.1\r\nHost: signup.test\r\nConnection: close\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n{form}".encode()
            )
            answer = b"".join(iter(lambda: secured.recv(65_536), b"")).decode(errors="replace")
        if " 303 " not in answer.partition("\r\n")[0]:
            act.problems.append(f"signing up was answered with {answer[:100]!r}")
        runs = self.laptop.tako("runs", "list", "--env", "production", "--json", cwd=app).json["runs"]
        if [run["workflow"] for run in runs] != ["welcome"]:
            act.problems.append(f"signing up made the runs {runs}")
        self.laptop.tako("delete", "--yes", "signup/production", cwd=app)
        return act

    @contextlib.contextmanager
    def connect(self, host: str) -> Iterator[ssl.SSLSocket]:
        """A connection by https, the certificate checked."""
        with (
            socket.create_connection((self.box.host, 443), 30) as plain,
            self.context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            yield secured

    def next_release(self) -> str:
        """Commit another release of the till; its name."""
        self._number += 1
        name = f"r{self._number}"
        self.laptop.commits(till.write(self.laptop.folder / "sources", name), message=f"Release {name}")
        return name

    def deploy(self, *, code: int | None = 0) -> tuple[Ended, float]:
        """`tako deploy`; how it ended, and after how many seconds."""
        began = time.monotonic()
        return self.laptop.tako("deploy", "--json", code=code), time.monotonic() - began

    # --- the acts ---

    def roll(self, load: Load, *, deploys: int, rollbacks: int) -> Act:
        """Deploys, with roll-backs among them, and every request is answered."""
        act = Act(f"{deploys} deploys and {rollbacks} roll-backs")
        live_s, every = [], max(1, deploys // max(1, rollbacks))
        before = f"r{self._number}"  # the one that serves
        for number in range(1, deploys + 1):
            name = load.act = self.next_release()
            live_s.append(self.deploy()[1])
            load.until_answered_by(name)
            if number % every == 0 and number // every <= rollbacks:
                self.laptop.tako("rollback")
                load.until_answered_by(before)
            else:
                before = name
        act.figures |= {"a deploy takes": f"{min(live_s):.1f} to {max(live_s):.1f} s"}
        return act

    def kill_daemon(self, load: Load, *, table: dict[str, str]) -> Act:
        """In each place of a deploy the daemon is killed; systemd starts it anew, and `tako deploy` finds its way."""
        act = Act(f"the daemon killed in {len(table)} places of a deploy")
        took_s = []
        for place, outcome in table.items():
            current = self.laptop.tako("releases", "--json").json["servers"]["fra1"]["current"]
            name = self.next_release()
            load.act = place
            self.box.sh(
                f"systemctl set-environment TAKO_CRASH_AT={place}; systemctl restart tako-server; "
                "systemctl unset-environment TAKO_CRASH_AT; systemctl show -p NRestarts tako-server"
            )
            before = self._restarts()
            ended, seconds = self.deploy(code=None)
            took_s.append(seconds)
            if self._restarts() <= before:
                act.problems.append(f"{place}: the daemon was not killed")
            found = self.laptop.tako("releases", "--json").json["servers"]["fra1"]
            if (ended.code == 0) != (outcome == "live"):
                act.problems.append(f"{place}: the deploy ended with {ended.code}, expected {outcome}: {ended.err}")
            elif outcome == "live":
                load.until_answered_by(name)
            elif found["current"] != current:
                act.problems.append(f"{place}: {found['current']} serves, and {current} did before")
            load.more(20)
        act.figures |= {"a deploy with a death in it takes at most": f"{max(took_s):.1f} s"}
        return act

    def cut_power(self, load: Load, *, times: int) -> Act:
        """The box loses its power with runs under way, and is switched on again."""
        act = Act(f"{times} power cuts in the middle of runs")
        back_s = []
        for _ in range(times):
            load.more(30)
            with load.dark():
                self.box.power_cut()
                self.box.boot()
                began = time.monotonic()
                until(self._serves, what="the till serves after the power cut", timeout_s=60)
                back_s.append(time.monotonic() - began)
        load.more(30)
        act.figures |= {
            "from sshd to the first page": f"at most {max(back_s):.1f} s",
            "asked in the dark": load.report.dark,
        }
        return act

    def settle(self, load: Load, *, may_repeat: bool) -> Act:
        """After the load has ended: every run ends, and the books balance."""
        act = Act("the books")
        try:
            until(self._is_settled, what="all runs end", timeout_s=SETTLED_S)
        except AssertionError as error:
            act.problems.append(f"{error}: {self._counts()}")
        books = self._books(load)
        report, took = load.report, sorted(load.report.took_s)
        act.figures |= {
            "requests": report.requests, "of them": dict(report.answered), "failed": len(report.failed),
            "websocket messages": report.messages, "websockets told to come again": report.moved,
            "p50": f"{took[len(took) // 2] * 1000:.0f} ms", "p99": f"{took[len(took) * 99 // 100] * 1000:.0f} ms",
            "slowest": f"{took[-1]:.1f} s", "runs": books.runs, "steps repeated": books.repeated,
            "lost or doubled": len(books.problems),
        }  # fmt: skip
        act.problems += [*report.failed[:10], *books.problems[:10]]
        if report.failed:
            act.problems += [f"the till raised {words}" for words in self._raised()]
        if books.repeated and not may_repeat:
            act.problems.append(f"{books.repeated} step bodies ran twice, and no worker was killed")
        if act.problems and self.keep is not None:
            shutil.copytree(self.box.root / "var/lib/tako/apps/till/production", self.keep, dirs_exist_ok=True)
            status = self.laptop.tako("status", "--env", "production", "--json", code=None)
            (self.keep / "status.json").write_text(status.out)
            (self.keep / "journal").write_text(self.box.sh("journalctl -u tako-server -o short-precise --no-pager"))
        return act

    def _raised(self) -> set[str]:
        """The last line of each traceback in the till's log."""
        found = set()
        for path in self.box.root.glob("var/lib/tako/apps/till/production/logs/*.jsonl"):
            said = [json.loads(line)["message"] for line in path.read_text().splitlines()]
            found |= {text for text in said if re.match(r"(tako\.errors\.\w+|\w+Error)\b", text)}
        return found

    def _books(self, load: Load) -> Books:
        runs: dict[str, str] = {}
        after: list[str] = []
        while True:
            page = self.laptop.tako("runs", "list", "--env", "production", "--json", "--limit", "500", *after).json
            runs |= {run["id"]: run["status"] for run in page["runs"]}
            if not page["next"]:
                break
            after = ["--after", page["next"]]
        report = load.report
        ledger = self.box.sh(f"cat {LEDGER}").splitlines()
        return balance(orders=report.orders, unknown=report.unknown, runs=runs, ledger=ledger)

    def _is_settled(self) -> bool:
        counts = self._counts()
        return not any(counts.get(each) for each in UNFINISHED)

    def _counts(self) -> dict[str, int]:
        status = self.laptop.tako("status", "--env", "production", "--json", code=None).json
        counts: dict[str, int] = status["servers"]["fra1"]["engine"]["counts"]
        return counts

    def _restarts(self) -> int:
        return int(self.box.sh("systemctl show -p NRestarts --value tako-server") or 0)

    def _serves(self) -> bool:
        with contextlib.suppress(OSError), self.connect(till.HOST) as secured:
            secured.sendall(f"GET / HTTP/1.1\r\nHost: {till.HOST}\r\nConnection: close\r\n\r\n".encode())
            return b" 200 " in secured.recv(65_536)
        return False


@contextlib.contextmanager
def scene(*, watch_s: float | None) -> Iterator[tuple[Scene, Act]]:
    """A bare box that `tako servers add` has made a server, with an ACME server beside it; and how that went.

    `watch_s`: how long new releases are watched; None is as in production.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tako-deploys-")))
        box = stack.enter_context(Box(folder))
        pebble = Pebble(folder, host=box.gateway, names=box.host)
        pebble.start(http_port=80, tls_port=443)
        stack.callback(pebble.stop)
        laptop = Laptop(folder)
        act = add_server(box, laptop, pebble)
        if watch_s is not None:
            box.watch_for(watch_s)
        yield Scene(box, laptop, ssl.create_default_context(cadata=pebble.authority())), act


def add_server(box: Box, laptop: Laptop, pebble: Pebble) -> Act:
    """`tako servers add`, and how long it took until the box was ready."""
    settings = f'[https]\nacme = "{pebble.directory}"\nacme_root = "/etc/tako/authority.pem"\n'
    box.sh(
        f"mkdir -p /etc/tako; cat > /etc/tako/server.toml <<'EOF'\n{settings}EOF\n"
        f"cat > /etc/tako/authority.pem <<'EOF'\n{pebble.root.read_text()}EOF\n"
    )
    began = time.monotonic()
    said = laptop.tako(
        "servers", "add", box.address, "--name", "fra1", "--identity", str(box.keys.login),
        "--host-key", box.keys.host_fingerprint, "--offline",
    ).err  # fmt: skip
    act = Act("a bare Debian becomes a server", {"s": round(time.monotonic() - began, 1)})
    if "fra1 is ready" not in said:
        act.problems.append(said)
    return act


def document(acts: list[Act]) -> str:
    """As JSON."""
    return json.dumps([{"act": act.name, **act.figures, "problems": act.problems} for act in acts], indent=1)
