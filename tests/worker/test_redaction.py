from __future__ import annotations

from collections.abc import Iterator

import pytest

from tako.worker import redaction


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    redaction.use({})


def test_without_secrets_nothing_changes() -> None:
    redaction.use({})

    assert not redaction.is_used()
    assert redaction.clean("swordfish") == "swordfish"


def test_values_are_replaced_by_their_names() -> None:
    redaction.use({"KEY": "swordfish", "OTHER": "swordfish2"})

    assert redaction.clean("a swordfish2 b swordfish") == "a [secret OTHER] b [secret KEY]"


def test_values_are_found_as_json_and_repr_show_them() -> None:
    redaction.use({"KEY": 'pass"word\n', "NAME": "Grüße"})

    assert redaction.clean(r'{"x": "pass\"word\n"}') == '{"x": "[secret KEY]"}'
    assert redaction.clean(repr('pass"word\n')) == "'[secret KEY]'"
    assert redaction.clean(r"Gr\u00fc\u00dfe Grüße") == "[secret NAME] [secret NAME]"


def test_a_value_of_several_lines_is_found_line_by_line() -> None:
    redaction.use({"PEM": "-----BEGIN-----\nMIIEvQ\n-----END-----"})

    assert redaction.clean("line: MIIEvQ") == "line: [secret PEM]"


def test_values_too_short_to_be_secret_are_left() -> None:
    redaction.use({"DEBUG": "on"})

    assert redaction.clean("one") == "one"
