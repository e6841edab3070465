"""What a release consists of: the files that git tracks, and the folders that the build makes.

The id of a release is a hash of its files: the same files are the same release, whoever deploys them from wherever.
"""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tako.config.model import Config
from tako.errors import TakoError
from tako.protocol import management
from tako.vault import sealed

# Never part of a release, even when somebody has committed them or a build leaves them.
LEFT_OUT_NAMES = frozenset({".git", ".tako", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
# Its values travel on their own, so that a changed secret is not a new release.
LEFT_OUT_FILES = frozenset({sealed.FILE})
ID_LENGTH = 12
_EXECUTABLE, _PLAIN = 0o755, 0o644
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class File:
    """A file of the release. `source` is where it is read from."""

    path: str
    mode: int
    size: int
    sha256: str
    source: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A release before it is sent. `message` is the commit's subject; `warnings` say what was left out."""

    release: str
    files: tuple[File, ...]
    message: str | None
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def manifest(self) -> list[management.ManifestEntry]:
        """As the daemon takes it."""
        return [{"path": file.path, "mode": file.mode, "size": file.size, "sha256": file.sha256} for file in self.files]


def collect(config: Config) -> Artifact:
    """The release that this folder makes now.

    Raises:
        TakoError: there is no git repository, a tracked file is gone, or one cannot be part of a release.
    """
    tracked = _tracked(config.root)
    built = _built(config)
    paths = sorted({path for path in (*tracked, *built) if not _is_left_out(path)})
    if not paths:
        raise TakoError(f"git tracks no file in {config.root}, so there is nothing to deploy.", cure="git add . first.")
    if len(paths) > management.MAX_MANIFEST_FILES:
        raise TakoError(
            f"The release has {len(paths):,} files; at most {management.MAX_MANIFEST_FILES:,} can be deployed.",
            cure="Is a folder such as node_modules in git or in build.include?",
        )
    files = tuple(_file(config.root, path) for path in paths)
    return Artifact(
        release=release_id(files),
        files=files,
        message=_git(config.root, "log", "-1", "--format=%s", "--", ".").strip() or None,
        warnings=tuple(_warnings(config.root)),
    )


def release_id(files: Iterable[File]) -> str:
    """A hash of paths, modes and contents."""
    lines = [f"{file.path}\0{file.mode:o}\0{file.sha256}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:ID_LENGTH]


def _tracked(root: Path) -> list[str]:
    listed = _git(root, "ls-files", "-z", "--cached", "--recurse-submodules")
    return [path for path in listed.split("\0") if path]


def _built(config: Config) -> Iterator[str]:
    """Files of folders that are deployed although git may ignore them."""
    for key, folders in (("build.include", config.build.include), ("web.static", config.web.static.values())):
        for folder in folders:
            base = config.root / folder
            if base.is_file():
                yield folder
                continue
            if not base.is_dir():
                made = "Does the build make it?" if config.build.run else "Make it, or say in [build] run how."
                raise TakoError(f"{key}: there is no folder {folder} in {config.root}.", cure=made)
            for found in sorted(base.rglob("*")):
                if found.is_file():
                    yield found.relative_to(config.root).as_posix()


def _is_left_out(path: str) -> bool:
    return path in LEFT_OUT_FILES or not LEFT_OUT_NAMES.isdisjoint(path.split("/"))


def _file(root: Path, path: str) -> File:
    source = root / path
    try:
        resolved = source.resolve(strict=True)
        if not resolved.is_relative_to(root):
            raise TakoError(
                f"{path} is a link to {resolved}, which is outside of the app.",
                cure="Put a copy of it into the app, or take the link out of git.",
            )
        if resolved.is_dir():
            raise TakoError(
                f"{path} is a link to a folder, which a release cannot have.", cure="Take the link out of git."
            )
        with resolved.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise TakoError(f"{path} is not a file.", cure="Take it out of the folder.")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise TakoError(
            f"{path} is in git, but not in the folder.", cure=f"git rm {path}    or bring it back: git checkout {path}"
        ) from None
    except OSError as error:
        raise TakoError(f"{path} cannot be read: {error.strerror}.") from error
    if any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in path):
        raise TakoError(f"{path!r} has characters in its name that a release cannot have.", cure="Rename it.")
    mode = _EXECUTABLE if found.st_mode & stat.S_IXUSR else _PLAIN
    return File(path, mode, found.st_size, digest, resolved)


def _warnings(root: Path) -> Iterator[str]:
    """What a person may take for deployed and is not, or the other way."""
    found = _git(root, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--", ".").split("\0")
    prefix = _git(root, "rev-parse", "--show-prefix").strip()
    paths: dict[bool, list[str]] = {True: [], False: []}
    for entry in found:
        path = entry[3:].removeprefix(prefix)
        if len(entry) > 3 and entry[2] == " " and not _is_left_out(path):
            paths[entry.startswith("??")].append(path)
    if paths[True]:
        yield f"Not in git, so not deployed: {_listed(paths[True])}"
    if paths[False]:
        yield f"Deployed with changes that are not committed: {_listed(paths[False])}"


def _listed(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _git(root: Path, *args: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, check=False)
    except FileNotFoundError:
        raise TakoError("This machine has no git.", cure="On Debian: sudo apt-get install git") from None
    if done.returncode == 0:
        return os.fsdecode(done.stdout)
    said = done.stderr.decode(errors="replace").strip()
    if "does not have any commits" in said:
        return ""
    if "not a git repository" in said:
        raise TakoError(
            f"{root} is not in a git repository, and git says which files are the app's.",
            cure="git init && git add . && git commit -m 'First'    (with a .gitignore for what stays here)",
        )
    raise TakoError(f"git {args[0]} failed: {said.splitlines()[-1] if said else f'exit code {done.returncode}'}")
