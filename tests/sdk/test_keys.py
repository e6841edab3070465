"""A template that can be made for no arguments is refused when the file is imported, and one that can is not."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from tako.errors import DefinitionError
from tako.sdk import declaration


class Colour(Enum):
    RED = "red"


@dataclass
class Customer:
    id: int
    tags: list[str]


@dataclass
class Order:
    id: UUID
    customer: Customer
    note: str | None = None


class Point(NamedTuple):
    x: int


class Row(TypedDict):
    id: str


class Model(pydantic.BaseModel):
    id: int
    name: str = pydantic.Field(alias="fullName")


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class Struct(msgspec.Struct, rename="camel"):
    order_id: int


@attrs.define
class Attrs:
    id: int


PROGRAM = """
from __future__ import annotations
from tako import Context, workflow
{before}
@workflow(key={key!r})
def handler(ctx: Context, a: {annotation}) -> None: ...
{after}
"""


def declare(annotation: str, key: str, *, before: str = "", after: str = "") -> Any:
    """The workflow of a file with this handler; its classes are those of this module."""
    module = types.ModuleType("flows_of_a_test")
    module.__dict__.update({name: value for name, value in globals().items() if isinstance(value, type)})
    sys.modules[module.__name__] = module
    text = PROGRAM.format(annotation=annotation, key=key, before=before, after=after)
    exec(compile(text, "flows.py", "exec"), module.__dict__)
    return module.__dict__["handler"]


@pytest.mark.parametrize(
    ("annotation", "key", "words"),
    [
        ("str", "{a.id}", "a is str, which has no 'id'; write {a}"),
        ("int | None", "{a.id}", "a is int, which has no 'id'; write {a}"),
        ("UUID", "{a.hex}", "a is UUID, which has no 'hex'; write {a}"),
        ("Colour", "{a.value}", "a is Colour, which has no 'value'; write {a}"),
        ("list[int]", "{a}", "a is list[int]; a part of a key is text or a number"),
        ("list[Order]", "{a.id}", "a is list[Order], and {a.id} names a field of an object"),
        ("Order", "{a}", "a is Order; a part of a key is text or a number, for example {a.id}"),
        ("dict[str, int]", "{a}", "a is dict[str, int]; a part of a key is text or a number"),
        ("Order", "{a.nr}", "a is Order, which has no 'nr'; it has: id, customer, note"),
        ("Order | None", "{a.nr}", "a is Order, which has no 'nr'"),
        ("Order", "{a.customer}", "a.customer is Customer; a part of a key is text or a number, for example {a."),
        ("Order", "{a.customer.tags}", "a.customer.tags is list[str]"),
        ("Order", "{a.id.hex}", "a.id is UUID, which has no 'hex'; write {a.id}"),
        ("Point", "{a.y}", "a is Point, which has no 'y'; it has: x"),
        ("Row", "{a.nr}", "a is Row, which has no 'nr'; it has: id"),
        ("Model", "{a.name}", "a is Model, which has no 'name'; it has: id, fullName"),
        ("Struct", "{a.order_id}", "a is Struct, which has no 'order_id'; it has: orderId"),
        ("Attrs", "{a.nr}", "a is Attrs, which has no 'nr'"),
    ],
)  # fmt: skip
def test_a_path_that_no_value_has_is_refused_at_import_with_file_cause_and_cure(
    annotation: str, key: str, words: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        declare(annotation, f"x:{key}")

    assert caught.value.message.startswith(f"flows.py:5: workflow 'handler': key: 'x:{key}' can never be made: ")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("annotation", "key"),
    [
        ("int", "{a}"), ("UUID", "{a}"), ("Colour", "{a}"), ("str | None", "{a}"), ("bool", "{a}"),
        ("Order", "{a.id}"), ("Order | None", "{a.id}"), ("Order", "{a.customer.id}"), ("Order", "{a.note}"),
        ("Order | Customer", "{a.customer.id}"), ("dict[str, int]", "{a.id}"), ("dict", "{a.b.c}"), ("Any", "{a.b}"),
        ("Point", "{a.x}"), ("Row", "{a.id}"), ("Model", "{a.fullName}"), ("Open", "{a.anything}"),
        ("Struct", "{a.orderId}"), ("Attrs", "{a.id}"),
    ],
)  # fmt: skip
def test_a_path_that_some_value_has_is_accepted(annotation: str, key: str) -> None:
    declaration.info(declare(annotation, key, before="from typing import Any").options)


def test_a_class_that_stands_further_down_is_looked_at_when_the_worker_boots() -> None:
    later = "from dataclasses import dataclass\n@dataclass\nclass Later:\n    id: int\n"
    found = declare("Later", "{a.nr}", after=later)

    with pytest.raises(DefinitionError, match="a is Later, which has no 'nr'; it has: id"):
        declaration.info(found.options)
    declaration.info(declare("Later", "{a.id}", after=later).options)
