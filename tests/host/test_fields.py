"""What a field of a request may hold, and what is made of a text that is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tako.errors import InvalidRequest
from tako.host import fields
from tako.host.admission import check_new_runs

HALF = "caf\ud800"


def test_half_of_a_surrogate_pair_is_refused_in_a_name() -> None:
    with pytest.raises(InvalidRequest, match="`key` has half of a surrogate pair"):
        fields.text({"key": HALF}, "key")


def test_half_of_a_surrogate_pair_is_escaped_in_json_and_in_words() -> None:
    assert fields.body({"result_json": f'"{HALF}"'}, "result_json") == '"caf\\ud800"'
    assert fields.words({"reason": HALF}, "reason") == "caf\\ud800"
    assert fields.json_text({"payload": {"a": HALF}}, "payload") == '{"a":"caf\\ud800"}'


def test_words_of_any_language_stay_as_they_are() -> None:
    text = "für 日本 🐙"

    assert fields.escaped(text) is text


def test_a_nul_is_refused_in_a_name_and_shown_in_words() -> None:
    with pytest.raises(InvalidRequest, match="`key` has a NUL"):
        fields.text({"key": "a\0b"}, "key")
    assert fields.words({"reason": "\0"}, "reason") == "\\0"


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 10**400, True, 1.0, "1", None])
def test_a_whole_number_is_one_that_every_reader_of_json_keeps(value: object) -> None:
    with pytest.raises(InvalidRequest, match="`epoch` is a whole number"):
        fields.integer({"epoch": value}, "epoch")


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (fields.text, ["a"]), (fields.text, "x" * 1025), (fields.body, 1), (fields.flag, 1), (fields.number, "1"),
        (fields.number, 10**400), (fields.texts, "ab"), (fields.texts, ["a", 1]), (fields.texts, [HALF]),
        (fields.table, []), (fields.tables, {}), (fields.tables, [[]]),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_is_refused_by_its_name(read: Callable[..., Any], value: object) -> None:
    with pytest.raises(InvalidRequest, match="`it`"):
        read({"it": value}, "it")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", HALF), ("workflow", "x" * 65_536), ("key", "x" * 1025), ("run_at_ms", 2**63), ("delay_ms", -(2**60)),
        ("priority", 10**400), ("retries", True), ("confirm", 1), ("on_duplicate", "rasie"), ("if_unhealthy", "held"),
        ("payload_json", {}),
    ],
)  # fmt: skip
def test_a_run_with_a_field_that_cannot_be_stored_is_refused_by_the_fields_name(name: str, value: object) -> None:
    run = {"id": "r", "workflow": "greet", "payload_json": "{}", name: value}

    with pytest.raises(InvalidRequest, match=f"`{name}`"):
        check_new_runs([run])


def test_a_payload_with_half_of_a_surrogate_pair_is_stored_escaped() -> None:
    (run,) = check_new_runs([{"id": "r", "workflow": "greet", "payload_json": f'{{"a":"{HALF}"}}'}])

    assert run["payload_json"] == '{"a":"caf\\ud800"}'
