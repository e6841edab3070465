from __future__ import annotations

import pytest

from tako.discovery import declarations
from tako.discovery.declarations import Declaration, Unreadable


def read(text: str) -> tuple[Declaration, ...]:
    return declarations.read(text.encode(), path="workflows/a.py")


def test_a_decorated_function_is_a_workflow_named_for_itself() -> None:
    found = read("from tako import workflow\n\n@workflow\ndef send(ctx): ...\n")

    assert found == (Declaration(name="send", group="default", line=4),)


def test_name_group_and_aliases_are_read_from_literals() -> None:
    found = read(
        "import tako\n@tako.workflow(name='welcome', group=\"mail\", aliases=('hello', 'hi'), retries=3)\n"
        "async def send(ctx): ...\n"
    )

    assert found == (Declaration(name="welcome", group="mail", line=3, aliases=("hello", "hi")),)


def test_a_renamed_decorator_is_found() -> None:
    assert [one.name for one in read("from tako import workflow as durable\n@durable()\ndef send(ctx): ...\n")] == [
        "send"
    ]


def test_a_decorator_of_the_users_own_whose_name_ends_in_workflow_counts() -> None:
    found = read("from .base import mail_workflow\n@mail_workflow(group='mail')\ndef send(ctx): ...\n")

    assert [(one.name, one.group) for one in found] == [("send", "mail")]


def test_a_call_that_wraps_a_function_is_a_declaration() -> None:
    found = read(
        "from tako import workflow\ndef a(ctx): ...\ndef b(ctx): ...\n"
        "x = workflow(a, group='one')\ny = workflow(name='z', group='two')(b)\n"
    )

    assert [(one.name, one.group) for one in found] == [("a", "one"), ("z", "two")]


def test_a_name_bound_once_to_a_text_is_as_good_as_the_text() -> None:
    found = read("from tako import workflow\nGROUP = 'mail'\n@workflow(group=GROUP)\ndef send(ctx): ...\n")

    assert found[0].group == "mail"


@pytest.mark.parametrize("top", ["import os\n", "GROUP = 'a'\nGROUP = 'b'\n", "GROUP = str(1)\n"])
def test_a_group_that_must_be_computed_is_an_error_with_file_and_line(top: str) -> None:
    with pytest.raises(Unreadable, match=r"workflows/a\.py:\d+: group= must be a plain text"):
        read(f"from tako import workflow\n{top}@workflow(group=GROUP)\ndef send(ctx): ...\n")


def test_other_decorators_and_calls_declare_nothing() -> None:
    assert read("import functools\n@functools.cache\ndef f(): ...\nprint(f)\n(lambda g: g)(f)\n") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def send(:\n", r"workflows/a\.py:1: SyntaxError"),
        ("if x:\npass\n", r"workflows/a\.py:2: IndentationError"),
        ("a\0b", r"workflows/a\.py"),
        ("(" * 5000, r"workflows/a\.py"),
    ],
)
def test_what_is_not_python_is_an_error_with_file_and_line(text: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read(text)


def test_the_text_of_a_broken_file_still_names_its_groups() -> None:
    assert declarations.groups_in_text(b"@workflow(group='mail'\n@workflow(group = \"big\")\n") == ("big", "mail")
    assert declarations.groups_in_text(b"\xff\xfe def") == ("default",)
