"""What a release declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tako.engine import registry
from tako.engine.options import Options
from tako.engine.store import Store
from tako.protocol.messages import Registry
from tests.support.engine import Rig


def declares(group: str, *workflows: dict[str, Any]) -> Registry:
    base: dict[str, Any] = {"aliases": [], "max_pending": None, "on_dead": None}
    return cast(Registry, {"group": group, "files": [], "workflows": [base | workflow for workflow in workflows]})


def test_a_release_keeps_what_its_groups_declared_last(engine: Rig) -> None:
    for told in (declares("mail", {"name": "old"}), declares("mail", {"name": "send"}), declares("default")):
        engine.do(registry.save, release="r1", registry=told, now_ms=1)
    engine.do(registry.save, release="r2", registry=declares("mail"), now_ms=1)

    found = registry.load(engine.store, release="r1")
    names = {group: [info["name"] for info in declared["workflows"]] for group, declared in found.items()}
    assert names == {"default": [], "mail": ["send"]}
    engine.do(registry.forget_group, release="r1", group="mail")
    assert list(registry.load(engine.store, release="r1")) == ["default"]
    assert list(registry.load(engine.store, release="r2")) == ["mail"]


def test_the_rules_obey_what_workflows_declare_under_every_name(engine: Rig) -> None:
    found = declares(
        "default",
        {"name": "send", "aliases": ["mail"], "max_pending": 3, "options": {"rate": {"count": 2, "per_ms": 9}}},
        {"name": "plain"},
    )

    engine.do(registry.obey, {"default": found})

    expected = Options(names=("send", "mail"), max_pending=3, rate_count=2, rate_per_ms=9)
    assert engine.store.options == {"send": expected, "mail": expected}
    engine.do(registry.obey, {})
    assert engine.store.options == {}


def test_options_hold_before_any_worker_has_said_hello(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.db")
    with store.transaction():
        registry.obey(store, {"default": declares("default", {"name": "send", "on_dead": "page_us"})})
    store.close()

    store = Store.open(tmp_path / "runs.db")
    assert store.options == {"send": Options(names=("send",), on_dead="page_us")}
    store.close()


def test_options_of_a_transaction_that_failed_do_not_hold(engine: Rig) -> None:
    with pytest.raises(ZeroDivisionError), engine.store.transaction():
        registry.obey(engine.store, {"default": declares("default", {"name": "send", "max_pending": 1})})
        raise ZeroDivisionError

    assert engine.store.options == {}
