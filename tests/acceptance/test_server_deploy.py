"""Deploys to a real `tako-server` with load running: what serves, what is refused, and that nobody notices."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support.dev import until
from tests.support.server import App, Engine, Server, failed, manifest_of, phases_of
from tests.support.shop import shop, until_there_is

from tako.errors import DeployRefused, DeployRunning, UnknownRelease
from tako.protocol.ids import uuid7

BROKEN = "from tako import workflow\n\nimport jinja3\n\n\n@workflow\ndef broken(ctx):\n    pass\n"
OTHER = "from tako import workflow\n\n\n@workflow\ndef refund(ctx, order: int = 0):\n    pass\n"

pytestmark = pytest.mark.acceptance


def test_a_second_release_takes_over_under_load_and_no_request_fails(app: App) -> None:
    events = app.deploy("r1")
    assert phases_of(events) == [
        "upload", "stage", "build", "release", "gate", "boot", "health", "switch", "watch", "drain", "workers", "prune",
    ]  # fmt: skip

    with app.load() as load:
        load.more()
        app.deploy("r2")
        load.until_answered_by("r2")

    assert load.report.failed == []
    assert set(load.report.answered) == {"r1", "r2"}
    assert app.status()["release"] == "r2"
    assert (app.data / "current").resolve().name == "r2"


def test_releases_and_roll_backs_one_after_the_other_lose_no_request(app: App) -> None:
    app.deploy("r0")

    with app.load() as load:
        for number in range(1, 5):
            app.deploy(f"r{number}")
        for release in ("r2", "r4"):
            app.rollback(release=release)
            load.until_answered_by(release)

    assert load.report.failed == []
    assert app.status()["release"] == "r4"


def test_a_roll_back_goes_to_the_release_before_and_names_those_there_are(app: App) -> None:
    app.deploy("r1")
    with pytest.raises(UnknownRelease, match="no release before r1"):
        app.rollback()
    app.deploy("r2")

    events = app.rollback()

    assert phases_of(events) == ["boot", "health", "switch", "watch", "drain", "workers", "prune"]
    assert app.get("/").text == "r1"
    with pytest.raises(UnknownRelease, match="r9 to go back to; there is: r2"):
        app.rollback(release="r9")


def test_a_release_with_a_typo_in_a_workflow_is_refused_with_file_line_and_traceback(app: App) -> None:
    app.deploy("r1")

    with app.load() as load:
        events = app.deploy("r2", files={"workflows/broken.py": BROKEN}, outcome="failed")
        load.more()

    found = failed(events)
    assert (found["phase"], found["code"]) == ("gate", "deploy_refused")
    assert (found["detail"]["file"], found["detail"]["line"]) == ("workflows/broken.py", 3)
    assert "No module named 'jinja3'" in found["message"]
    assert "Traceback" in "\n".join(found["detail"]["lines"])
    assert load.report.failed == []
    assert set(load.report.answered) == {"r1"}
    releases = app.ask("releases")
    assert (releases["current"], [each["release"] for each in releases["releases"]]) == ("r1", ["r1"])
    assert not (app.data / "releases" / "r2").exists()


def test_what_refused_it_can_be_mended_and_deployed_under_the_same_id(app: App) -> None:
    app.deploy("r1", files={"workflows/broken.py": BROKEN}, outcome="failed")

    (app.folder / "shop-r1/workflows/broken.py").unlink()
    app.deploy("r1")

    assert app.get("/").text == "r1"


def test_two_deploys_at_once_the_second_is_refused_by_the_name_of_the_first(app: App, server: Server) -> None:
    app.deploy("r1")
    begun = app.client.upload(app.name, shop(app.folder, "r2"), "r2")

    with server.client(by="bob@desk") as other, pytest.raises(DeployRunning) as refused:
        other.upload(app.name, shop(app.folder, "r3"), "r3")

    assert "(deploy of r2 by ann@test) is in UPLOAD since" in str(refused.value)
    assert refused.value.detail["job"]["job"] == begun["job"]  # type: ignore[index]
    app.client.ask("deploy.commit", job=begun["job"])
    app.client.ended(begun["job"])


def test_two_deploys_of_different_apps_go_side_by_side(server: Server, tmp_path: Path) -> None:
    def deploy(name: str) -> None:
        with App(server, name, tmp_path) as app:
            app.deploy("r1")

    threads = [threading.Thread(target=deploy, args=(name,)) for name in ("side", "beside")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [server.get("/", host=f"{name}.localhost").text for name in ("side", "beside")] == ["r1", "r1"]


def test_while_a_deploy_is_under_way_roll_back_scale_and_delete_are_refused(app: App) -> None:
    app.deploy("r1")
    app.deploy("r2")
    app.client.upload(app.name, shop(app.folder, "r3"), "r3")

    for command, fields in (
        ("rollback", {"by": "x"}),
        ("scale", {"by": "x", "web": 2}),
        ("delete", {"by": "x", "confirm": f"{app.name}/production"}),
        ("secrets.put", {"by": "x", "secrets": {"A": "b"}}),
    ):
        with pytest.raises(DeployRunning):
            app.ask(command, **fields)
    assert app.get("/").text == "r2"


def test_while_a_roll_back_or_new_secrets_are_under_way_a_deploy_is_refused(app: App) -> None:
    go = app.folder / "go"
    go.touch()
    app.deploy("r1", at_import=until_there_is(go))
    app.deploy("r2")
    next_one = shop(app.folder, "r3")

    for command, fields in (("rollback", {"by": "x"}), ("secrets.put", {"by": "x", "secrets": {"A": "b"}})):
        go.unlink()
        job = app.ask(command, **fields)["job"]
        with pytest.raises(DeployRunning, match=f"{job} "):
            app.client.upload(app.name, next_one, "r3")
        go.touch()
        app.client.ended(job)
    app.deploy("r3")
    assert app.get("/about").json()["secrets"] == {"A": "b"}


def test_a_roll_back_and_the_next_deploy_do_not_wait_for_old_workers(app: App, server: Server) -> None:
    toml = '[workflows]\ndrain_timeout = "60s"'
    app.deploy("r1", toml=toml)
    with app.engine() as engine:
        run_id = _enqueue(engine, "charge", payload_json='{"takes_s": 8}')
    until(lambda: len(app.ledger()) == 1, what="the run has begun")
    first = app.begin("r2", toml=toml)
    with server.client() as watcher:
        watcher.until_phase(first, "workers")

    with app.load(clients=2, slow=False) as load:
        back = app.rollback()
        app.deploy("r3", toml=toml)
        load.until_answered_by("r3")

    assert load.report.failed == []
    assert "what is old finishes by itself" in str(app.client.ended(first))
    assert phases_of(back)[:3] == ["boot", "health", "switch"]
    with app.engine() as engine:
        assert engine.ask("wait_run", id=run_id, timeout_ms=30_000)["result_json"] == '"r1"'
    assert [line[0] for line in app.ledger()] == ["begin", "end"], "it ended where it had begun"


def test_stored_arguments_that_do_not_fit_the_new_release_are_told_at_its_gate(app: App) -> None:
    app.deploy("r1", files={"workflows/refund.py": OTHER})
    with app.engine() as engine:
        _enqueue(engine, "refund", delay_ms=3_600_000, payload_json='{"order": 7}')
    changed = OTHER.replace("order: int = 0", "amount: str")

    events = app.deploy("r2", files={"workflows/refund.py": changed})

    notes = [event["message"] for event in events if (event["phase"], event["event"]) == ("gate", "note")]
    assert any("1 waiting run of refund does not fit its new parameters" in note for note in notes)


def test_an_upload_that_was_cut_off_is_over_and_the_next_one_sends_only_the_rest(server: Server, app: App) -> None:
    folder = shop(app.folder, "r1", files={"big.bin": "x" * 900_000})
    cut = server.client()
    manifest, contents = manifest_of(folder)
    begun = cut.ask("deploy.begin", app=app.name, env="production", release="r1", manifest=manifest, by="a")
    first = begun["need"][0]
    cut.put(begun["job"], first, contents[first])
    cut.socket.close()

    app.until(lambda status: status["job"] is None, what="the cut deploy is over")
    again = app.client.upload(app.name, folder, "r1")

    assert first not in again["need"]
    assert len(again["need"]) == len(begun["need"]) - 1
    app.client.ask("deploy.commit", job=again["job"])
    app.client.ended(again["job"])


def test_a_cut_connection_after_the_commit_loses_nothing_since_anybody_can_attach(server: Server, app: App) -> None:
    with server.client() as cut:
        job = cut.upload(app.name, shop(app.folder, "r1"), "r1")["job"]
        cut.ask("deploy.commit", job=job)

    events = app.client.ended(job)

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    after = events[3]["seq"]
    assert [event["seq"] for event in app.client.follow(job, after=after)] == [e["seq"] for e in events[4:]]


def test_a_release_that_is_here_is_not_sent_again(app: App) -> None:
    app.deploy("r1")
    app.deploy("r2")

    begun = app.client.upload(app.name, shop(app.folder, "r1"), "r1")

    assert (begun["is_known"], begun["need"]) == (True, [])
    app.client.ask("deploy.abort", job=begun["job"])
    assert app.status()["job"] is None
    (app.folder / "shop-r1/more.py").write_text("")
    with pytest.raises(DeployRefused, match="r1 is here already, with other files"):
        app.client.upload(app.name, app.folder / "shop-r1", "r1")


def test_a_deploy_on_hold_waits_before_the_switch_and_goes_on_when_it_may(app: App, server: Server) -> None:
    app.deploy("r1")
    job = app.client.upload(app.name, shop(app.folder, "r2"), "r2")["job"]
    app.client.ask("deploy.commit", job=job, hold=True)
    with server.client() as watcher:
        watcher.until_phase(job, "held")
    assert app.get("/").text == "r1"

    app.client.ask("deploy.switch", job=job)

    app.client.ended(job)
    assert app.get("/").text == "r2"


def test_a_deploy_on_hold_can_be_called_off_and_nothing_of_it_is_left(app: App, server: Server) -> None:
    app.deploy("r1")
    job = app.client.upload(app.name, shop(app.folder, "r2"), "r2")["job"]
    app.client.ask("deploy.commit", job=job, hold=True)
    with server.client() as watcher:
        watcher.until_phase(job, "held")

    info = app.client.ask("deploy.abort", job=job)

    assert (info["outcome"], app.get("/").text) == ("aborted", "r1")
    assert [each["release"] for each in app.status()["instances"]] == ["r1"]
    assert not (app.data / "releases" / "r2").exists()


def test_a_release_that_would_orphan_unfinished_runs_is_refused_and_lists_them(app: App) -> None:
    app.deploy("r1", files={"workflows/refund.py": OTHER})
    with app.engine() as engine:
        run_id = _enqueue(engine, "refund", delay_ms=3_600_000)

    found = failed(app.deploy("r2", outcome="failed"))

    assert found["phase"] == "gate"
    assert "1 unfinished run would have no code: refund (1)" in found["message"]
    assert found["detail"]["runs"] == {"refund": [run_id]}
    assert "--orphans keep" in found["cure"]
    assert app.get("/").text == "r1"


@pytest.mark.parametrize(("orphans", "status"), [("keep", "pending"), ("cancel", "cancelled")])
def test_orphans_are_kept_or_cancelled_as_was_said(app: App, orphans: str, status: str) -> None:
    app.deploy("r1", files={"workflows/refund.py": OTHER})
    with app.engine() as engine:
        run_id = _enqueue(engine, "refund", delay_ms=3_600_000)

    app.deploy("r2", begin={"orphans": orphans})

    with app.engine() as engine:
        found = engine.ask("get_run", id=run_id)
        assert found["status"] in (status, {"pending": "sleeping"}.get(status, status))
        if orphans == "keep":  # it waits, and status says so
            problems = {problem["kind"] for problem in engine.ask("status")["problems"]}
            assert "unroutable_runs" in problems


def test_the_release_command_runs_once_before_anything_moves(app: App) -> None:
    toml = 'release = "echo migrated $TAKO_BUILD >> $TAKO_DATA_DIR/migrations"'

    app.deploy("r1", toml=toml)
    app.deploy("r2", toml=toml, begin={"leader": False})
    app.deploy("r3", toml=toml)

    assert (app.data / "data/app/migrations").read_text() == "migrated r1\nmigrated r3\n"


def test_a_release_command_that_fails_refuses_the_release_with_its_last_lines(app: App) -> None:
    app.deploy("r1")

    found = failed(app.deploy("r2", toml='release = "echo no such table; exit 3"', outcome="failed"))

    assert found["phase"] == "release"
    assert "exited with status 3" in found["message"]
    assert "no such table" in found["message"]
    assert app.get("/").text == "r1"


def test_a_deploy_brings_secrets_that_are_in_force_with_it_or_not_at_all(app: App) -> None:
    app.client.deploy(app.name, shop(app.folder, "r1"), "r1", secrets={"KEY": "one"})
    assert app.get("/about").json()["secrets"] == {"KEY": "one"}

    broken = shop(app.folder, "r2", files={"workflows/broken.py": BROKEN})
    app.client.deploy(app.name, broken, "r2", secrets={"KEY": "two"}, outcome="failed")

    assert app.ask("secrets.names")["names"] == ["KEY"]
    app.ask("app.restart", by="x")
    app.until(lambda status: status["job"] is None, what="restarted")
    assert app.get("/about").json()["secrets"] == {"KEY": "one"}


def test_old_releases_beyond_those_kept_are_removed_with_their_blobs(app: App, server: Server) -> None:
    before = len(list((server.data / "blobs").glob("??/*")))
    app.deploy("r1")

    app.ask("delete", by="x", confirm=f"{app.name}/production")

    assert not app.data.exists()
    with App(server, "sweeper", app.folder) as other:
        other.deploy("r9")
        other.ask("delete", by="x", confirm="sweeper/production")
    assert len(list((server.data / "blobs").glob("??/*"))) <= before + 8


def _enqueue(engine: Engine, workflow: str, **options: object) -> str:
    run_id = uuid7()
    new = {"payload_json": "{}", "id": run_id, "workflow": workflow, **options}
    engine.ask("enqueue_runs", runs=[new])
    return run_id
