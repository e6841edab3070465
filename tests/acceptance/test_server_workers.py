"""Workflows across deploys: each run is done once, none is lost, none is claimed by a superseded release."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.support.dev import kill, until
from tests.support.server import App, Engine
from tests.support.shop import shop

from tako.errors import WorkerUnhealthy
from tako.protocol.ids import uuid7

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

OTHER = "from tako import workflow\n\n\n@workflow\ndef refund(ctx, order: int = 0):\n    pass\n"
ALWAYS_ON = '[workflows]\nworkers = 1\nconcurrency = 4\ndrain_timeout = "5s"'


def enqueue(engine: Engine, count: int, *, takes_s: float = 0.0, workflow: str = "charge") -> list[str]:
    payload = f'{{"takes_s":{takes_s}}}' if takes_s else "{}"
    news = [{"id": uuid7(), "workflow": workflow, "payload_json": payload} for _ in range(count)]
    engine.ask("enqueue_runs", runs=news)
    return [str(new["id"]) for new in news]


def until_done(app: App, run_ids: list[str], *, within_s: float = 90.0) -> dict[str, dict[str, object]]:
    def found() -> dict[str, dict[str, object]] | None:
        with app.engine() as engine:
            runs = {run["id"]: run for run in engine.runs()}
        ended = all(runs[run_id]["ended_ms"] is not None for run_id in run_ids)
        return runs if ended else None

    return until(found, what=f"{len(run_ids)} runs have ended", timeout_s=within_s)


def workers(app: App) -> list[dict[str, object]]:
    return [worker for group in app.status()["engine"]["groups"] for worker in group["workers"]]


def test_a_flip_with_many_pending_and_some_running_loses_and_doubles_none(app: App) -> None:
    app.deploy("r1", toml=ALWAYS_ON)
    with app.engine() as engine:
        run_ids = enqueue(engine, 300, takes_s=0.02)
    until(lambda: len(app.ledger()) > 20, what="some have begun")

    app.deploy("r2", toml=ALWAYS_ON)
    with app.engine() as engine:
        run_ids += enqueue(engine, 20, takes_s=0.02)
    until(lambda: any(line[2] == "r2" for line in app.ledger()), what="the new release works")
    app.rollback(release="r1")

    runs = until_done(app, run_ids)
    assert {runs[run_id]["status"] for run_id in run_ids} == {"succeeded"}
    ended = Counter(line[1] for line in app.ledger() if line[0] == "end")
    assert set(ended) == set(run_ids)
    assert ended.most_common(1)[0][1] == 1, "a drained worker finishes what it holds"
    assert {line[2] for line in app.ledger()} == {"r1", "r2"}


def test_what_an_old_worker_holds_it_finishes_and_what_it_cannot_goes_to_the_new_release(app: App) -> None:
    toml = '[workflows]\nconcurrency = 2\ndrain_timeout = "2s"'
    app.deploy("r1", toml=toml)
    with app.engine() as engine:
        (short,) = enqueue(engine, 1, takes_s=1.0)
        (long,) = enqueue(engine, 1, takes_s=5.0)
    until(lambda: sum(line[0] == "begin" for line in app.ledger()) == 2, what="both have begun")

    app.deploy("r2", toml=toml)

    until_done(app, [short, long])
    with app.engine() as engine:
        results = {
            run_id: engine.ask("get_run", id=run_id, **{"with": ["result"]})["result_json"] for run_id in (short, long)
        }
        found = engine.ask("get_run", id=long, **{"with": ["attempts"]})
    assert results == {short: '"r1"', long: '"r2"'}
    assert found["attempt"] == 1, "no attempt and no crash is counted for a hand-back"


def test_old_and_new_workers_that_are_killed_around_the_flip_cost_no_run(app: App) -> None:
    app.deploy("r1", toml=ALWAYS_ON)
    with app.engine() as engine:
        run_ids = enqueue(engine, 120, takes_s=0.05)
    until(lambda: len(app.ledger()) > 8, what="some have begun")
    for worker in workers(app):
        kill(int(str(worker["pid"])))

    app.deploy("r2", toml=ALWAYS_ON)
    with app.engine() as engine:
        run_ids += enqueue(engine, 20, takes_s=0.05)
    until(lambda: any(line[2] == "r2" for line in app.ledger()), what="the new release works")
    for worker in workers(app):
        kill(int(str(worker["pid"])))

    runs = until_done(app, run_ids)
    assert {runs[run_id]["status"] for run_id in run_ids} == {"succeeded"}
    begun = Counter(line[1] for line in app.ledger() if line[0] == "begin")
    assert sum(begun.values()) - len(begun) <= 3 * 4, "only what killed workers held was begun again"
    switched = next(at for at, line in enumerate(app.ledger()) if line[2] == "r2")
    assert all(line[2] == "r2" for line in app.ledger()[switched:] if line[0] == "begin")


def test_the_daemon_killed_at_the_flip_claims_nothing_twice(app: App) -> None:
    server = app.server
    app.deploy("r1", toml=ALWAYS_ON)
    with app.engine() as engine:
        run_ids = enqueue(engine, 150, takes_s=0.03)
    server.restart(crash_at="commit:after")
    with App(server, app.name, app.folder.parent) as again:
        again.begin("r2", toml=ALWAYS_ON)
        server.died()
        server.start()

    runs = until_done(app, run_ids)

    assert {runs[run_id]["status"] for run_id in run_ids} == {"succeeded"}
    ended = Counter(line[1] for line in app.ledger() if line[0] == "end")
    assert max(ended.values()) == 1
    app.reconnect()


def test_a_roll_back_to_a_release_without_a_workflow_keeps_its_runs_and_says_so(app: App) -> None:
    app.deploy("r1")
    app.deploy("r2", files={"workflows/refund.py": OTHER})
    with app.engine() as engine:
        new = {"id": uuid7(), "workflow": "refund", "payload_json": "{}", "delay_ms": 3_600_000}
        engine.ask("enqueue_runs", runs=[new])

    events = app.rollback()

    notes = [event["message"] for event in events if event["event"] == "note"]
    assert any("1 unfinished run would have no code: refund (1); they wait" in note for note in notes)
    with app.engine() as engine:
        assert engine.ask("get_run", id=new["id"])["ended_ms"] is None
    app.rollback()
    with app.engine() as engine:
        assert not [p for p in engine.ask("status")["problems"] if p["kind"] == "unroutable_runs"]


def test_a_worker_that_breaks_after_the_deploy_refuses_enqueues_with_the_founding_sentence(app: App) -> None:
    marker = app.folder / "broken"
    code = (
        "import pathlib\nfrom tako import workflow\n\n"
        f"if pathlib.Path({str(marker)!r}).exists():\n    import jinja3\n\n\n@workflow\ndef refund(ctx):\n    pass\n"
    )
    app.deploy("r1", files={"workflows/refund.py": code})
    marker.touch()
    with app.engine() as engine:
        enqueue(engine, 1, workflow="refund")  # accepted: the gate has seen these workers start
        until(lambda: engine.ask("health")["groups"][0]["failures"] > 0, what="the worker has died")

        with pytest.raises(WorkerUnhealthy, match=r"worker unhealthy: worker exited with status 1 after \d+ms without"):
            enqueue(engine, 1, workflow="refund")

        problems = {problem["kind"] for problem in engine.ask("status")["problems"]}
        assert {"unhealthy_group", "blocked_runs"} <= problems


def test_scaled_workers_are_always_on_and_come_back(app: App) -> None:
    app.deploy("r1")
    assert app.ask("scale", by="x", workers={"default": 1}) == {"web": 1, "workers": {"default": 1}}

    def ready() -> list[dict[str, object]]:
        return [worker for worker in workers(app) if worker["state"] in ("ready", "active")]

    (first,) = until(ready, what="a worker is up")
    kill(int(str(first["pid"])))

    until(lambda: [each for each in ready() if each["pid"] != first["pid"]], what="another one is up")


def test_a_change_of_secrets_rolls_instances_and_workers_without_a_release(app: App) -> None:
    tells = (
        "from tako import secrets, workflow\n\n\n@workflow\ndef tell(ctx) -> str:\n"
        '    return ctx.step("tell", lambda: str(len(secrets["KEY"])))\n'
    )
    app.client.deploy(
        app.name, shop(app.folder, "r1", files={"workflows/tell.py": tells}), "r1", secrets={"KEY": "12345"}
    )

    with app.load() as load:
        put = app.ask("secrets.put", by="x", secrets={"KEY": "1234567"})
        app.client.ended(put["job"])
    assert load.report.failed == []
    assert app.ask("secrets.put", by="x", secrets={"KEY": "1234567"})["changed"] is False

    assert app.get("/about").json()["secrets"] == {"KEY": "1234567"}
    with app.engine() as engine:
        (run_id,) = enqueue(engine, 1, workflow="tell")
        assert engine.ask("wait_run", id=run_id, timeout_ms=30_000)["result_json"] == '"7"'
    assert [each["release"] for each in app.ask("releases")["releases"]] == ["r1"]
