"""Values to JSON text and back: payload.py, and with it codecs.py, models.py and annotations.py."""

# ruff: noqa: UP006, UP007, UP045  (as their users write them)
from __future__ import annotations

import functools
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, Union
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tako import PayloadError
from tako.sdk import annotations as kinds
from tako.sdk import payload
from tests.sdk.models import Box, Color, Event, Invoice, Item, Level, Order, Parcel, Point, Rights, Special, Tree

NOW = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
ID = UUID("0198a000-0000-7000-8000-000000000001")


def encode(annotation: Any, value: Any) -> str:
    return payload.encode(payload.codec_for(annotation, what="result"), value, what="result")


def decode(annotation: Any, text: str) -> Any:
    return payload.decode(payload.codec_for(annotation, what="result"), text, what="result")


def refusal(annotation: Any, value: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        encode(annotation, value)
    return caught.value.message


def stored_refusal(annotation: Any, text: str) -> str:
    with pytest.raises(PayloadError) as caught:
        decode(annotation, text)
    return caught.value.message


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (str, "é", '"é"'),
        (int, 2**70, str(2**70)),
        (float, 0.1, "0.1"),
        (bool, True, "true"),
        (None, None, "null"),
        (datetime, NOW, '"2026-11-23T08:00:00.123456+00:00"'),
        (date, NOW.date(), '"2026-11-23"'),
        (timedelta, timedelta(days=3, microseconds=5), "259200.000005"),
        (UUID, ID, f'"{ID}"'),
        (Decimal, Decimal("1.10"), '"1.10"'),
        (bytes, b"\x00\xff", '"AP8="'),
        (Color, Color.RED, '"red"'),
        (Level, Level.HIGH, "2"),
        (Rights, Rights.READ | Rights.WRITE, "3"),
        (list, [1, "a", None], '[1,"a",null]'),
        (list[int], [1, 2], "[1,2]"),
        (tuple, (1,), "[1]"),
        (tuple[int, str], (1, "a"), '[1,"a"]'),
        (tuple[int, ...], (1, 2), "[1,2]"),
        (dict, {"a": [1]}, '{"a":[1]}'),
        (dict[str, Color], {"a": Color.BLUE}, '{"a":"blue"}'),
        (dict[int, str], {1: "a"}, '{"1":"a"}'),
        (dict[UUID, int], {ID: 1}, f'{{"{ID}":1}}'),
        (dict[date, int], {date(2026, 1, 2): 1}, '{"2026-01-02":1}'),
        (Item, Item("a", NOW), '{"name":"a","due":"2026-11-23T08:00:00.123456+00:00","tags":[],"seen":0}'),
        (Tree, Tree(1, [Tree(2)]), '{"value":1,"children":[{"value":2,"children":[]}]}'),
        (Box[int], Box(3), '{"content":3}'),
        (Point, Point(1), '{"x":1,"y":0.5}'),
        (Order, {"id": ID}, f'{{"id":"{ID}"}}'),
        (Parcel, Parcel(3, [Color.RED]), '{"_weight":3,"labels":["red"]}'),
        (Literal["a", 1], "a", '"a"'),
        (Annotated[int, "kg"], 1, "1"),
        (NewType("Cents", int), 5, "5"),
        (Sequence[int], [1], "[1]"),
        (Iterable[int], [1], "[1]"),
        (Mapping[str, int], {"a": 1}, '{"a":1}'),
        (typing.List[int], [1], "[1]"),
        (typing.Dict[str, int], {"a": 1}, '{"a":1}'),
        (Any, {"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        (object, "x", '"x"'),
    ],
)
def test_each_type_has_its_json_and_comes_back_as_it_went(annotation: Any, value: Any, text: str) -> None:
    assert encode(annotation, value) == text

    back = decode(annotation, text)
    assert back == value
    assert type(back) is type(value)


def test_models_of_pydantic_come_back_with_their_fields_and_aliases() -> None:
    invoice = Invoice(day=NOW.date(), items=[Item("a", NOW)], total=3)

    text = encode(Invoice, invoice)

    assert json.loads(text)["total"] == 3
    assert decode(Invoice, text) == invoice
    assert decode(list[Invoice], encode(list[Invoice], [invoice])) == [invoice]


def test_structs_of_msgspec_come_back() -> None:
    event = Event(NOW, ["a"])

    assert decode(Event, encode(Event, event)) == event
    assert stored_refusal(list[Event], '[{"at":"2026-01-01T00:00:00Z","tags":[1]}]').startswith(
        "result[0].tags[0]: Expected"
    )
    assert stored_refusal(Event, "{}") == "result: Object missing required field `at`"


def test_a_dataclass_gets_its_fields_that_are_not_of_init_back() -> None:
    item = Item("a")
    item.seen = 4

    assert decode(Item, encode(Item, item)).seen == 4


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Optional[Item], Item("a")),
        (Optional[Item], None),
        (int | str, "3"),
        (int | str, 3),
        (int | bool, True),
        (float | int, 3),
        (datetime | str, NOW),
        (datetime | str, "2026-11-23"),
        (datetime | date, NOW.date()),
        (Union[UUID, date, None], NOW.date()),
        (Item | Tree, Tree(1)),
        (Item | Tree | None, None),
        (Color | str, "red"),
        (Color | str, Color.RED),
        (Parcel | Invoice, Parcel(1)),
        (list[int] | tuple[int, ...], (1,)),
        (list[Item | Point], [Item("a"), Point(1)]),
        (bytes | str, b"x"),
        (dict[str, int] | Item, {"$": 1}),
        (dict[str, Any] | Item, {"$": "Item", "value": {}}),
    ],
)
def test_a_union_gives_back_the_member_that_went_in(annotation: Any, value: Any) -> None:
    back = decode(annotation, encode(annotation, value))

    assert back == value
    assert type(back) is type(value)


