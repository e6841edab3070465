"""Templates of keys: the same text wherever they are rendered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.errors import PayloadError
from tako.protocol import templates


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("order:{order_id}", {"order_id": 7}, "order:7"),
        ("{a}{b}", {"a": "x", "b": "y"}, "xy"),
        ("{order.customer.id}", {"order": {"customer": {"id": "c1"}}}, "c1"),
        ("{{{a}}}", {"a": 1.5}, "{1.5}"),
        ("{a}/{b}", {"a": True, "b": None}, "true/null"),
        ("fixed", {}, "fixed"),
    ],
)
def test_names_and_fields_are_filled_in(template: str, values: dict[str, Any], text: str) -> None:
    assert templates.render(templates.parse(template), values) == text


def test_the_names_are_those_of_the_arguments() -> None:
    assert templates.names(templates.parse("{a}:{b.c}:x")) == ["a", "b"]


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a", "a}b", "{a!r}", "{a:>3}", "{0}", "{a[0]}", "{a.}", "{ a}"])
def test_what_is_no_template_is_an_error(template: str) -> None:
    with pytest.raises(ValueError, match=r"expected|single"):
        templates.parse(template)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({}, "the arguments have no 'a'"),
        ({"a": [1]}, "'a' is a list"),
        ({"a": {"b": 1}}, "'a' is a dict"),
        ({"a": ""}, "expected 1 to 512 bytes"),
        ({"a": "é" * 300}, "expected 1 to 512 bytes"),
    ],
)
def test_a_value_that_cannot_be_part_of_a_key_is_named(values: dict[str, Any], error: str) -> None:
    with pytest.raises(PayloadError) as caught:
        templates.render(templates.parse("{a}"), values)
    assert error in caught.value.message


@given(st.text(max_size=20))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        parts = templates.parse(text)
    except ValueError:
        return
    if not templates.names(parts) and text:
        assert templates.render(parts, {}) == text.replace("{{", "{").replace("}}", "}")


@given(st.text(min_size=1, max_size=100))
def test_braces_in_values_stay(value: str) -> None:
    assert templates.render(templates.parse("{a}"), {"a": value}) == value
