"""The workflows that are measured. Copied into the `workflows` folder of the engine under test."""

import os
import threading
import time

from tako import AsyncContext, Context, workflow

# With its name and quotes, a payload of about 200 bytes.
NOTE = "x" * 170

_marks = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def mark(number: int) -> None:
    """Append `number` and the time in nanoseconds: one write, so lines of many processes never mix. 0 is not marked."""
    if number:
        os.write(_marks, b"%d %d\n" % (number, time.time_ns()))


def value(number: int) -> int:
    """The body of a step: the work that is measured is everything around it."""
    return number


@workflow
def stored(ctx: Context, note: str = NOTE) -> None:
    """Enqueued for later and never run."""


@workflow
def first_line(ctx: Context, number: int, note: str = NOTE) -> None:
    """How long from the call to here?"""
    mark(number)


@workflow
async def first_line_async(ctx: AsyncContext, number: int, note: str = NOTE) -> None:
    """The same for `async def`, whose worker needs an event loop."""
    mark(number)


@workflow
def steps_0(ctx: Context, number: int, note: str = NOTE) -> None:
    """No step."""
    mark(number)


@workflow
def steps_1(ctx: Context, number: int, note: str = NOTE) -> None:
    """One durable step."""
    ctx.step("a", value, 1)
    mark(number)


@workflow
def steps_3(ctx: Context, number: int, note: str = NOTE) -> None:
    """Three durable steps, one after the other."""
    for name in "abc":
        ctx.step(name, value, 1)
    mark(number)


@workflow
async def async_0(ctx: AsyncContext, number: int, note: str = NOTE) -> None:
    """No step, on the worker's event loop."""
    mark(number)


@workflow
async def async_1(ctx: AsyncContext, number: int, note: str = NOTE) -> None:
    """One durable step, on the worker's event loop."""
    await ctx.step("a", value_async, 1)
    mark(number)


@workflow
async def async_3(ctx: AsyncContext, number: int, note: str = NOTE) -> None:
    """Three durable steps, on the worker's event loop."""
    for name in "abc":
        await ctx.step(name, value_async, 1)
    mark(number)


async def value_async(number: int) -> int:
    """As `value`."""
    return number


@workflow
def interrupted(ctx: Context, number: int) -> None:
    """Its worker is killed in the step; the step's next start is what is measured."""
    ctx.step("long", linger, number)


def linger(number: int) -> None:
    """Mark. The first time, wait to be killed."""
    was_here = any(line.startswith(f"{number} ") for line in _lines())
    mark(number)
    if not was_here:
        threading.Event().wait(60)


def _lines() -> list[str]:
    with open(os.environ["BENCH_MARKS"]) as marks:  # noqa: PTH123  (a worker does without pathlib)
        return marks.readlines()
