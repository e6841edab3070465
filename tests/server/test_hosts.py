"""The folder that Caddy reads: whose host is whose, and what is left when somebody goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.errors import TakoError
from tako.server.hosts import Hosts, Route, RouteTaken, parse


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path / "hosts")


def put(hosts: Hosts, owner: str, *routes: str, public: Path | None = None) -> list[str]:
    return hosts.put(owner, [parse(text) for text in routes], socket=Path(f"/run/{owner}/sock"), public=public)


def listed(hosts: Hosts) -> dict[str, str]:
    return {str(route): owner for route, owner, _ in hosts.routes()}


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("example.com", Route("example.com")),
        ("Example.COM.", Route("example.com")),
        ("example.com/", Route("example.com")),
        ("example.com/Shop/a", Route("example.com", "/Shop/a")),
        ("*.example.com", Route("*.example.com")),
    ],
)
def test_a_route_is_a_host_in_lower_case_and_a_path_as_it_is(text: str, route: Route) -> None:
    assert parse(text) == route


@pytest.mark.parametrize("text", ["example.com/a/b/c/d", "example.com/~ann"])
def test_a_path_that_caddy_would_not_find_is_refused(text: str) -> None:
    with pytest.raises(TakoError, match="at most 3 path segments"):
        parse(text)


def test_new_hosts_are_told_once(hosts: Hosts) -> None:
    assert put(hosts, "shop/production", "a.com", "b.com/x", "b.com/y") == ["a.com", "b.com"]
    assert put(hosts, "shop/production", "a.com", "b.com/x", "c.com") == ["c.com"]
    assert listed(hosts) == dict.fromkeys(["a.com", "b.com/x", "c.com"], "shop/production")
    assert hosts.names() == ["a.com", "b.com", "c.com"]


def test_a_host_of_another_app_is_refused_and_nothing_changes(hosts: Hosts) -> None:
    put(hosts, "shop/production", "a.com", "b.com/x")

    with pytest.raises(RouteTaken, match=r"b\.com/x belongs to shop/production on this server"):
        put(hosts, "blog/production", "c.com", "b.com/x")

    assert listed(hosts) == {"a.com": "shop/production", "b.com/x": "shop/production"}


def test_apps_share_a_host_by_its_paths_and_leave_it_one_by_one(hosts: Hosts, tmp_path: Path) -> None:
    put(hosts, "shop/production", "a.com/shop", "a.com/shop/admin")
    assert put(hosts, "blog/production", "a.com") == []

    hosts.remove("blog/production")
    assert listed(hosts) == {"a.com/shop": "shop/production", "a.com/shop/admin": "shop/production"}
    assert hosts.names() == ["a.com"]

    hosts.remove("shop/production")
    assert listed(hosts) == {}
    assert hosts.names() == []
    assert list((tmp_path / "hosts").iterdir()) == []


def test_static_files_come_and_go_with_the_release(hosts: Hosts, tmp_path: Path) -> None:
    put(hosts, "shop/production", "a.com", public=tmp_path / "1")
    assert (tmp_path / "hosts/a.com/public").readlink() == tmp_path / "1"
    put(hosts, "shop/production", "a.com", public=tmp_path / "2")
    assert (tmp_path / "hosts/a.com/public").readlink() == tmp_path / "2"
    put(hosts, "shop/production", "a.com")
    assert not (tmp_path / "hosts/a.com/public").is_symlink()


def test_maintenance_is_for_all_routes_of_one_app(hosts: Hosts) -> None:
    put(hosts, "shop/production", "a.com", "b.com/x")
    put(hosts, "blog/production", "b.com")

    hosts.set_maintenance("shop/production", on=True)
    assert [str(route) for route, _, is_down in hosts.routes() if is_down] == ["a.com", "b.com/x"]

    hosts.set_maintenance("shop/production", on=False)
    assert not any(is_down for _, _, is_down in hosts.routes())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["shop/production", "shop/staging", "blog/production"]),
            st.lists(st.sampled_from(["a.com", "*.a.com", "a.com/x", "a.com/x/y", "b.com", "b.com/x"]), unique=True),
        ),
        max_size=12,
    )
)
def test_whatever_is_put_in_any_order_each_route_has_one_owner_who_asked_for_it(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[str, list[str]]]
) -> None:
    hosts = Hosts(tmp_path_factory.mktemp("hosts"))
    expected: dict[str, str] = {}
    for owner, routes in puts:
        if any(expected.get(route, owner) != owner for route in routes):
            with pytest.raises(RouteTaken):
                put(hosts, owner, *routes)
            continue
        put(hosts, owner, *routes)
        expected = {route: holder for route, holder in expected.items() if holder != owner}
        expected |= dict.fromkeys(routes, owner)

    assert listed(hosts) == expected
