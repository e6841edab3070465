"""What a server is made of: uv, our wheel, and with `--offline` the wheels of everything that it needs."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tako.deploy import wheel
from tako.errors import TakoError

CAN_RUN_ON = ("x86_64", "aarch64")
_FILES = resources.files("tako.deploy") / "files"
UNITS = ("tako-server.service", "tako-caddy.service", "tako-apps.slice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What wheels must fit: the machine, its C library ("glibc 2.36", "musl"), the Python that they are for."""

    machine: str
    libc: str
    python: str = "3.11"

    def tags(self) -> list[str]:
        """The platform tags that fit, the newest first."""
        if self.libc.startswith("musl"):
            return [f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1)]
        found = re.search(r"2\.(\d+)", self.libc)
        newest = int(found[1]) if found else 17
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, 16, -1)]
        return [*tags, f"manylinux2014_{self.machine}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Files by name, below one folder; `version` is that of our wheel."""

    version: str
    wheel: str
    files: Mapping[str, bytes]

    def tar(self, *, present: Collection[str] = ()) -> bytes:
        """For `tar -x` on the server, without what it has: `present` are hashes. Compressed: that halves uv."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
            for name, data in self.files.items():
                is_kept = name == "uv" or name.startswith("wheels/")
                if is_kept and hashlib.sha256(data).hexdigest() in present:
                    continue
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                entry.mode = 0o755 if name == "uv" else 0o644
                archive.addfile(entry, io.BytesIO(data))
        return out.getvalue()


def gather(platform: Platform, *, offline: bool, cache: Path) -> Payload:
    """Everything for this platform. What is downloaded is pinned by its hash, and kept in `cache`.

    Raises:
        TakoError: it cannot be downloaded.
    """
    ours = wheel.build()
    files = {
        "uv": _uv(platform, cache),
        f"wheels/{ours.name}": ours.data,
        "requirements.txt": (_FILES / "requirements.txt").read_bytes(),
        **{f"units/{name}": (_FILES / name).read_bytes() for name in UNITS},
    }
    if offline:
        folder = _download("requirements.txt", platform, cache)
        files |= {f"wheels/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.whl"))}
    return Payload(version=ours.version, wheel=ours.name, files=files)


def _uv(platform: Platform, cache: Path) -> bytes:
    folder = _download("tools.txt", platform, cache)
    (path,) = folder.glob("uv-*.whl")
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        return archive.read(name)


def _download(requirements: str, platform: Platform, cache: Path) -> Path:
    """The wheels of a pinned list, in a folder of their own; from the cache when they were there before."""
    text = (_FILES / requirements).read_bytes()
    name = f"{requirements.removesuffix('.txt')}-{platform.machine}-{platform.libc}-{platform.python}"
    folder = cache / "wheels" / re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    mark = folder / ".complete"
    if mark.exists() and mark.read_bytes() == text:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.whl"):
        stale.unlink()
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(text)
        file.flush()
        _pip(["download", "--require-hashes", "--no-deps", "-r", file.name, "-d", str(folder), *_fitting(platform)])
    mark.write_bytes(text)
    return folder


def _fitting(platform: Platform) -> Iterable[str]:
    digits = platform.python.replace(".", "")
    yield from ("--only-binary", ":all:", "--implementation", "cp", "--python-version", platform.python)
    for abi in (f"cp{digits}", "abi3", "none"):
        yield from ("--abi", abi)
    for tag in platform.tags():
        yield from ("--platform", tag)


def _pip(args: Sequence[str]) -> None:
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["uvx", "pip"]):
        try:
            if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode:
                continue
        except OSError:
            continue
        environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        argv = [*command, *args, "--quiet", "--no-input"]
        done = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise TakoError(
                f"What the server needs could not be downloaded: {lines[-1]}",
                cure="Is this machine online? pip's own configuration (index, proxy, certificates) counts.",
            )
        return
    raise TakoError("There is no pip on this machine to download uv with.", cure="Add it: python -m ensurepip")
