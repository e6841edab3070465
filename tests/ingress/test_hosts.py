"""Which names in a Host are ours."""

import pytest

from tako.ingress import hosts


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"shop.localhost", "shop.localhost"), (b"Shop.LOCALHOST:7777", "shop.localhost"),
        (b"shop.localhost.:80", "shop.localhost"),
        (b"127.0.0.1:8000", "127.0.0.1"), (b"[::1]:8000", "[::1]"), (b"evil.example", "evil.example"),
        (b"", None), (b":80", None), (b"a b", None), (b"a:b", None), (b"a/../b", None),
        (b"a\xe9", None), (b"user@shop.localhost", None),
    ],
)  # fmt: skip
def test_a_host_has_a_name_in_lowercase_without_port_and_final_dot(host: bytes, name: str | None) -> None:
    assert hosts.name_in(host) == name


@pytest.mark.parametrize(
    ("name", "apps"),
    [
        ("shop.localhost", ["shop"]),
        ("a.b.shop.localhost", ["a.b.shop", "b.shop", "shop"]),
        ("localhost", []),
        ("shop.example", []),
        ("shop.localhost.evil.example", []),
        ("..localhost", []),
        (".shop.localhost", []),
        ("a..localhost", []),
        ("-a.localhost", []),
        ("a_b.localhost", []),
        ("evillocalhost", []),
    ],
)
def test_a_name_of_localhost_may_be_an_app_or_below_one(name: str, apps: list[str]) -> None:
    assert hosts.candidates(name) == apps


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "shop.localhost", "x.shop.localhost"])
def test_a_plain_port_answers_to_loopback_and_its_own_name(name: str) -> None:
    assert hosts.is_of(name, "shop")


@pytest.mark.parametrize(
    "name", ["evil.example", "other.localhost", "127.0.0.2", "0.0.0.0", "[::]", "127.0.0.1.nip.io"]
)
def test_a_plain_port_answers_to_no_name_that_somebody_else_may_point_here(name: str) -> None:
    assert not hosts.is_of(name, "shop")
