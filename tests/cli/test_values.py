from __future__ import annotations

from typing import Any

import pytest

from tako.cli import values
from tako.cli.arguments import UsageError


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        ("int", "42", 42),
        ("int", "-7", -7),
        ("float", "1.5", 1.5),
        ("float", "3", 3.0),
        ("str", "42", "42"),
        ("str", "", ""),
        ("str", "true", "true"),
        ("bool", "true", True),
        ("bool", "No", False),
        ("bool", "0", False),
        ("str | None", "null", None),
        ("str | None", "text", "text"),
        ("int | None", "", None),
        ("int | str", "5", 5),
        ("int | str", "five", "five"),
        ("Optional[int]", "none", None),
        ("typing.Union[int, str]", "x", "x"),
        ("list[int]", "[1, 2]", [1, 2]),
        ("dict[str, int]", '{"a": 1}', {"a": 1}),
        ("list[int | str] | None", '["a"]', ["a"]),
        ("tuple[int, str]", '[1, "a"]', [1, "a"]),
        ("datetime", "2026-11-24T09:00:00Z", "2026-11-24T09:00:00Z"),
        ("datetime.datetime", "2026-11-24T09:00:00Z", "2026-11-24T09:00:00Z"),
        ("UUID", "5", "5"),
        ("Decimal", "1.10", "1.10"),
        ("Literal['a', 'b']", "b", "b"),
        ("Literal[1, 2]", "2", 2),
        ("Order", '{"id": 1}', {"id": 1}),
        ("Colour", "red", "red"),
        ("", "42", 42),
        ("", "text", "text"),
    ],
)
def test_a_value_is_read_by_its_declared_type(declared: str, text: str, value: Any) -> None:
    found = values.value(text, declared, name="x")

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("declared", "text"),
    [("int", "4.2"), ("int", "four"), ("int", ""), ("float", "nan"), ("bool", "maybe"), ("list[int]", "1,2"),
     ("dict[str, int]", "[1]"), ("Literal['a', 'b']", "c"), ("int | None", "x")],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_that_names_argument_type_and_text(declared: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        values.value(text, declared, name="user_id")

    assert f"user_id: expected {declared}, found {text!r}" in caught.value.message
    assert "Nothing was enqueued" in caught.value.message
