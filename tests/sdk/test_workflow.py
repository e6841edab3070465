"""@workflow: what is accepted, what is refused at import, and what enqueueing says to the engine."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

import tako
from tako import AsyncContext, Context, Cron, DefinitionError, PayloadError, Rate, Retry, Signal, Workflow, workflow
from tako.sdk import workflow as workflows
from tests.support.fake_engine import FakeEngine


def sent(engine: FakeEngine) -> list[dict[str, Any]]:
    return [run for message in engine.asked("enqueue_runs") for run in message["runs"]]


# --- declaring ------------------------------------------------------------------------------------------------------


def test_a_workflow_is_named_after_its_function_and_knows_where_it_is() -> None:
    @workflow
    def charge(ctx: Context, order_id: int) -> str: ...  # type: ignore[empty-body]

    assert charge.name == "charge"
    assert charge.file.endswith("tests/sdk/test_workflow.py")
    assert charge.line == charge.fn.__code__.co_firstlineno
    assert not charge.is_async
    assert charge.group == "default"
    assert charge.retry == Retry(2)
    assert charge.step_timeout_ms == 3_600_000
    assert repr(charge).startswith("<workflow charge(order_id) at ")


def test_every_option_reaches_the_registry() -> None:
    approved = Signal("approved", bool)

    @workflow(
        name="fulfil-order", aliases=["fulfil"], group="mail", retries=Retry(4, first="5s"), timeout="10m",
        step_timeout="1m", schedule=["0 9 * * *", Cron("0 8 * * 1", tz="Europe/Paris")], signals=[approved],
        key="order:{order_id}", concurrency=3, concurrency_key="{tenant}", rate=Rate(20, per="1s", key="{tenant}"),
        max_pending=100, on_dead="alarm", if_unhealthy="hold", strict=True, retention="7d",
    )  # fmt: skip
    async def fulfil(ctx: AsyncContext, order_id: int = 0, tenant: str = "acme", *, dry: bool = False) -> None: ...

    info: dict[str, Any] = dict(fulfil.info())
    signature, line = info.pop("signature"), info.pop("line")
    assert len(signature) == 16
    assert line == fulfil.line
    assert info == {
        "name": "fulfil-order", "aliases": ["fulfil"], "group": "mail", "file": fulfil.file,
        "parameters": [
            {"name": "order_id", "type": "int", "required": False},
            {"name": "tenant", "type": "str", "required": False},
            {"name": "dry", "type": "bool", "required": False},
        ],
        "retries": 4, "timeout_ms": 600_000, "key": "order:{order_id}", "max_pending": 100, "on_dead": "alarm",
        "if_unhealthy": "hold", "schedules": [schedule.declared() for schedule in fulfil.options.schedules],
        "signals": [{"name": "approved", "type": "bool", "kind": "bool"}],
        "options": {
            "retry": {"first_ms": 5_000, "factor": 2.0, "max_ms": 3_600_000, "jitter": 0.2, "retries": 4},
            "step_timeout_ms": 60_000, "concurrency": 3, "concurrency_key": "{tenant}",
            "rate": {"count": 20, "per_ms": 1_000, "key": "{tenant}"}, "strict": True, "retention_ms": 604_800_000,
            "is_async": True, "defaults": {"order_id": 0, "tenant": "acme", "dry": False},
        },
    }  # fmt: skip
    assert fulfil.is_async
    assert fulfil.zone == "UTC"


def declare(fn: Callable[..., Any], **options: Any) -> Workflow[..., Any]:
    found: Workflow[..., Any] = workflows.workflow(**options)(fn)
    return found


def plain(ctx: Context, order_id: int) -> None: ...


def async_with_context(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retires": 1}, "unknown option 'retires'"),
        ({"name": ""}, "name: expected 1 to 128 characters"),
        ({"name": "a b"}, "name: expected"),
        ({"name": "a\n"}, "name: expected"),
        ({"name": 3}, "name: expected text"),
        ({"group": ""}, "group: expected"),
        ({"aliases": "old"}, "aliases: expected a list"),
        ({"retries": -1}, "retries: expected a whole number"),
        ({"timeout": "soon"}, "timeout: expected a duration"),
        ({"timeout": 0}, "a timeout of 0"),
        ({"step_timeout": None}, "step_timeout: expected"),
        ({"schedule": "0 9 * *"}, "schedule: expected five fields"),
        ({"schedule": "0 9 * * *"}, "give a default to: order_id"),
        ({"signals": ["x"]}, "signals: expected Signal"),
        ({"key": "order:{id}"}, "names 'id', which is no argument; there are: order_id"),
        (
            {"key": "x:{order_id.id}"},
            "key: 'x:{order_id.id}' can never be made: order_id is int, which has no 'id'; write {order_id}",
        ),
        ({"concurrency_key": "{order_id.id}", "concurrency": 1}, "concurrency_key: '{order_id.id}' can never be made"),
        ({"rate": Rate(1, key="{order_id.id}")}, "rate: '{order_id.id}' can never be made"),
        ({"key": "order:{}"}, "key: 'order:{}': expected {name}"),
        ({"key": "{order_id"}, "expected {name}"),
        ({"key": "a}b"}, "single '}'"),
        ({"key": 3}, "key: expected text"),
        ({"concurrency": 0}, "concurrency: expected"),
        ({"max_pending": True}, "max_pending: expected"),
        ({"concurrency_key": "{order_id}"}, "concurrency= says how many"),
        ({"rate": 20}, "rate: expected Rate"),
        ({"rate": Rate(1, key="{x}")}, "rate: '{x}' names 'x'"),
        ({"on_dead": "plain"}, "on_dead names the workflow itself"),
        ({"if_unhealthy": "wait"}, "if_unhealthy: expected 'raise' or 'hold'"),
        ({"strict": "yes"}, "strict: expected True or False"),
        ({"retention": "-1d"}, "retention: expected a duration"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_with_file_and_line(options: dict[str, Any], error: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        declare(plain, **options)

    assert error in caught.value.message
    assert f"tests/sdk/test_workflow.py:{plain.__code__.co_firstlineno}: workflow 'plain': " in caught.value.message


def handlers() -> dict[str, Any]:
    def no_context() -> None: ...
    def sync_with_async_context(ctx: AsyncContext) -> None: ...
    async def async_with_sync_context(ctx: Context) -> None: ...
    def context_forgotten(user_id: int) -> None: ...
    def mutable(ctx: Context, tags: list[str] = []) -> None: ...  # noqa: B006
    def star(ctx: Context, *args: int) -> None: ...
    def star_star(ctx: Context, **kwargs: int) -> None: ...
    def positional(ctx: Context, a: int, /) -> None: ...
    def generator(ctx: Context) -> Any:
        yield 1

    return {**locals(), "a_lambda": lambda ctx: 1, "a_class": int}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no_context", "takes no context"),
        ("sync_with_async_context", "declared with `def` gets Context"),
        ("async_with_sync_context", "declared with `async def` gets AsyncContext"),
        ("context_forgotten", "the first parameter is the context"),
        ("mutable", "tags has a list as default"),
        ("star", "takes *args or **kwargs"),
        ("star_star", "takes *args or **kwargs"),
        ("positional", "positional-only"),
        ("generator", "is a generator"),
        ("a_lambda", "a lambda has no name"),
        ("a_class", "expected a function, found type"),
    ],
)
def test_a_handler_that_cannot_work_is_refused_at_import(name: str, error: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        declare(handlers()[name])
    assert error in caught.value.message


def test_a_lambda_with_a_name_is_fine() -> None:
    assert declare(lambda ctx: 1, name="one").run_inline() == 1


def bad_types(ctx: Context, tags: set[str]) -> None: ...


def bad_default(ctx: Context, when: int = "noon") -> None: ...  # type: ignore[assignment]


def bad_result(ctx: Context) -> complex: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("fn", "error"),
    [
        (bad_types, "tags: set[str] cannot be stored"),
        (bad_default, "default of when: expected int"),
        (bad_result, "result: complex"),
    ],
)
def test_types_that_cannot_be_stored_are_found_by_the_worker_at_boot(fn: Any, error: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        declare(fn).check()

    assert error in caught.value.message
    assert "tests/sdk/test_workflow.py:" in caught.value.message


def module(source: str, name: str = "first") -> dict[str, Any]:
    """Run a source as a module of its own."""
    scope: dict[str, Any] = {"__name__": name, "__spec__": object()}
    exec(compile("from tako import Context, workflow\n" + source, f"/app/workflows/{name}.py", "exec"), scope)
    return scope


ONE = "@workflow\ndef charge(ctx: Context) -> None: ...\n"


def test_two_workflows_of_one_name_are_an_error_that_names_both() -> None:
    module(ONE)

    with pytest.raises(DefinitionError) as caught:
        module("\n" + ONE, "second")

    assert "second.py:3: there is a workflow 'charge' already, at /app/workflows/first.py:2" in caught.value.message


def test_two_of_one_name_in_one_file_are_an_error() -> None:
    with pytest.raises(DefinitionError, match=r"first\.py:4: there is a workflow 'charge' already"):
        module(ONE + ONE)


def test_an_alias_counts_as_a_name() -> None:
    module(ONE)

    with pytest.raises(DefinitionError, match="there is a workflow 'charge' already"):
        module("@workflow(aliases=['charge'])\ndef bill(ctx: Context) -> None: ...\n", "second")


def test_a_module_may_be_loaded_anew() -> None:
    module(ONE)

    scope = module("\n\n" + ONE)

    assert workflows.declared() == {"charge": scope["charge"]}


def test_calling_a_workflow_is_a_type_error_that_says_what_to_do() -> None:
    charge = declare(plain)

    with pytest.raises(TypeError, match=r"use plain\.enqueue\(\.\.\.\) .* plain\.run_inline\(\.\.\.\) in a test"):
        charge(1)


def test_a_handler_may_wear_a_decorator() -> None:
    def loud(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            return f"{fn(*args, **kwargs)}!"

        return call

    def greet(ctx: Context, name: str) -> str:
        return f"hi {name}"

    greeting = declare(loud(greet))

    assert greeting.signature.names == ["name"]
    assert greeting.run_inline(name="ada") == "hi ada!"


def test_the_signature_tells_changes_that_matter() -> None:
    def one() -> Any:
        def f(ctx: Context, a: int, b: str = "x") -> None: ...

        return f

    def other() -> Any:
        def f(ctx: Context, a: int, b: str = "y") -> int: ...  # type: ignore[empty-body]

        return f

    def changed() -> Any:
        def f(ctx: Context, a: str, b: str = "x") -> None: ...

        return f

    assert declare(one()).digest == declare(other()).digest != declare(changed()).digest


# --- enqueueing -----------------------------------------------------------------------------------------------------


def test_enqueue_sends_the_arguments_by_name_and_gives_a_handle(engine: FakeEngine) -> None:
    charge = declare(plain, key="order:{order_id}")

    run = charge.enqueue(7)

    [new] = sent(engine)
    assert new == {
        "id": run.id, "workflow": "plain", "payload_json": '{"order_id":7}', "signature": charge.digest,
        "key": "order:7",
    }  # fmt: skip
    assert UUID(run.id).version == 7
    assert run.is_new
    assert run.args == {"order_id": 7}


def test_enqueue_tells_the_engine_its_deadline(engine: FakeEngine) -> None:
    before = time.monotonic() * 1000
    declare(plain).using(deadline="2s").enqueue(order_id=1)

    deadline = engine.asked("enqueue_runs")[0]["deadline_mono_ms"]
    assert before < deadline < before + 2_000  # so that its answer, whatever it is, comes in time


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((), {}, "missing 'order_id'; the workflow takes (order_id)"),
        ((1, 2), {}, "2 positional arguments were given"),
        ((1,), {"order_id": 1}, "order_id was given twice"),
        ((), {"oder_id": 1}, "unknown argument 'oder_id'; did you mean 'order_id'?"),
        (("x",), {}, "order_id: expected int, found str"),
        ((None,), {}, "order_id: expected int, found None"),
    ],
)
def test_arguments_that_do_not_fit_are_named_and_nothing_is_sent(
    engine: FakeEngine, args: Any, kwargs: Any, error: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        declare(plain).enqueue(*args, **kwargs)

    assert error in caught.value.message
    assert not sent(engine)


def test_too_large_arguments_are_refused_by_name_before_anything_is_sent(engine: FakeEngine) -> None:
    def post(ctx: Context, text: str) -> None: ...

    with pytest.raises(PayloadError, match="arguments of post: 1,100,011 bytes as JSON"):
        declare(post).enqueue("x" * 1_100_000)
    assert not sent(engine)


@pytest.mark.parametrize("value", [10**5000, [1, {"x": -(10**5000)}]], ids=["alone", "inside"])
def test_an_int_that_has_no_text_is_refused_by_name(engine: FakeEngine, value: Any) -> None:
    def post(ctx: Context, first: int, second: Any) -> None: ...

    with pytest.raises(PayloadError, match=r"arguments of post: second: cannot be stored: .*4300 digits"):
        declare(post).enqueue(1, value)
    with pytest.raises(PayloadError, match="second"):
        tako.enqueue("post", {"first": 1, "second": value})
    assert not sent(engine)


def test_using_says_when_and_how(engine: FakeEngine) -> None:
    at = datetime(2027, 1, 1, tzinfo=UTC)
    charge = declare(plain, key="order:{order_id}")

    charge.using(delay="10m", key="other:42", priority=5, retries=0, on_duplicate="raise").enqueue(1)
    charge.using(at=at, if_unhealthy="hold", confirm=True).enqueue(2)
    charge.using(delay=1).using(delay=2).enqueue(3)

    first, second, third = sent(engine)
    assert {name: first[name] for name in ("delay_ms", "key", "priority", "retries", "on_duplicate")} == {
        "delay_ms": 600_000, "key": "other:42", "priority": 5, "retries": 0, "on_duplicate": "raise",
    }  # fmt: skip
    assert (second["run_at_ms"], second["if_unhealthy"], second["confirm"]) == (1_798_761_600_000, "hold", True)
    assert third["delay_ms"] == 2_000


def test_expires_counts_from_the_enqueue(engine: FakeEngine) -> None:
    declare(plain).using(expires="1h").enqueue(1)
    declare(plain).using(expires=datetime(2027, 1, 1, tzinfo=UTC)).enqueue(1)

    first, second = sent(engine)
    assert abs(first["expires_at_ms"] - time.time() * 1000 - 3_600_000) < 60_000
    assert second["expires_at_ms"] == 1_798_761_600_000


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"delay": "x"}, "delay: expected a duration"),
        ({"at": datetime(2027, 1, 1)}, "at: .* has no time zone"),
        ({"at": "noon"}, "at: expected a datetime"),
        ({"key": ""}, "key: expected 1 to 512 bytes"),
        ({"key": 3}, "key: expected text"),
        ({"priority": "high"}, "priority: expected a whole number"),
        ({"retries": -1}, "retries: expected"),
        ({"on_duplicate": "skip"}, "on_duplicate: expected 'return' or 'raise'"),
        ({"deadline": 0}, "deadline: expected more"),
        ({"confirm": 1}, "confirm: expected True or False"),
        ({"prio": 3}, "unknown option 'prio'; there are: delay"),
        ({"delay": 1, "at": datetime(2027, 1, 1, tzinfo=UTC)}, "delay and at were both given"),
        ({"delay": "2h", "expires": "1h"}, "would expire before its delay"),
    ],
)
def test_an_option_of_using_that_cannot_be_is_named(options: Any, error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        declare(plain).using(**options)


def test_many_are_refused_by_item_and_argument(engine: FakeEngine) -> None:
    charge = declare(plain)

    with pytest.raises(PayloadError, match=r"^items\[2\]: order_id: expected int, found str") as refused:
        charge.enqueue_many([{"order_id": 1}, {"order_id": 2}, {"order_id": "x"}])
    assert refused.value.detail["item"] == 2
    assert not sent(engine)


def test_enqueue_many_is_one_request(engine: FakeEngine) -> None:
    runs = declare(plain, key="order:{order_id}").enqueue_many([{"order_id": n} for n in range(3)])

    assert len(engine.asked("enqueue_runs")) == 1
    assert [run["key"] for run in sent(engine)] == ["order:0", "order:1", "order:2"]
    assert [run.id for run in runs] == [run["id"] for run in sent(engine)]
    assert declare(plain).enqueue_many([]) == []


def test_a_run_under_another_id_is_not_new(engine: FakeEngine) -> None:
    engine.answers["enqueue_runs"] = {"runs": [{"id": "other", "is_new": False}]}

    run = declare(plain).enqueue(1)

    assert (run.id, run.is_new) == ("other", False)


def test_our_own_id_is_new_even_if_the_engine_was_told_twice(engine: FakeEngine) -> None:
    engine.answers["enqueue_runs"] = lambda message: {"runs": [{"id": message["runs"][0]["id"], "is_new": False}]}

    assert declare(plain).enqueue(1).is_new


def test_keys_are_rendered_from_what_is_stored_defaults_included(engine: FakeEngine) -> None:
    def ship(ctx: Context, at: datetime, zone: str = "eu", express: bool = False, tags: Any = ()) -> None: ...

    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    declare(ship, key="{{{zone}}}:{at}:{express}").enqueue(noon)

    assert sent(engine)[0]["key"] == "{eu}:2026-01-01T12:00:00+00:00:false"
    with pytest.raises(PayloadError, match="key: 'tags' is a list; expected text or a number"):
        declare(ship, key="{tags}").enqueue(noon)


def test_limits_per_key_are_sent_with_the_run(engine: FakeEngine) -> None:
    charge = declare(plain, concurrency=1, concurrency_key="{order_id}", rate=Rate(1, key="r{order_id}"))

    charge.enqueue(3)

    assert (sent(engine)[0]["concurrency_key"], sent(engine)[0]["rate_key"]) == ("3", "r3")


def test_an_error_of_the_engine_is_raised_as_what_it_is(engine: FakeEngine) -> None:
    reason = "worker unhealthy: worker exited with status 1 after 84ms without claiming any runs"
    engine.answers["enqueue_runs"] = tako.WorkerUnhealthy(
        reason, cure="Mend it.", detail={"exit_code": 1, "ran_ms": 84, "retry_after": 2}
    )

    with pytest.raises(tako.WorkerUnhealthy) as caught:
        declare(plain).enqueue(1)

    assert str(caught.value) == f"{reason}\n  Mend it."
    assert (caught.value.exit_code, caught.value.retry_after) == (1, 2)


def test_outside_tako_enqueue_says_how_to_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAKO_APP_NAME", raising=False)
    monkeypatch.delenv("TAKO_INTERNAL_SOCKET", raising=False)

    with pytest.raises(tako.NoEngine) as caught:
        declare(plain).enqueue(1)

    for way in ("tako dev", "tako run --", "tako.testing"):
        assert way in str(caught.value)


def test_the_awaited_twins_do_the_same(engine: FakeEngine) -> None:
    charge = declare(plain, key="order:{order_id}")

    async def main() -> None:
        run = await charge.aenqueue(1)
        other = await charge.using(delay=timedelta(seconds=1)).aenqueue(order_id=2)
        more = await charge.aenqueue_many([{"order_id": 3}])
        assert [run.id, other.id, more[0].id] == [new["id"] for new in sent(engine)]

    asyncio.run(main())

    assert [new["key"] for new in sent(engine)] == ["order:1", "order:2", "order:3"]


# --- by name --------------------------------------------------------------------------------------------------------


def test_enqueue_by_name_needs_no_import_of_the_workflow(engine: FakeEngine) -> None:
    run = tako.enqueue("send_email", {"user_id": 42, "day": datetime(2026, 1, 1, tzinfo=UTC)}, delay="1m")

    [new] = sent(engine)
    assert new == {
        "id": run.id, "workflow": "send_email", "delay_ms": 60_000,
        "payload_json": '{"user_id":42,"day":"2026-01-01T00:00:00+00:00"}',
    }  # fmt: skip
    assert run.workflow == "send_email"


def test_enqueue_by_name_checks_like_the_workflow_if_it_is_there(engine: FakeEngine) -> None:
    declare(plain, key="order:{order_id}")

    with pytest.raises(PayloadError, match="order_id: expected int, found str"):
        tako.enqueue("plain", {"order_id": "x"})
    tako.enqueue("plain", {"order_id": 3})

    assert sent(engine)[0]["key"] == "order:3"


def test_aenqueue_by_name(engine: FakeEngine) -> None:
    run = asyncio.run(tako.aenqueue("send_email", {"user_id": 1}))

    assert sent(engine)[0]["id"] == run.id
