from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from tako.dev import watch
from tako.dev.watch import changes, is_wanted

DEADLINE_S = 20
ROOT = Path("/app")


@pytest.mark.parametrize(
    "path",
    ["app.py", "workflows/send_email.py", "tako.toml", ".env", "uv.lock", "templates/mail.html", "environment/x.py"],
)
def test_what_can_matter_is_wanted(path: str) -> None:
    assert is_wanted(ROOT / path, ROOT)


@pytest.mark.parametrize(
    "path",
    [
        ".tako/runs.db", ".tako/logs/tako-20261123.jsonl", ".venv/lib/x.py", "venv/x.py", ".git/HEAD",
        "a/__pycache__/x.pyc", "web/node_modules/x/index.js", "workflows/.send_email.py.swp",
        "workflows/send_email.py~", "4913", ".#app.py", "my_app.egg-info/PKG-INFO", "db.sqlite3",
        "db.sqlite3-journal", ".DS_Store", ".pytest_cache/v", "server.log",
    ],
)  # fmt: skip
def test_what_tools_write_by_themselves_is_not(path: str) -> None:
    assert not is_wanted(ROOT / path, ROOT)


def test_what_is_outside_is_not_wanted() -> None:
    assert not is_wanted(Path("/elsewhere/app.py"), ROOT)
    assert not is_wanted(ROOT, ROOT)


def test_a_folder_above_the_app_may_have_any_name() -> None:
    root = Path("/home/ann/build/app")

    assert is_wanted(root / "app.py", root)


async def begun(root: Path, watching: AsyncIterator[frozenset[Path]]) -> None:
    """Write a file until its change is told: watching has begun, and nothing older is on its way."""
    probe = root / "probe.py"
    first = asyncio.ensure_future(anext(watching))
    async with asyncio.timeout(DEADLINE_S):
        while not first.done():
            probe.write_text("x")
            await asyncio.wait([first], timeout=0.3)
    assert first.result() == {probe}


async def told(watching: AsyncIterator[frozenset[Path]], probe: Path) -> set[Path]:
    """The next paths that are told; late news of the probe do not count."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if found := set(await anext(watching)) - {probe}:
                return found


def test_a_burst_of_saves_is_told_once_and_noise_is_not(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / ".tako").mkdir()
    wanted = {tmp_path / "workflows" / f"w{number}.py" for number in range(20)}

    async def story() -> set[Path]:
        watching = changes(tmp_path)
        try:
            await begun(tmp_path, watching)
            for path in wanted:
                (tmp_path / ".tako" / path.name).write_text("noise")
                path.write_text("x = 1")
            return await told(watching, tmp_path / "probe.py")
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    assert asyncio.run(story()) == wanted


def test_a_removed_file_and_a_file_in_a_new_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("x")

    async def story() -> set[Path]:
        watching = changes(tmp_path)
        try:
            await begun(tmp_path, watching)
            (tmp_path / "old.py").unlink()
            found = await told(watching, tmp_path / "probe.py")
            (tmp_path / "new").mkdir()
            found |= await told(watching, tmp_path / "probe.py")
            (tmp_path / "new" / "file.py").write_text("x")
            return found | await told(watching, tmp_path / "probe.py")
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    assert asyncio.run(story()) == {tmp_path / "old.py", tmp_path / "new", tmp_path / "new" / "file.py"}


def test_watching_ends_when_it_is_told_to(tmp_path: Path) -> None:
    async def story() -> list[frozenset[Path]]:
        stop = asyncio.Event()
        stop.set()
        async with asyncio.timeout(DEADLINE_S):
            return [found async for found in changes(tmp_path, stop=stop)]

    assert asyncio.run(story()) == []


def test_when_the_system_gives_no_notice_files_are_looked_at_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watchfiles.awatch
    said: list[str] = []

    def few_watches(*paths: Path, **options: Any) -> Any:
        if not options["force_polling"]:
            raise OSError("OS file watch limit reached.")
        return real(*paths, **options)

    monkeypatch.setattr(watch, "awatch", few_watches)
    on_poll: Callable[[str], None] = said.append

    async def story() -> set[Path]:
        watching = changes(tmp_path, on_poll=on_poll)
        try:
            await begun(tmp_path, watching)
            (tmp_path / "app.py").write_text("x")
            return await told(watching, tmp_path / "probe.py")
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    assert asyncio.run(story()) == {tmp_path / "app.py"}
    assert said == ["saved files are looked for every 500 ms: OS file watch limit reached."]


def test_folders_that_do_not_matter_are_not_even_watched(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    for folder in (".tako/logs", ".venv/lib", "app/deep", "app/__pycache__", "node_modules/x"):
        (root / folder).mkdir(parents=True)
    (root / "app/deep/circle").symlink_to(root)

    assert sorted(watch.folders_of(root)) == [
        root, root / "app", root / "app/deep",
    ]  # fmt: skip
