"""Who may ask."""

from __future__ import annotations

import pytest

from tako.dashboard import guard
from tako.dashboard.guard import Refused


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7780", "localhost:7780", "LOCALHOST:1", "[::1]:7780", "127.0.0.1", "[::1]"]
)
def test_names_of_loopback_are_answered_at_any_port(host: str) -> None:
    guard.check_host({"host": host})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7780", "127.0.0.1.evil.example:7780", "localhost.:80", "", "127.0.0.1:x", "[::2]:1",
     "localhost:80@evil.example", "127.0.0.1:٣", "10.0.0.1:7780"],
)  # fmt: skip
def test_a_name_that_has_come_to_mean_loopback_is_refused(host: str) -> None:
    with pytest.raises(Refused) as caught:
        guard.check_host({"host": host})
    assert caught.value.status == 421


@pytest.mark.parametrize("given", ["", "no", "k" * 21, "k" * 23, "K" * 22, "\udcff"])
def test_an_address_without_the_key_is_refused_and_told_of_tako_open(given: str) -> None:
    guard.check_key("k" * 22, "k" * 22)
    with pytest.raises(Refused, match="tako open") as caught:
        guard.check_key(given, "k" * 22)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://127.0.0.1:7780"}, {"origin": "http://127.0.0.1:7780", "sec-fetch-site": "same-origin"}],
)
def test_what_comes_from_our_page_or_from_no_browser_may_change_something(headers: dict[str, str]) -> None:
    guard.check_origin({"host": "127.0.0.1:7780", **headers})


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},  # another server of this machine
        {"origin": "https://127.0.0.1:7780"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port is the same site
        {"sec-fetch-site": "none"},
        {"origin": "http://127.0.0.1:7780", "sec-fetch-site": "cross-site"},
    ],
)
def test_what_comes_from_another_site_changes_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match="nothing was done"):
        guard.check_origin({"host": "127.0.0.1:7780", **headers})


def test_a_button_from_before_a_restart_does_nothing_and_says_so() -> None:
    guard.check_token("t", "t")
    with pytest.raises(Refused, match="started again after this page was made"):
        guard.check_token("u", "t")
