"""The list of servers, and what an environment of tako.toml makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tako.config import load
from tako.deploy import servers
from tako.deploy.servers import Registry, Server
from tako.deploy.target import environment_of, target_of
from tako.errors import TakoError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIbOkQpAYpEuBcGmh2Z5g6iR0oYwYwVwZ8cVBRk0pQqa"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("root@203.0.113.5", ("root", "203.0.113.5", None)),
        ("fra1.example.com:2222", (None, "fra1.example.com", 2222)),
        ("ann@[2001:db8::1]:22", ("ann", "2001:db8::1", 22)),
        ("[2001:db8::1]", (None, "2001:db8::1", None)),
    ],
)
def test_an_address_has_a_user_a_host_and_a_port(text: str, parts: tuple[str | None, str, int | None]) -> None:
    assert servers.parse_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", "root@", "-oProxyCommand=evil", "root@-evil", "a b", "root@host:0", "root@host:99999", "a@b@c", "x;y"]
)
def test_what_ssh_could_take_for_something_else_is_no_address(text: str) -> None:
    with pytest.raises(TakoError, match="is not an address"):
        servers.parse_address(text)


def test_servers_are_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "config")
    assert registry.all() == {}
    one = Server(name="fra1", host="203.0.113.5", host_key=KEY, user="root")

    registry.put(one)
    registry.put(Server(name="ams1", host="ams", host_key=KEY, port=2222, identity="/k"))
    assert Registry(tmp_path / "config").get("fra1") == one
    assert registry.get("ams1").address == "ams:2222"

    registry.remove("fra1")
    assert list(registry.all()) == ["ams1"]


def test_an_unknown_server_is_told_the_nearest_name_and_how_to_add_it(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.put(Server(name="fra1", host="h", host_key=KEY))

    with pytest.raises(TakoError, match="There is no server 'fra2'") as caught:
        registry.get("fra2")

    assert caught.value.cure == "Did you mean fra1? Add it: tako servers add root@ADDRESS --name fra2"


@pytest.mark.parametrize("content", ["", "[]", '{"servers": []}', '{"servers": {"a": {"nonsense": 1}}}'])
def test_a_list_that_is_not_ours_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "servers.json").write_text(content)
    registry = Registry(tmp_path)

    with pytest.raises(TakoError, match="is not what `tako servers add` writes"):
        registry.put(Server(name="fra1", host="h", host_key=KEY))

    assert (tmp_path / "servers.json").read_text() == content


def test_a_fingerprint_is_what_ssh_shows() -> None:
    assert servers.fingerprint(KEY).startswith("SHA256:")
    with pytest.raises(TakoError, match="is not a host key"):
        servers.fingerprint("nonsense")


# Which servers a command means


def write(folder: Path, text: str) -> Path:
    (folder / "tako.toml").write_text(text)
    return folder


def test_the_only_environment_needs_no_name(tmp_path: Path) -> None:
    config = load.load(write(tmp_path, 'name = "shop"\n[envs.staging]\nservers = ["fra1"]\n'))

    assert environment_of(config, None).name == "staging"


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("[envs.production]", None, "tako.toml has no name"),
        ('name = "a"', None, "tako.toml has no environment"),
        ('name = "a"\n[envs.x]\n[envs.y]', None, "Which environment?"),
        ('name = "a"\n[envs.production]', "prodution", "no environment 'prodution'"),
    ],
)
def test_what_is_meant_must_be_said_and_be_there(tmp_path: Path, text: str, name: str | None, problem: str) -> None:
    with pytest.raises(TakoError, match=problem):
        environment_of(load.load(write(tmp_path, text)), name)


def test_servers_come_in_their_order_the_first_one_leads(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "config")
    for name in ("ams1", "fra1"):
        registry.put(Server(name=name, host=name, host_key=KEY))
    config = load.load(write(tmp_path, 'name = "a"\n[envs.production]\nservers = ["fra1", "ams1"]\n'))

    assert [server.name for server in target_of(config, registry, environment=None).servers] == ["fra1", "ams1"]
    assert [each.name for each in target_of(config, registry, environment=None, server="ams1").servers] == ["ams1"]
    with pytest.raises(TakoError, match="production is not on nyc1"):
        target_of(config, registry, environment=None, server="nyc1")


def test_tako_toml_may_say_where_a_server_is_for_machines_without_a_list(tmp_path: Path) -> None:
    text = f"""
        name = "a"
        [envs.production]
        servers = ["fra1"]
        [servers.fra1]
        address = "deploy@203.0.113.5:2222"
        host_key = "{KEY} root@fra1"
    """
    config = load.load(write(tmp_path, text))

    (server,) = target_of(config, Registry(tmp_path / "none"), environment=None).servers

    assert server == Server(name="fra1", host="203.0.113.5", port=2222, user="deploy", host_key=KEY)