def test_a_union_reads_json_without_tags_as_people_write_it() -> None:
    assert decode(Item | Tree, '{"value":1}') == Tree(1)
    assert decode(datetime | str, '"2026-11-23"') == "2026-11-23"
    assert decode(UUID | None, f'"{ID}"') == ID


@pytest.mark.parametrize(
    ("annotation", "value", "error"),
    [
        (
            list[Item],
            [Item("a"), Item("b", NOW.replace(tzinfo=None))],
            "result[1].due: expected datetime with a time zone",
        ),
        (datetime, datetime(2026, 1, 1), "result: expected datetime with a time zone"),
        (date, NOW, "result: expected date, found datetime; use .date()"),
        (float, float("nan"), "result: found nan, which JSON cannot say"),
        (int, "a", "result: expected int, found str"),
        (Any, {1: 2}, "result: expected keys of str, found 1"),
        (Any, [{"a": {1}}], "result[0].a: found set, which has no"),
        (Any, object(), "result: found object, which is not plain JSON"),
        (str, None, "result: expected str, found None"),
        (dict[str, list[int]], {"k": [1, "x"]}, "result['k'][1]: expected int, found str"),
        (tuple[int, int], (1,), "result: expected 2 items, found 1"),
        (Color, "red", "result: expected Color, found str"),
        (Order, {"note": "x"}, "result.id: missing"),
        (Order, {"id": ID, "x": 1}, "result: unknown key 'x' of Order"),
        (Item, Special("a"), "result: expected Item, found its subclass Special"),
        (Item | None, 3, "result: expected Item"),
        (int | str, 1.5, "result: expected int | str, found 1.5"),
        (Literal["a"], "b", "result: expected 'a', found 'b'"),
        (Decimal, Decimal("NaN"), "result: expected a finite Decimal"),
        (Parcel, 3, "result: expected Parcel, found 3"),
        (Invoice, Invoice.model_construct(day=3), "result: Invoice cannot be stored"),
        (bool, 1, "result: expected bool"),
        (timedelta, timedelta.max, "result: expected a timedelta of less than"),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_path(annotation: Any, value: Any, error: str) -> None:
    assert refusal(annotation, value).startswith(error)


@pytest.mark.parametrize(
    ("annotation", "hint"),
    [
        (set[int], "a set has no order"),
        (frozenset, "a set has no order"),
        (complex, "use a tuple of two floats"),
        (dict[tuple[int, int], int], "keys of tuple[int, int] cannot be stored"),
        (type, "cannot be stored"),
        (typing.Callable[[], int], "cannot be stored"),
        (Literal[Color.RED], "use str, int, bool or None"),
        (3, "not a type"),
    ],
)
def test_a_type_that_cannot_be_stored_is_refused_with_a_hint(annotation: Any, hint: str) -> None:
    assert hint in refusal(annotation, None)


@pytest.mark.parametrize(
    ("annotation", "text", "error"),
    [
        (Item, '{"due":null}', "result.name: missing"),
        (Item, '{"name":"a","due":"x"}', "result.due: expected datetime"),
        (Item, "[]", "result: expected Item (an object), found list"),
        (int, "1.5", "result: expected int, found 1.5"),
        (int, "true", "result: expected int, found True"),
        (UUID, '"x"', "result: expected UUID, found 'x'"),
        (bytes, '"%"', "result: expected bytes (base64), found '%'"),
        (Decimal, '"x"', "result: expected Decimal, found 'x'"),
        (datetime, '"2026-01-01T00:00:00"', "result: expected datetime with a time zone"),
        (Color, '"x"', "result: expected Color"),
        (Invoice, '{"day":"x"}', "result.day: "),
        (Invoice, '{"day":"2026-01-01","items":[{}]}', "result.items[0].name: "),
        (Item | Tree, '{"value":"x"}', "result.value: expected int, found str"),
        (int, "{", "result: stored text is not JSON"),
        (dict[int, int], '{"x":1}', "result['x']: expected a key of int, found str"),
        (timedelta, "1e300", "result: expected timedelta"),
        (list[int], "[" * 100_000, "result: stored text is not JSON"),
        (int, "9" * 5_000, "result: stored text is not JSON"),
    ],
)
def test_stored_text_that_no_longer_fits_is_an_error_with_the_path(annotation: Any, text: str, error: str) -> None:
    assert stored_refusal(annotation, text).startswith(error)


def test_a_field_that_the_class_has_no_more_is_skipped() -> None:
    assert decode(Tree, '{"value":1,"colour":"red"}') == Tree(1)


def test_one_mebibyte_can_be_stored_and_one_byte_more_is_refused_with_the_way_out() -> None:
    assert encode(str, "x" * (payload.MAX_BYTES - 2))

    with pytest.raises(PayloadError) as caught:
        encode(str, "x" * (payload.MAX_BYTES - 1))

    assert "1,048,577 bytes as JSON; at most 1,048,576" in caught.value.message
    assert "Store the data elsewhere" in caught.value.cure


def test_the_limit_counts_bytes_not_characters() -> None:
    assert "bytes as JSON" in refusal(str, "é" * (payload.MAX_BYTES // 2))


def test_a_lone_surrogate_survives() -> None:
    text = encode(str, "file-\udce9")

    assert text.encode()
    assert decode(str, text) == "file-\udce9"


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    assert refusal(Any, loop).startswith("result: cannot be stored: ")


def test_an_int_that_is_annotated_as_a_float_comes_back_as_one() -> None:
    assert encode(float, 3) == "3.0"
    assert not payload.is_plain(3)


class Text(str):
    pass


def test_subclasses_of_plain_types_are_stored_as_their_base() -> None:
    assert encode(str, Text("a")) == '"a"'
    assert encode(Any, [Text("a"), Level.LOW.value]) == '["a",1]'
    assert encode(int, Level.HIGH) == "2"


def test_an_offset_is_kept() -> None:
    paris = NOW.astimezone(timezone(timedelta(hours=1)))

    assert encode(datetime, paris) == '"2026-11-23T09:00:00.123456+01:00"'
    assert decode(datetime, encode(datetime, paris)).utcoffset() == timedelta(hours=1)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_json_comes_back_equal(value: Any) -> None:
    assert decode(Any, encode(Any, value)) == value


@given(st.timedeltas(min_value=timedelta(days=-99_000), max_value=timedelta(days=99_000)))
def test_a_timedelta_is_exact(value: timedelta) -> None:
    assert decode(timedelta, encode(timedelta, value)) == value


@given(st.datetimes(timezones=st.timezones()))
def test_an_aware_datetime_is_the_same_instant(value: datetime) -> None:
    offset = value.utcoffset()
    if offset is not None and offset.total_seconds() % 1 == 0:
        assert decode(datetime, encode(datetime, value)) == value.replace(tzinfo=timezone(offset))


@given(st.binary())
def test_bytes_come_back(value: bytes) -> None:
    assert decode(bytes, encode(bytes, value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_digits(value: Decimal) -> None:
    assert str(decode(Decimal, encode(Decimal, value))) == str(value)


# --- the codec of a step --------------------------------------------------------------------------------------------


def make_item() -> Item:
    return Item("a")


async def make_later() -> list[UUID]:
    return [uuid4()]


class Maker:
    def __call__(self) -> Color:
        return Color.RED

    def method(self) -> Point:
        return Point(1)


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (make_item, "Item"),
        (make_later, "list[UUID]"),
        (functools.partial(make_item), "Item"),
        (Maker(), "Color"),
        (Maker().method, "Point"),
        (lambda: 1, "JSON"),
        (print, "JSON"),
        (UUID, "UUID"),
        (functools.cache(make_item), "Item"),
        (functools.partial(functools.partial(make_item)), "Item"),
    ],
)
def test_the_type_of_a_step_is_what_its_function_says_it_returns(fn: Any, name: str) -> None:
    assert payload.codec_for_step(fn).name == name


def test_returns_wins_over_the_annotation() -> None:
    assert payload.codec_for_step(make_item, dict[str, int]).name == "dict[str, int]"


def make_hidden() -> Hidden:  # type: ignore[name-defined]  # noqa: F821
    ...


def test_an_annotation_that_names_nothing_at_run_time_is_an_error_that_says_so() -> None:
    with pytest.raises(PayloadError, match=r"annotation 'Hidden' cannot be read: NameError.*TYPE_CHECKING"):
        payload.codec_for_step(make_hidden)


def test_text_annotations_mean_what_their_own_module_says() -> None:
    one = kinds.codec_of("Thing", {"Thing": int})
    other = kinds.codec_of("Thing", {"Thing": str})

    assert (one.name, other.name) == ("int", "str")


def test_arguments_for_an_unknown_workflow_are_stored_as_what_they_are() -> None:
    values = payload.dump_arguments({"id": ID, "items": [Item("a", NOW)], "at": NOW, "n": 3, "c": {"x": Color.RED}})

    assert values["id"] == str(ID)
    assert values["items"][0]["due"] == "2026-11-23T08:00:00.123456+00:00"
    assert values["c"] == {"x": "red"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"a": {1}}, "a: set cannot be stored"), ({"a": float("inf")}, "a: found inf"), ({1: 2}, "names of str, found 1")],
)
def test_arguments_that_cannot_be_stored_are_named(arguments: Any, error: str) -> None:
    with pytest.raises(PayloadError, match=error):
        payload.dump_arguments(arguments)
