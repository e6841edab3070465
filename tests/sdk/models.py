"""Classes of every kind that payloads may hold. Annotations are text here, as under `from __future__`."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from datetime import date, datetime
from typing import Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Item:
    name: str
    due: datetime | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    seen: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Special(Item):
    extra: int = 0


@dataclasses.dataclass(frozen=True)
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Order(TypedDict):
    id: uuid.UUID
    note: NotRequired[str]


class Invoice(pydantic.BaseModel):
    day: date
    items: list[Item] = []
    total_cents: int = pydantic.Field(default=0, alias="total", ge=0)


@attrs.define
class Parcel:
    _weight: int
    labels: list[Color] = attrs.Factory(list)


class Event(msgspec.Struct):
    at: datetime
    tags: list[str] = []
