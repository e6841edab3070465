"""The workflows of `tako_app.py`."""

import os

import bodies

from tako import Context, workflow

if os.environ.get("PEERS_ROLE") != "client":
    import breaks  # noqa: F401


@workflow
def steps(ctx: Context, key: str) -> list[int]:
    return [ctx.step(f"step {number}", bodies.step, key, number) for number in range(3)]


@workflow
def quick(ctx: Context, key: str) -> str:
    return ctx.step("quick", bodies.quick, key)


@workflow
def poison(ctx: Context, key: str) -> None:
    ctx.step("poison", bodies.poison, key)


@workflow
def unstorable(ctx: Context, key: str) -> object:
    return ctx.step("unstorable", bodies.unstorable, key)


@workflow(schedule="* * * * *")
def tick(ctx: Context) -> None:
    bodies.tick()
