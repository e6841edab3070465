"""Virtual environments of releases, by what is in them."""

from __future__ import annotations

import asyncio
import http.server
import os
import platform
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.support.box import BUILD
from tests.support.dev import write
from tests.support.disk import small_disk

from tako.deploy import payload
from tako.errors import DeployRefused
from tako.server.environments import Environments, Tools


def environments(tmp_path: Path, **tools: object) -> Environments:
    (tmp_path / "venvs").mkdir()
    return Environments(tmp_path / "venvs", Tools(**tools))  # type: ignore[arg-type]


def test_the_name_changes_with_the_lock_file_and_with_nothing_else(tmp_path: Path) -> None:
    found = environments(tmp_path)
    names = []
    for text, extra in (("flask==3", "a"), ("flask==3", "b"), ("flask==3.1", "b")):
        write(tmp_path / "src", {"requirements.txt": text, "app.py": extra})
        names.append(found.name_for(tmp_path / "src"))

    assert names[0] == names[1] != names[2]


def test_a_fixed_environment_is_everybodys(tmp_path: Path) -> None:
    found = environments(tmp_path, fixed=Path(sys.prefix))

    assert found.name_for(tmp_path) == "fixed"
    assert found.python("fixed") == f"{sys.prefix}/bin/python"
    assert asyncio.run(found.build("fixed", tmp_path, on_line=print)) is False


@pytest.mark.parametrize("lock", ["uv.lock", "pylock.toml"])
def test_a_lock_file_that_needs_uv_is_refused_where_there_is_none(tmp_path: Path, lock: str) -> None:
    found = environments(tmp_path, uv=None)
    write(tmp_path / "src", {lock: ""})

    with pytest.raises(DeployRefused, match="needs uv, and this server has none"):
        asyncio.run(found.build("x", tmp_path / "src", on_line=print))


def test_what_cannot_be_installed_refuses_the_release_with_the_installers_words_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "wheels").mkdir()
    found = environments(tmp_path, uv=str(uv()), wheels=tmp_path / "wheels")
    write(tmp_path / "src", {"requirements.txt": "--no-index\nno-such-package==9.9"})
    lines: list[str] = []

    with pytest.raises(DeployRefused, match="no-such-package"):
        asyncio.run(found.build("x", tmp_path / "src", on_line=lines.append))

    assert any("no-such-package" in line for line in lines)
    assert not found.is_there("x")
    assert not (tmp_path / "venvs/x").exists()


def tiny_wheel(folder: Path, name: str, release: str) -> None:
    """A package of nothing that needs nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{release}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{release}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """A package index with one package, `shoplib`."""
    tiny_wheel(tmp_path / "index/shoplib", "shoplib", "1.0")
    handler = partial(Quiet, directory=str(tmp_path / "index"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_with_the_index_out_of_reach_what_the_server_has_had_before_will_do(
    tmp_path: Path, index: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    tiny_wheel(tmp_path / "wheels", "tako_py", version("tako-py"))
    found = environments(tmp_path, uv=str(uv()), wheels=tmp_path / "wheels")
    wants = f"--index-url http://127.0.0.1:{index.server_port}/\nshoplib==1.0\n"
    write(tmp_path / "src", {"requirements.txt": wants})
    asyncio.run(found.build("one", tmp_path / "src", on_line=print))
    index.shutdown()
    index.socket.close()
    lines: list[str] = []

    asyncio.run(found.build("two", tmp_path / "src", on_line=lines.append))

    assert list((tmp_path / "venvs/two").glob("lib/*/site-packages/shoplib.py"))
    assert any("index is out of reach" in line for line in lines)
    write(tmp_path / "src", {"requirements.txt": wants + "otherlib==1.0\n"})
    with pytest.raises(DeployRefused, match="cannot be built"):
        asyncio.run(found.build("three", tmp_path / "src", on_line=print))
    assert not (tmp_path / "venvs/three").exists()


def uv() -> Path:
    """The uv that servers get."""
    path = BUILD / "uv"
    if not path.exists():
        here = payload.Platform(machine=os.uname().machine, libc=" ".join(platform.libc_ver()))
        made = path.with_name(f"uv.{os.getpid()}")
        made.write_bytes(payload.gather(here, offline=False, cache=BUILD / "cache/tako").files["uv"])
        made.chmod(0o755)
        made.rename(path)
    return path


def test_a_disk_that_fills_up_while_it_is_built_refuses_the_release_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, options="size=4m"):
        found = environments(folder, uv=None)
        write(tmp_path / "src", {"requirements.txt": ""})

        with pytest.raises(DeployRefused, match="cannot be built"):
            asyncio.run(found.build("x", tmp_path / "src", on_line=print))

        assert list((folder / "venvs").iterdir()) == []


def test_environments_that_no_release_runs_in_are_removed(tmp_path: Path) -> None:
    found = environments(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "venvs" / name).mkdir()

    assert found.prune({"one"}) == 1
    assert [path.name for path in (tmp_path / "venvs").iterdir()] == ["one"]
