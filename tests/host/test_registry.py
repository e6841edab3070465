"""Which workflows there are, and what is checked of a call before anything is stored."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tako.errors import InvalidRequest, PayloadError, UnknownSignal
from tako.host.registry import Registry, check_payload, check_registry
from tako.protocol.messages import Registry as GroupRegistry
from tako.protocol.messages import WorkflowInfo
from tako.sdk.signals import Signal


def info(name: str, *, signature: str = "s", aliases: tuple[str, ...] = (), **parameters: str) -> WorkflowInfo:
    """A workflow whose parameters are given as name="type" or name="type?" for one with a default."""
    return cast(
        WorkflowInfo,
        {
            "name": name,
            "aliases": list(aliases),
            "parameters": [
                {"name": name, "type": type_.rstrip("?"), "required": not type_.endswith("?")}
                for name, type_ in parameters.items()
            ],
            "signature": signature,
            "retries": 2,
        },
    )


def told(group: str, *workflows: WorkflowInfo) -> GroupRegistry:
    return {"group": group, "workflows": list(workflows), "files": []}


def test_what_a_worker_tells_is_found_by_name_and_alias() -> None:
    registry = Registry()
    registry.told(told("mail", info("send", aliases=("send_mail",))))

    assert registry.group_of("send") == registry.group_of("send_mail") == "mail"
    assert registry.names_of("mail") == ["send", "send_mail"]
    assert [workflow["name"] for workflow in registry.workflows()] == ["send"]


def test_a_scan_is_enough_to_know_the_group() -> None:
    registry = Registry()
    registry.new_code({"mail": {"send"}})

    assert registry.group_of("send") == "mail"
    assert registry.find("send") is None


def test_new_code_forgets_groups_without_files_and_keeps_the_last_word_on_the_others() -> None:
    registry = Registry()
    registry.told(told("mail", info("send")))
    registry.told(told("old", info("gone")))
    registry.new_code({"mail": set()})

    assert registry.group_of("send") == "mail"
    assert registry.group_of("gone") is None
    assert registry.live == {}


def test_a_changed_signature_is_told() -> None:
    registry = Registry()
    assert registry.told(told("mail", info("send", signature="1"))) == []
    assert registry.told(told("mail", info("send", signature="2"), info("new", signature="1"))) == ["send"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    registry = Registry()
    registry.told(told("mail", info("send_email")))

    error = registry.unknown("send_emial")
    assert "send_emial" in error.message
    assert error.cure == "Did you mean send_email?"
    assert "tako init" in Registry().unknown("x").cure


def test_a_signal_that_its_workflow_does_not_declare_is_refused_with_the_nearest() -> None:
    registry = Registry()
    shipped = cast(WorkflowInfo, {**info("fulfil"), "signals": [{"name": "shipped", "type": None}]})
    registry.told(told("default", shipped))

    registry.check_signal("fulfil", "shipped", "[1]")
    with pytest.raises(UnknownSignal) as raised:
        registry.check_signal("fulfil", "shiped", "1")

    assert "'fulfil' declares no signal 'shiped'; it declares: 'shipped'" in raised.value.message
    assert raised.value.cure == "Did you mean 'shipped'?"


def test_of_a_workflow_that_no_worker_has_told_of_every_signal_may_be_kept() -> None:
    registry = Registry()
    registry.new_code({"default": ["fulfil"]})

    registry.check_signal("fulfil", "whatever", "1")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{", "signal shipped: the value is not JSON"),
        ("3", "signal shipped: expected an object, found a number"),
        ("{}", "signal shipped: 'parcel' is missing"),
        ('{"parcel": 3}', "signal shipped.parcel: expected a text, found a number"),
        ('{"parcel": "a", "weight": "1"}', "signal shipped.weight: expected a number, found a text"),
        ('{"parcel": "a", "weight": 1, "any": [1]}', ""),
        ('{"parcel": "a"}', ""),
    ],
)
def test_a_signal_that_no_wait_could_read_is_refused_at_its_sender(value: str, problem: str) -> None:
    @dataclass
    class Shipment:
        parcel: str
        weight: float = 1.0
        any: object = None

    registry = Registry()
    declared = Signal("shipped", Shipment).declared()
    registry.told(told("default", cast(WorkflowInfo, {**info("fulfil"), "signals": [declared]})))

    with pytest.raises(PayloadError, match=f"^{problem}.*nothing was sent$") if problem else nullcontext():
        registry.check_signal("fulfil", "shipped", value)


def test_a_name_of_64_kib_is_cut_in_the_message() -> None:
    assert len(Registry().unknown("x" * 65_536).message) < 300


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a list"),
        ('{"to": "a"}', "argument 'count' (int) is missing"),
        ('{"to": 1, "count": 1}', "argument 'to' is str, found a number"),
        ('{"to": "a", "count": true}', "argument 'count' is int, found a boolean"),
        ('{"to": "a", "count": null}', "argument 'count' is int, found null"),
        ('{"to": "a", "cont": 1, "count": 1}', "no argument 'cont'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(payload: str, words: str) -> None:
    with pytest.raises(PayloadError, match=words.replace("(", r"\(").replace(")", r"\)")):
        check_payload(info("send", to="str", count="int", note="str | None?"), payload)


@pytest.mark.parametrize(
    "payload",
    ['{"to": "a", "count": 1}', '{"to": "a", "count": 1, "note": null}', '{"to": "a", "count": 1, "note": "x"}'],
)
def test_arguments_that_fit_pass(payload: str) -> None:
    check_payload(info("send", to="str", count="int", note="str | None?"), payload)


def test_what_only_the_code_can_judge_is_left_to_the_worker() -> None:
    check_payload(info("send", when="datetime", order="Order"), '{"when": 5, "order": {}}')


@pytest.mark.parametrize(
    "registry",
    [
        {"group": "other", "workflows": []},
        {"group": "mail"},
        {"group": "mail", "workflows": [{}]},
        {"group": "mail", "workflows": [{"name": "send", "aliases": "x"}]},
    ],
)
def test_a_registry_that_is_none_is_refused(registry: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check_registry(registry, group="mail")
