"""The environment of every process that Tako starts."""

from __future__ import annotations

from typing import Any

import pytest

from tako.errors import NoEngine
from tako.protocol import env


def build(**changed: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "inherited": {}, "variables": {}, "app": "shop", "socket": "/run/s", "environment": "production",
        "release": "a1b2c3d", "data_dir": "/var/data", **changed,
    }  # fmt: skip
    return env.build(**given)


def test_what_is_built_is_what_is_read() -> None:
    found = env.read(build())

    assert found is not None
    assert (found.app, found.socket, found.environment) == ("shop", "/run/s", "production")
    assert (found.release, found.data_dir) == ("a1b2c3d", "/var/data")


def test_of_the_daemons_own_environment_little_passes() -> None:
    inherited = {"PATH": "/bin", "LC_TIME": "C", "VIRTUAL_ENV": "/v", "AWS_SECRET_ACCESS_KEY": "x", "PYTHONPATH": "/p"}

    found = build(inherited=inherited)

    assert (found["PATH"], found["LC_TIME"], found["VIRTUAL_ENV"]) == ("/bin", "C", "/v")
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} & found.keys()


def test_ours_win_over_the_apps_and_the_apps_over_the_daemons() -> None:
    found = build(
        inherited={"LANG": "C"},
        variables={"LANG": "de_DE", "TAKO_APP_NAME": "other", "LOG_LEVEL": "info"},
        worker={env.GROUP: "mail", "LOG_LEVEL": "debug"},
        web={"PORT": "8000"},
    )

    assert (found["LANG"], found["TAKO_APP_NAME"], found["LOG_LEVEL"]) == ("de_DE", "shop", "debug")
    assert (found["TAKO_WORKFLOW_WORKER"], found["PORT"], found["PYTHONUNBUFFERED"]) == ("mail", "8000", "1")


def test_a_process_that_tako_did_not_start_reads_none() -> None:
    assert env.read({"PATH": "/bin"}) is None


@pytest.mark.parametrize("present", ["TAKO_APP_NAME", "TAKO_INTERNAL_SOCKET"])
def test_only_one_of_the_two_is_never_right(present: str) -> None:
    with pytest.raises(NoEngine, match=f"{present} is set but"):
        env.read({present: "x"})
