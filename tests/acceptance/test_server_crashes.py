"""The daemon is killed in every phase of a deploy, before and after its work, with load running: what it finds of
itself, what serves afterwards, and that no request fails. The load goes to the app's own socket, as Caddy's does."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.load import Load
from tests.support.server import Server
from tests.support.shop import shop

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

# Where it dies, and what becomes of the deploy. `commit` is the transaction in runs.db, inside of `switch`. What is
# true after a phase is what is true before the next one.
BEFORE_SWITCH = ["upload", "stage", "build", "release", "gate", "boot", "health", "switch", "commit"]
TABLE = {
    **{f"{phase}:before": "failed" for phase in BEFORE_SWITCH},
    "commit:after": "live",
    **{f"{phase}:before": "live" for phase in ("watch", "drain", "workers", "prune")},
    "prune:after": "live",
}
HALVES = [dict(list(TABLE.items())[:8]), dict(list(TABLE.items())[8:])]
POWER = ["boot:before", "commit:before", "commit:after"]


@pytest.mark.parametrize("table", HALVES, ids=["before-the-switch", "from-the-switch-on"])
def test_a_daemon_that_dies_in_a_phase_leaves_what_the_table_says_and_no_request_fails(
    tmp_path: Path, table: dict[str, str]
) -> None:
    with Server(tmp_path) as server:
        with server.client() as client:
            client.deploy("shop", shop(tmp_path, "r0"), "r0")
        current = "r0"
        listener = server.run / "apps/shop/production/app.sock"

        with Load(server.port, path=str(listener), clients=4) as load:
            for number, (place, outcome) in enumerate(table.items(), start=1):
                release = f"r{number}"
                server.restart(crash_at=place)
                with server.client() as client:
                    job = client.upload("shop", shop(tmp_path, release), release)["job"]
                    with suppress(ConnectionError):  # it may die before it answers
                        client.ask("deploy.commit", job=job)
                server.died()
                if not place.startswith("commit"):  # between two releases: what comes waits in the queue
                    load.more(10)

                server.start()

                with server.client() as client:
                    events = client.ended(job, outcome=outcome)
                    current = release if outcome == "live" else current
                    found = client.ask("releases", app="shop", env="production")
                    assert found["current"] == current, place
                    assert found["jobs"][0]["outcome"] == outcome, place
                    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
                load.until_answered_by(current)
                serving = server.until_status(
                    lambda status: len(status["instances"]) == 1, what=f"one instance after {place}"
                )
                assert [each["release"] for each in serving["instances"]] == [current], place

        assert load.report.failed == []
        server.until_alone()


def test_a_machine_that_loses_power_in_a_phase_serves_what_the_table_says_when_it_is_up_again(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with server.client() as client:
            client.deploy("shop", shop(tmp_path, "r0"), "r0")
        current = "r0"
        for number, place in enumerate(POWER, start=1):
            release = f"r{number}"
            server.restart(crash_at=place)
            with server.client() as client:
                job = client.upload("shop", shop(tmp_path, release), release)["job"]
                client.ask("deploy.commit", job=job)
            server.died()
            server.kill_all()
            for path in server.run.iterdir():  # it is in memory
                shutil.rmtree(path) if path.is_dir() else path.unlink()

            server.start()

            with server.client() as client:
                client.ended(job, outcome=TABLE[place])
            current = release if TABLE[place] == "live" else current
            assert server.get("/").text == current, place
        server.until_alone()
