"""The app whose recovery is measured: many groups of one worker, each with a run that stays until it is let go."""

from __future__ import annotations

from pathlib import Path

LEDGER = """\
import os
import time

FD = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
# When this process began, on the clock that time.monotonic() reads.
with open("/proc/self/stat") as file:
    STARTED = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def note(*words: object) -> None:
    os.write(FD, (" ".join(map(str, words)) + f" {{os.getpid()}} {{STARTED:.3f}} {{time.monotonic():.4f}}\\n").encode())
"""

FLOWS = """\
import time
from pathlib import Path

import ledger
from tako import Context, workflow

{at_import}

@workflow(group="{group}", retries=0)
def {group}_hold(ctx: Context) -> str:
    ledger.note("started", ctx.run_id)
    while not Path("go", ctx.run_id).exists():
        time.sleep(0.02)
    return "done"


@workflow(group="{group}", retries=0)
def {group}_eats(ctx: Context) -> str:
    ledger.note("started", ctx.run_id)
    hungry = Path("go", f"{{ctx.run_id}}.eat")
    while not Path("go", ctx.run_id).exists():
        if hungry.exists():
            hungry.unlink()
            hoard = [b"x" * (1 << 20)]
            while True:
                hoard.append(hoard[-1] + b"x")
        time.sleep(0.02)
    return "done"


def body(run_id: str, name: str) -> str:
    ledger.note("X", run_id, name)
    time.sleep(0.01)
    return name


@workflow(group="{group}", retries=0)
def {group}_ticks(ctx: Context) -> str:
    number = 0
    while not Path("go", ctx.run_id).exists():
        ctx.step(f"t{{number}}", body, ctx.run_id, f"t{{number}}")
        ledger.note("A", ctx.run_id, f"t{{number}}")
        number += 1
    return "done"
"""

HANGS = """\
ledger.note("importing", "{group}")
time.sleep(3600)
"""


def files(ledger: Path, *, groups: int, boot_timeout: str = "30s", hangs: bool = False) -> dict[str, str]:
    """An app with so many groups. `hangs`: none of them can be imported to its end."""
    names = [f"g{number}" for number in range(groups)]
    return {
        "tako.toml": f'name = "shop"\n[workflows]\nidle_timeout = "2m"\ndrain_timeout = "1s"\n'
        f'boot_timeout = "{boot_timeout}"\n',
        "ledger.py": LEDGER.format(path=str(ledger)),
        "go/.keep": "",
        "workflows/__init__.py": "",
        **{
            f"workflows/{name}.py": FLOWS.format(group=name, at_import=HANGS.format(group=name) if hangs else "")
            for name in names
        },
    }
