from __future__ import annotations

import json

from tako.logs.redact import keep, redacted, redactor
from tako.protocol.messages import LogLine


def test_a_secret_is_replaced_by_its_name_wherever_it_stands() -> None:
    redact = redactor({"STRIPE_KEY": "sk_live_12345"})

    assert redact("key=sk_live_12345, again sk_live_12345") == "key=[secret STRIPE_KEY], again [secret STRIPE_KEY]"


def test_a_secret_inside_json_or_repr_is_found() -> None:
    value = 'pa"ss\\word\tü'
    redact = redactor({"PASSWORD": value})

    for text in (json.dumps({"p": value}), json.dumps({"p": value}, ensure_ascii=False), repr({"p": value})):
        assert "ss" not in redact(text).replace("[secret PASSWORD]", "")


def test_a_secret_that_begins_with_another_leaves_no_tail() -> None:
    redact = redactor({"SHORT": "abcd", "LONG": "abcdefgh"})

    assert redact("abcdefgh abcd") == "[secret LONG] [secret SHORT]"


def test_each_line_of_a_secret_of_several_lines_is_found_but_not_its_common_frame() -> None:
    pem = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    redact = redactor({"PEM": pem})

    assert redact("MIIEvQIBADANBg") == "[secret PEM]"
    assert redact("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_a_very_short_value_is_left_alone() -> None:
    assert redactor({"FLAG": "1"}) is keep


def test_fields_of_a_line_are_redacted_however_deep() -> None:
    line: LogLine = {
        "ts_ms": 1,
        "level": "info",
        "scope": "worker",
        "message": "sent sk_live_12345",
        "fields": {"a": [{"b": "sk_live_12345"}], "n": 3},
    }

    safe = redacted(line, redactor({"KEY": "sk_live_12345"}))

    assert safe["message"] == "sent [secret KEY]"
    assert safe["fields"] == {"a": [{"b": "[secret KEY]"}], "n": 3}
    assert line["message"] == "sent sk_live_12345"
