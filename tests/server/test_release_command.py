"""The release command: once, to its end, and no longer than it may."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.dev import is_alive, until, write

from tako.config import load
from tako.errors import DeployRefused
from tako.host.launch import Launch
from tako.server import launching, layout, release_command
from tako.server.spawner import Spawner


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """A release with settings and nothing else."""
    places = layout.Layout(tmp_path / "data", tmp_path / "run").app("shop", "production")
    layout.make_app(places, uid=None)
    write(places.source("r1"), {"tako.toml": 'name = "shop"\n'})
    return launching.launch_of(
        places, "r1", load.load(places.source("r1")), secrets=dict, url="",
        spawner=Spawner(systemd=False, users=False),
    )  # fmt: skip


def run(launch: Launch, command: str, *, timeout_s: float = 30.0) -> list[str]:
    said: list[str] = []
    asyncio.run(
        release_command.run(
            command, launch, name="d1-release", token="t", on_line=said.append, redact=str, timeout_s=timeout_s
        )
    )
    return said


def test_it_runs_in_the_release_and_what_it_says_is_told(launch: Launch) -> None:
    assert run(launch, "pwd; echo $TAKO_BUILD") == [str(launch.config.root), "r1"]


def test_one_that_hangs_is_killed_with_all_that_it_started_and_refuses_the_release(launch: Launch) -> None:
    pids = launch.config.root / "pids"
    command = f"sleep 600 & echo $! $$ > {pids}; wait"

    with pytest.raises(DeployRefused, match=r"took longer than 0.0\d+ minutes and was killed"):
        run(launch, command, timeout_s=0.5)

    left = [int(pid) for pid in pids.read_text().split()]
    assert os.getpid() not in left
    until(lambda: not any(is_alive(pid) for pid in left), what="nothing of it is left")
