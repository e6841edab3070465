"""Routes: how they are written, and whose they are."""

from __future__ import annotations

import pytest

from tako.errors import TakoError
from tako.server import routing


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ("example.com", ("example.com", "")),
        ("Example.COM.", ("example.com", "")),
        ("example.com/shop/", ("example.com", "/shop")),
        ("*.example.com", ("*.example.com", "")),
        ("bücher.example", ("xn--bcher-kva.example", "")),
    ],
)
def test_a_route_is_a_host_and_a_path(route: str, found: tuple[str, str]) -> None:
    assert routing.split(route) == found


@pytest.mark.parametrize("route", ["", "/", "exa mple.com", "example.com:80", "a..b", "../x", "a/../b", "-" * 70, "*"])
def test_what_is_no_route_is_refused(route: str) -> None:
    with pytest.raises(TakoError):
        routing.split(route)
