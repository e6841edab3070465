"""Our way to the C functions gives what the standard library gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako.protocol import json_text
from tests.protocol.test_framing import JSON


@given(JSON)
def test_values_are_written_and_read_as_the_json_module_does(value: Any) -> None:
    assert json_text.encode(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert json_text.encode_ascii(value) == json.dumps(value, separators=(",", ":"))
    assert json_text.decode(json_text.encode(value)) == value
    assert json_text.decode(f" \t\n{json.dumps(value, indent=1)}\r\n") == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u', max_size=30))
def test_texts_are_refused_as_the_json_module_refuses_them(text: str) -> None:
    try:
        wanted = json.loads(text, parse_constant=json_text._refuse_constant)
    except ValueError:
        with pytest.raises(ValueError):
            json_text.decode(text)
    else:
        assert json_text.decode(text) == wanted


@pytest.mark.parametrize("text", ["", "  ", "NaN", "[1,]", "{} x", "'a'", "\x0b1"])
def test_what_is_not_one_value_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        json_text.decode(text)


def test_what_contains_itself_is_an_error() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(RecursionError):
        json_text.encode(loop)
