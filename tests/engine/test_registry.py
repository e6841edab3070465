"""What a release declares."""

from __future__ import annotations

from typing import Any, cast

from tako.engine import registry
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
        "default", {"name": "send", "aliases": ["mail"], "max_pending": 3, "on_dead": "page_us"}, {"name": "x"}
    )

    registry.obey(engine.store, {"default": found})

    assert engine.store.limits == {"send": 3, "mail": 3}
    assert engine.store.on_dead == {"send": "page_us", "mail": "page_us"}
    registry.obey(engine.store, {})
    assert (engine.store.limits, engine.store.on_dead) == ({}, {})
