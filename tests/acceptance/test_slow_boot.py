"""A cold boot of 12 s, with a hundred enqueues during it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.acceptance.apps import FASTAPI, FLASK, GREET, greeting_app
from tests.support.dev import Dev, Response, until, write

SLOW = "import time\ntime.sleep(12)\n" + GREET


def hundred(dev: Dev) -> list[Response]:
    """A hundred enqueues from ten callers, while the worker boots."""

    def one(number: int) -> Response:
        return dev.http("/enqueue/greet", {"name": f"n{number}"}, timeout_s=60)

    with ThreadPoolExecutor(10) as callers:
        return list(callers.map(one, range(100)))


def delivered(folder: Path) -> list[str]:
    path = folder / "delivered.txt"
    return sorted(path.read_text().split("\n")[:-1]) if path.exists() else []


def test_with_new_code_none_is_lost_and_only_what_the_table_refuses_is_refused(folder: Path) -> None:
    write(folder, greeting_app(**{"workflows/greet.py": SLOW}))
    with Dev(folder) as dev:
        answers = hundred(dev)
        accepted = [answer for answer in answers if answer.status == 200]
        for answer in answers:
            # Row 14: who can wait no longer is told that a worker is starting. Nothing else is refused.
            assert answer.status == 200 or "starting since" in answer.json()["error"], answer.body
        state = until(
            lambda: dev.json("status")["groups"][0]["state"] == "healthy", what="the group is healthy", timeout_s=40
        )
        assert state
        assert dev.http("/enqueue/greet", {"name": "last"}).status == 200
        until(lambda: len(delivered(folder)) == len(accepted) + 1, what="every accepted run is delivered, once")


def test_after_a_failure_none_is_lost_and_the_group_is_healthy_afterwards(folder: Path) -> None:
    once_broken = (
        "import time\nfrom pathlib import Path\n"
        "if not Path('mended').exists():\n    raise RuntimeError('not yet')\ntime.sleep(12)\n" + GREET
    )
    write(folder, greeting_app(**{"workflows/greet.py": once_broken}))
    with Dev(folder) as dev:
        refused = dev.http("/enqueue/greet", {"name": "early"})
        assert refused.status == 503
        (folder / "mended").touch()  # the cause goes away without a change of code
        answers = hundred(dev)
        accepted = [answer for answer in answers if answer.status == 200]
        assert all(
            answer.json()["error"].startswith("worker unhealthy: ") for answer in answers if answer.status != 200
        )

        def healthy() -> bool:
            dev.http("/enqueue/greet", {"name": "again"})
            return bool(dev.json("status")["groups"][0]["state"] == "healthy")

        until(healthy, what="the group is healthy", timeout_s=60)

        def all_succeeded() -> list[dict[str, Any]] | None:
            runs = dev.runs("--limit", "500")
            return runs if all(run["status"] == "succeeded" for run in runs) else None

        runs = until(all_succeeded, what="every accepted run succeeds", timeout_s=60)
        assert len(runs) >= len(accepted)
        assert len(delivered(folder)) == len(runs)


def test_fifty_runs_from_a_sync_flask_route_and_an_async_fastapi_route_in_the_same_second_all_finish(
    folder: Path,
) -> None:
    other = folder.with_name("flask")
    write(folder, {**greeting_app(), "app.py": FASTAPI})
    write(other, {**greeting_app(), "app.py": FLASK})
    with Dev(folder) as fast, Dev(other) as flask, ThreadPoolExecutor(50) as callers:
        answers = list(
            callers.map(
                lambda number: (fast, flask)[number % 2].http("/enqueue/greet", {"name": f"n{number}"}), range(100)
            )
        )
        assert {answer.status for answer in answers} == {200}
        for dev in (fast, flask):
            until(
                lambda dev=dev: [run["status"] for run in dev.runs("--limit", "100")] == ["succeeded"] * 50,  # type: ignore[misc]
                what="fifty runs finish",
            )
