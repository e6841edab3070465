"""The app under chaos, as text: three groups of workflows that keep a ledger, and a process that enqueues."""

from __future__ import annotations

from pathlib import Path

GROUPS = ("mail", "cards", "stock")
POISON_SHARE = 0.01
# Enough for a run that a poisonous neighbour and the nemesis both hit; what is beyond is stored and waits.
SETTINGS = """\
name = "shop"

[workflows]
concurrency = 4
max_workers = 2
idle_timeout = "3s"
drain_timeout = "4s"
boot_timeout = "20s"
"""

LEDGER = """\
import os
import time

PATH = {path!r}
FD = os.open(PATH, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(*words: object) -> None:
    # One write, so that no line is ever torn or mixed with another's.
    os.write(FD, (" ".join(map(str, words)) + f" {{os.getpid()}} {{time.monotonic():.3f}}\\n").encode())
"""

FLOWS = """\
# release {release}
import os
import time

import ledger
from tako import Context, Retry, workflow


def body(run_id: str, name: str) -> str:
    ledger.note("X", run_id, name)
    time.sleep(0.003)
    return name


def steps(ctx: Context, *names: str) -> None:
    for name in names:
        ctx.step(name, body, ctx.run_id, name)
        ledger.note("A", ctx.run_id, name)


@workflow(group="{group}", key="n:{{number}}", retries=3, if_unhealthy="{if_unhealthy}")
def {group}_three(ctx: Context, number: str) -> str:
    steps(ctx, "a", "b", "c")
    return number


@workflow(group="{group}", key="n:{{number}}", retries=3, if_unhealthy="{if_unhealthy}")
async def {group}_naps(ctx, number: str, seconds: float) -> str:
    async def step(name: str) -> str:
        ledger.note("X", ctx.run_id, name)
        return name

    await ctx.step("before", step, "before")
    ledger.note("A", ctx.run_id, "before")
    await ctx.sleep("nap", seconds)
    await ctx.step("after", step, "after")
    ledger.note("A", ctx.run_id, "after")
    return number


@workflow(group="{group}", key="n:{{number}}", retries=0, if_unhealthy="{if_unhealthy}")
def {group}_poison(ctx: Context, number: str) -> None:
    ledger.note("P", ctx.run_id, "poison")
    time.sleep(0.02)
    os.kill(os.getpid(), 9)
"""

APP = """\
import random
import sys
import threading
import time

import ledger
import tako

prefix, pause_s = sys.argv[1], float(sys.argv[2])
chance = random.Random(prefix)


def call(thread: int) -> None:
    turn = 0
    while True:
        number = f"{{prefix}}.{{thread}}.{{turn}}"
        turn += 1
        group = chance.choice({groups!r})
        luck = chance.random()
        kind = "poison" if luck < {poison} else "naps" if luck < 0.15 else "three"
        # A short nap keeps its worker, a long one lets go of it.
        more = {{"seconds": chance.choice((0.1, 6.0))}} if kind == "naps" else {{}}
        try:
            run = tako.enqueue(f"{{group}}_{{kind}}", {{"number": number, **more}})
        except tako.EnqueueUnknown as error:
            ledger.note("U", number, error.run_id)
        except tako.TakoError as error:
            ledger.note("R", number, error.code, len(error.message), error.detail.get("reason") is not None)
        else:
            ledger.note("K", number, run.id, kind)
        time.sleep(pause_s * chance.uniform(0.5, 1.5))


for number in range(4):
    threading.Thread(target=call, args=(number,)).start()
"""


def files(ledger: Path) -> dict[str, str]:
    """The app's files. Its ledger is at `ledger`."""
    return {
        "tako.toml": SETTINGS,
        "ledger.py": LEDGER.format(path=str(ledger)),
        "app.py": APP.format(groups=GROUPS, poison=POISON_SHARE),
        "workflows/__init__.py": "",
        **{f"workflows/{group}.py": flows(group, release=0) for group in GROUPS},
    }


def flows(group: str, *, release: int) -> str:
    """The workflows of a group; another release is another text. One group stores what it cannot run now."""
    return FLOWS.format(group=group, release=release, if_unhealthy="hold" if group == "stock" else "raise")


def broken(group: str, *, release: int) -> str:
    """The same with an import that fails."""
    return flows(group, release=release).replace("import os\n", "import os\nimport o_s\n", 1)
