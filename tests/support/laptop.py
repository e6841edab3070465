"""A laptop: an app in a git repository of its own, a configuration of its own, and `tako` as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tako.deploy.servers import Registry, Server, parse_address
from tests.support.box import BUILD, Box, PlainBox
from tests.support.shop import shop

TAKO = str(Path(sys.executable).with_name("tako"))
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Running:
    """A command that runs. Its lines on stderr can be waited for."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def err(self) -> str:
        with self._news:
            return "".join(self._lines)

    def until(self, words: str) -> None:
        """Wait until it has said this."""
        with self._news:
            assert self._news.wait_for(lambda: words in "".join(self._lines), PATIENCE_S), self.err

    def line(self) -> str:
        """The next line on stdout."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> Ended:
        self._process.send_signal(number)
        return self.end()

    def end(self) -> Ended:
        """Wait for its end."""
        code = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        out = self._process.stdout.read()
        self._process.stdout.close()
        self._process.stderr.close()
        return Ended(code, out, self.err)


class Laptop:
    """`folder/app` is the app. The servers that it knows are added by `knows`, or by `tako servers add` itself."""

    def __init__(self, folder: Path, name: str = "laptop") -> None:
        self.folder = folder / name
        self.app = self.folder / "app"
        self.app.mkdir(parents=True)
        self._started: list[Running] = []
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("TAKO_", "XDG_"))}
        self.env |= {
            "XDG_CONFIG_HOME": str(self.folder / "config"), "XDG_CACHE_HOME": str(BUILD / "cache"),
            "GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.com", "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.com", "NO_COLOR": "1",
        }  # fmt: skip

    def tako(self, *argv: str, stdin: str = "", code: int | None = 0, cwd: Path | None = None) -> Ended:
        """Run a command in the app's folder, or in `cwd`, to its end, which must be this one (None: any)."""
        done = subprocess.run(
            [TAKO, *argv], cwd=cwd or self.app, env=self.env, input=stdin, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *argv: str) -> Running:
        running = Running([TAKO, *argv], cwd=self.app, env=self.env)
        self._started.append(running)
        return running

    def close(self) -> None:
        """What still runs of what was started is killed."""
        for running in self._started:
            if running.is_alive():
                running.kill()

    def knows(self, box: Box | PlainBox, name: str) -> None:
        """As after `tako servers add`, for a server that is one already."""
        user, host, port = parse_address(box.address)
        key = " ".join(Path(f"{box.keys.host}.pub").read_text().split()[:2])
        identity = str(box.keys.login)
        Registry(self.folder / "config/tako").put(
            Server(name=name, host=host, host_key=key, user=user, port=port, identity=identity)
        )

    def has_shop(self, release: str, *, servers: Sequence[str] = ("fra1",), name: str = "shop", **options: Any) -> None:
        """Let the app be this release of the shop, committed. `routes` default to NAME.test."""
        routes = options.pop("routes", [f"{name}.test"])
        toml = options.pop("toml", "")
        toml += f"\n[envs.production]\nroutes = {json.dumps(routes)}\nservers = {json.dumps(list(servers))}\n"
        source = shop(self.folder / "sources", release, toml=toml, **options)
        text = (source / "tako.toml").read_text().replace('name = "shop"', f'name = "{name}"')
        (source / "tako.toml").write_text(text)
        self.commits(source, message=f"Release {release}")

    def commits(self, source: Path, *, message: str) -> None:
        """Let the app's folder hold these files and no others, committed."""
        script = f"""
            set -e
            [ -d .git ] || git init --quiet
            git ls-files -z -- ':!tako.secrets.json' | xargs -0 -r rm -f
            cp -a {source}/. .
            printf '.tako/\\n__pycache__/\\n' > .gitignore
            git add --all
            git commit --quiet --allow-empty -m '{message}'
        """
        subprocess.run(["sh", "-c", script], cwd=self.app, env=self.env, check=True)
