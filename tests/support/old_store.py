"""A store with runs in every state, as the version that writes it leaves one behind: what later versions must finish.

`python -m tests.support.old_store tests/engine/stores/VERSION.sql`, once, with the code that is being released. That
file is never made again: it is what the version wrote.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tako.cron import schedules
from tako.engine import pausing
from tako.engine.pauses import Target
from tako.engine.store import Store
from tests.support.clock import FakeClock
from tests.support.engine import Rig

PRAGMAS = ("application_id", "user_version")


def write(path: Path) -> None:
    """Write the store of this version, as SQL."""
    with TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "runs.db")
        fill(Rig(store, FakeClock()))
        lines = [f"PRAGMA {name} = {store.connection.execute(f'PRAGMA {name}').fetchone()[0]};" for name in PRAGMAS]
        lines += store.connection.iterdump()
        store.close()
    path.write_text("\n".join(lines) + "\n")


def restore(dump: Path, path: Path) -> None:
    """Make the file that the dump was taken of."""
    connection = sqlite3.connect(path)
    connection.executescript(dump.read_text())
    connection.close()


def fill(engine: Rig) -> None:
    """Runs in every state that one can be left in."""
    engine.obey("charge", concurrency=2, concurrency_key="{card}", retries=2)
    engine.do(schedules.replace, [schedules.cron("report", "0 9 * * 1")], now_ms=engine.now_ms)
    dead = engine.start("refund", id="dead")
    engine.finish(dead, "fatal", error={"type": "ValueError", "message": "no such order", "traceback": ""})
    done = engine.start("refund", id="succeeded")
    engine.save(done, "look", {"order": 7})
    engine.succeed(done, '"done"')
    stopped = engine.start("refund", id="cancelled")
    engine.cancel(stopped)

    running = engine.start(id="running", key="order:7")
    engine.save(running, "load", {"price": "9.90"})
    engine.start(id="running alone", worker_id="w2")
    engine.sleep(engine.start("naps", id="sleeping"), ms=60_000)
    engine.wait(engine.start("waits", id="waiting"))
    engine.wait(engine.start("waits", id="waiting for a while"), timeout_ms=60_000)
    engine.signal(engine.enqueue("waits", id="has mail"), value={"by": "DHL"})
    parent = engine.start("parent", id="parent")
    engine.gather(parent, engine.start_child(parent, workflow="child", id="child"))
    for run_id in ("suspect", "its neighbour"):
        engine.enqueue("together", id=run_id)
    engine.claim("w3", names=("together",), n=2)
    engine.die("w3")
    engine.fail(engine.start("refund", id="to be retried"))
    for number in range(4):
        engine.enqueue(id=f"limited {number}", concurrency_key="4242")
    engine.enqueue(id="later", delay_ms=3_600_000)
    engine.enqueue("paused", id="paused")
    engine.do(pausing.pause, Target("workflow", "paused"), now_ms=engine.now_ms)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
