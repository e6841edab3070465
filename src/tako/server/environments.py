"""Virtual environments of releases, by the hash of what is in them: a release that changes no dependency builds none.

Built in their final place, since the scripts in them name it, and complete only when the mark is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tako.errors import DeployRefused
from tako.server import notify

LOCKS = ("uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml")
MARK = ".complete"
TIMEOUT_S = 900.0
SHOWN_LINES = 40
_OUT_OF_REACH = ("Failed to fetch", "error sending request", "Could not connect")  # what uv says of an index


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What environments are built with. `fixed`: every release runs in this one, as in a container that has it all.

    `uv` None: venv and pip of the daemon's own Python. `wheels`: where our own wheel lies, and what it needs.
    """

    fixed: Path | None = None
    uv: str | None = None
    wheels: Path | None = None
    python: str = sys.executable


class Environments:
    """The folder of environments."""

    def __init__(self, folder: Path, tools: Tools) -> None:
        self.folder = folder
        self.tools = tools
        self._building: dict[str, asyncio.Lock] = {}

    def name_for(self, source: Path) -> str:
        """The name of the environment that this release wants."""
        if self.tools.fixed is not None:
            return "fixed"
        lock = lock_of(source)
        digest = hashlib.sha256()
        for part in (
            version("tako-py"), platform.python_implementation(), ".".join(map(str, sys.version_info[:3])),
            platform.machine(), lock.name if lock else "",
        ):  # fmt: skip
            digest.update(part.encode() + b"\0")
        if lock is not None:
            digest.update(lock.read_bytes())
        return digest.hexdigest()[:24]

    def path(self, name: str) -> Path:
        """Where an environment lies."""
        return self.tools.fixed if name == "fixed" and self.tools.fixed is not None else self.folder / name

    def python(self, name: str) -> str:
        """Its interpreter."""
        return str(self.path(name) / "bin" / "python")

    def is_there(self, name: str) -> bool:
        """Whether it is complete."""
        return name == "fixed" or (self.path(name) / MARK).exists()

    async def build(self, name: str, source: Path, *, on_line: Callable[[str], None]) -> bool:
        """Make it, if it is not there; False if it was.

        Raises:
            DeployRefused: what the lock file wants cannot be installed; says what the installer said.
        """
        async with self._building.setdefault(name, asyncio.Lock()):
            if self.is_there(name):
                return False
            folder = self.path(name)
            await asyncio.to_thread(_remove, folder)
            try:
                for line in self._commands(folder, source):
                    await self._install(line, cwd=source, on_line=on_line)
                (folder / MARK).touch()
            except BaseException:
                await asyncio.to_thread(_remove, folder)
                raise
            return True

    async def _install(self, line: Sequence[str], *, cwd: Path, on_line: Callable[[str], None]) -> None:
        try:
            await _run(line, cwd=cwd, on_line=on_line)
        except DeployRefused as refused:
            said = str(refused.detail.get("lines"))
            if line[0] != self.tools.uv or not any(words in said for words in _OUT_OF_REACH):
                raise
            on_line("The package index is out of reach. Trying with the packages that this server has had before…")
            try:
                await _run([*line, "--offline"], cwd=cwd, on_line=on_line)
            except DeployRefused:
                raise refused from None

    def _commands(self, folder: Path, source: Path) -> list[list[str]]:
        lock, uv, python = lock_of(source), self.tools.uv, str(folder / "bin" / "python")
        links = ["--find-links", str(self.tools.wheels)] if self.tools.wheels is not None else []
        ours = f"tako-py=={version('tako-py')}"
        if uv is not None:
            pip = [uv, "pip", "install", "--python", python, "--compile-bytecode", *links]
            begin = [[uv, "venv", "--quiet", "--python", self.tools.python, str(folder)]]
        else:
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *links]
            begin = [[self.tools.python, "-m", "venv", str(folder)]]
        if lock is None:
            return [*begin, [*pip, ours]]
        if lock.name == "uv.lock":
            if uv is None:
                raise DeployRefused(
                    "uv.lock needs uv, and this server has none", cure="Add uv, or deploy with a requirements.txt."
                )
            export = [
                uv,
                "export",
                "--frozen",
                "--no-dev",
                "--no-emit-project",
                "--quiet",
                "-o",
                str(folder / "lock.txt"),
            ]
            return [*begin, export, [*pip, "-r", str(folder / "lock.txt")], [*pip, ours]]
        if lock.name == "pyproject.toml":
            wanted = _dependencies(lock)
            return [*begin, [*pip, ours, *wanted]]
        if lock.name == "pylock.toml" and uv is None:
            raise DeployRefused(
                "pylock.toml needs uv, and this server has none", cure="Add uv, or deploy with a requirements.txt."
            )
        return [*begin, [*pip, "-r", str(lock)], [*pip, ours]]

    async def compile(self, name: str, source: Path) -> None:
        """Compile a release's modules, by content and not by time: its files never change. Errors are the gate's."""
        line = [self.python(name), "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash"]
        try:
            await _run([*line, str(source)], cwd=source, on_line=lambda text: None)
        except DeployRefused:
            return  # a file that does not compile may be one that nobody imports

    def prune(self, wanted: set[str]) -> int:
        """Remove environments that no release runs in; how many. For a thread."""
        gone = [path for path in self.folder.iterdir() if path.name not in wanted and not self._is_building(path.name)]
        for path in gone:
            _remove(path)
        return len(gone)

    def _is_building(self, name: str) -> bool:
        lock = self._building.get(name)
        return lock is not None and lock.locked()


def lock_of(source: Path) -> Path | None:
    """The file that says what a release needs; None when nothing does."""
    return next((source / name for name in LOCKS if (source / name).is_file()), None)


def _dependencies(pyproject: Path) -> list[str]:
    try:
        project = tomllib.loads(pyproject.read_text()).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeployRefused(f"pyproject.toml cannot be read: {error}") from None
    wanted = project.get("dependencies", [])
    return [str(each) for each in wanted] if isinstance(wanted, list) else []


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


async def _run(line: Sequence[str], *, cwd: Path, on_line: Callable[[str], None]) -> None:
    inherited = notify.for_children()
    environ = {name: value for name, value in inherited.items() if not name.startswith(("TAKO_", "VIRTUAL_ENV"))}
    try:
        process = await asyncio.create_subprocess_exec(
            *line, cwd=cwd, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise DeployRefused(f"{line[0]} cannot be run: {error.strerror}") from error
    assert process.stdout is not None
    kept: list[str] = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async for raw in process.stdout:
                text = raw.decode(errors="replace").rstrip()
                kept = [*kept, text][-SHOWN_LINES:]
                on_line(text)
            await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        said = "\n".join(f"  {text}" for text in kept[-12:])
        raise DeployRefused(
            f"the environment of the release cannot be built: `{' '.join(map(str, line[:4]))} …` ended with status "
            f"{process.returncode}\n{said}",
            cure="Mend what the lock file wants, and deploy again.",
            detail={"lines": kept},
        )
