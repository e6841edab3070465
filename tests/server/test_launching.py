"""A release as its processes see it on a server, held against what they see in development: one process contract."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.support.dev import write

from tako.config import load
from tako.config.model import DEVELOPMENT
from tako.errors import DeployRefused
from tako.host.launch import Launch
from tako.host.places import places_of
from tako.server import launching
from tako.server.layout import Layout
from tako.server.spawner import INSTANCE, Limits, Spawner
from tako.supervisor.spawn import SpawnRequest

TOML = """\
name = "shop"
main = "app:app"
[vars]
LOG_LEVEL = "info"
[vars.production]
LOG_LEVEL = "warning"
[workflows]
concurrency = 3
[workflows.mail]
[envs.production]
servers = ["fra1"]
[servers.fra1.workflows.mail]
workers = 2
"""
# What a process is told of where and what it is; everything else must be the same.
DIFFERS = {
    "ENV", "TAKO_BUILD", "TAKO_DATA_DIR", "TAKO_INTERNAL_SOCKET", "TAKO_URL_SHOP", "PATH", "VIRTUAL_ENV", "HOME",
    "LOG_LEVEL", INSTANCE,
}  # fmt: skip


@pytest.fixture
def launches(tmp_path: Path) -> tuple[Launch, Launch]:
    """The same app in development and on a server."""
    app_layout = Layout(tmp_path / "data", tmp_path / "run").app("shop", "production")
    source = app_layout.source("r1")
    write(source, {"tako.toml": TOML, "app.py": "app = None", "workflows/__init__.py": ""})
    config = load.load(source)
    dev = Launch(
        config=config, environment=DEVELOPMENT, release="dev", places=places_of(source), secrets=lambda: {"KEY": "s"},
        variables=config.variables(DEVELOPMENT), urls={"shop": "http://localhost:8000"},
    )  # fmt: skip
    server = launching.launch_of(
        app_layout, "r1", launching.config_of(source, app="shop", server=None, python=config.python, scale={}),
        secrets=lambda: {"KEY": "s"}, spawner=Spawner(systemd=False, users=False), url="https://shop.example",
    )  # fmt: skip
    return dev, server


def requests(launch: Launch) -> tuple[SpawnRequest, SpawnRequest]:
    worker = launch.worker("mail", worker_id="mail-1", solo=False, token="t", files=["workflows/mail.py"])
    web = {"TAKO_CTL_SOCK": "/c", "TAKO_PRIVATE_SOCK": "/p"}
    return worker, launch.web(None, instance_id="w1", web=web, token="t")


def test_dev_and_server_build_the_same_environment_arguments_and_envelope(launches: tuple[Launch, Launch]) -> None:
    for ours, theirs in zip(requests(launches[0]), requests(launches[1]), strict=True):
        assert ours.env.keys() - DIFFERS == theirs.env.keys() - DIFFERS
        assert {name: ours.env[name] for name in ours.env.keys() - DIFFERS} == {
            name: theirs.env[name] for name in theirs.env.keys() - DIFFERS
        }
        assert ours.argv == theirs.argv
        assert ours.cwd == theirs.cwd
        assert json.loads(ours.envelope) == json.loads(theirs.envelope)


def test_on_a_server_the_environments_own_variables_win_and_home_is_the_apps(launches: tuple[Launch, Launch]) -> None:
    _, server = launches
    found = server.environ()

    assert (found["ENV"], found["TAKO_BUILD"], found["LOG_LEVEL"]) == ("production", "r1", "warning")
    assert found["HOME"] == found["TAKO_DATA_DIR"] == str(server.places.data)
    assert found["PATH"].split(":")[0] == found["VIRTUAL_ENV"] + "/bin"
    assert "NOTIFY_SOCKET" not in found


def test_a_servers_own_settings_and_scale_hold_as_long_as_the_file_says_what_it_said(
    launches: tuple[Launch, Launch],
) -> None:
    source = launches[1].config.root

    def config(scale: dict[str, object], server: str | None = None) -> tuple[int, int]:
        found = launching.config_of(source, app="shop", server=server, python="p", scale=scale)
        return found.web.instances, found.group("mail").workers

    assert config({}) == (1, 0)
    assert config({}, server="fra1") == (1, 2)
    assert config({"web": {"from": 1, "to": 4}, "workers": {"mail": {"from": 0, "to": 3}}}) == (4, 3)
    assert config({"web": {"from": 2, "to": 4}}) == (1, 0), "tako.toml says another number than it said then"


def test_settings_that_cannot_be_used_refuse_the_release(tmp_path: Path) -> None:
    write(tmp_path, {"tako.toml": "[web]\ninstanzes = 2"})

    with pytest.raises(DeployRefused, match="instanzes"):
        launching.config_of(tmp_path, app="shop", server=None, python="p", scale={})


def test_in_a_scope_and_under_a_user_the_process_is_the_same_behind_its_prefix(tmp_path: Path) -> None:
    request = SpawnRequest(argv=["./bin/x", "a"], env={"A": "b"}, cwd=tmp_path, envelope=b"", spool=tmp_path / "s")

    wrapped = Spawner(systemd=True, users=False).wrap(request, "w1", app="shop", env="production")

    assert wrapped.argv[:2] == ["/usr/bin/systemd-run", "--scope"]
    assert "--unit=tako-app-shop-production-w1.scope" in wrapped.argv
    assert "--property=TasksMax=1024" in wrapped.argv
    assert wrapped.argv[-3:] == ["--", str(tmp_path / "bin/x"), "a"]
    assert wrapped.env == {"A": "b", INSTANCE: "w1"}
    assert os.fspath(wrapped.cwd) == str(tmp_path)


@pytest.mark.parametrize(
    ("of_app", "of_server", "limit"), [(None, None, None), (64, None, 64), (64, 32, 32), (None, 32, 32), (16, 32, 16)]
)
def test_what_an_app_may_take_is_its_own_limit_and_never_more_than_the_servers(
    tmp_path: Path, of_app: int | None, of_server: int | None, limit: int | None
) -> None:
    request = SpawnRequest(
        argv=["x"], env={}, cwd=tmp_path, envelope=b"", spool=tmp_path / "s", memory_bytes=of_app,
    )  # fmt: skip
    spawner = Spawner(systemd=True, users=False, limits=Limits(memory_bytes=of_server))

    line = spawner.wrap(request, "w1", app="shop", env="production").argv

    limits = [word for word in line if word.startswith("--property=MemoryMax=")]
    assert limits == ([] if limit is None else [f"--property=MemoryMax={limit}"])


def test_tako_toml_says_what_instances_and_workers_of_a_group_may_take(tmp_path: Path) -> None:
    toml = '[web]\nmemory = "512M"\n[workflows]\nmemory = "1G"\n[workflows.mail]\nmemory = "64M"\n'
    write(tmp_path, {"tako.toml": toml, "app.py": "app = None", "workflows/__init__.py": ""})
    launch = Launch(
        config=load.load(tmp_path), environment=DEVELOPMENT, release="dev", places=places_of(tmp_path), secrets=dict
    )

    mail, web = requests(launch)
    other = launch.worker("default", worker_id="w", solo=False, token="t", files=[])

    assert [each.memory_bytes for each in (web, other, mail)] == [512 << 20, 1 << 30, 64 << 20]


def test_an_app_is_no_better_to_the_kernel_than_others_though_the_daemon_is() -> None:
    """The daemon is the last to be killed when there is no memory left; its children inherit that, and must not."""
    own = Path("/proc/self/oom_score_adj").read_text().strip()
    request = SpawnRequest(
        argv=["cat", "/proc/self/oom_score_adj"], env={}, cwd=Path("/"), envelope=b"", spool=Path("/dev/null")
    )

    line = list(Spawner(systemd=True, users=False).wrap(request, "w1", app="shop", env="production").argv)
    behind_systemd = line[line.index("--") + 1 :]
    said = subprocess.run(behind_systemd, capture_output=True, text=True, check=False)

    assert behind_systemd[0].endswith("choom")
    assert said.stdout.strip() == "0" or int(own) > 0, said.stderr
