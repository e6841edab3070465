"""Loud: workers that cannot start, do not listen, or end without a word. Rows 1 to 4, 10, 30, 39, 40 of loud.md."""

from __future__ import annotations

import os
import signal

import pytest
from tests.support.loud import GREET, Shopkeeper

import tako
from tako.host import hearing
from tako.vault import file as vault

BROKEN = "import jinja_nowhere\n" + GREET
HANGS = "while True: pass\n" + GREET


def test_1_a_worker_that_cannot_import_is_raised_shown_logged_and_told_by_an_alert(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()
        it.save(BROKEN)

        with pytest.raises(tako.WorkerUnhealthy) as raised:
            it.enqueue("greet", name="Ann")

        error = raised.value
        assert str(error).startswith("worker unhealthy: worker exited with status 1 after ")
        assert "ModuleNotFoundError: No module named 'jinja_nowhere'" in str(error)
        assert "workflows/flows.py:1" in str(error)
        assert (error.exit_code, error.release) == (1, "dev")
        assert it.ok("list_runs")["runs"] == []
        assert "status 1" in it.problem("unhealthy_group")["what"]
        it.logged("error", r"worker exited with status 1 after \d+ms without claiming any runs")
        told = it.alerted("unhealthy_group")
        assert 'group "default" is unhealthy: worker exited with status 1' in told["what"]
        assert "workflows/flows.py:1" in told["detail"]

        it.save(GREET)
        it.ended(it.enqueue("greet", name="Ann"))
        assert it.status()["ok"]


def test_1_a_failure_that_goes_on_is_one_alert_and_not_one_for_each_start(shop: Shopkeeper) -> None:
    with shop(BROKEN, settings="[workflows]\nworkers = 1") as it:
        it.until(lambda: it.health()["failures"] >= 2, what="a second failed start")

        assert [alert["count"] for alert in it.hook.wait_of("unhealthy_group")] == [1]


def test_2_a_worker_that_hangs_while_it_imports_is_shown_with_the_line_that_hangs(shop: Shopkeeper) -> None:
    with shop(HANGS, settings='[workflows]\nboot_timeout = "3s"') as it:  # in 1 s a busy machine starts no Python
        problem = it.problem("unhealthy_group")

        words = r"worker did not become ready within 3s \(workflows/flows.py:1, in <module>: while True: pass\)"
        it.logged("error", words)
        assert "workflows/flows.py:1, in <module>" in problem["what"]
        assert "workflows/flows.py:1" in it.alerted("unhealthy_group")["what"]
        with pytest.raises(tako.WorkerUnhealthy, match=words):
            it.enqueue("greet", name="Ann")


def test_3_a_worker_that_exits_with_0_before_it_claims_has_failed(shop: Shopkeeper) -> None:
    with shop("import sys; sys.exit(0)\n" + GREET) as it:
        with pytest.raises(tako.WorkerUnhealthy, match=r"worker exited with status 0 after .* without claiming any"):
            it.enqueue("greet", name="Ann")

        assert it.problem("unhealthy_group")
        it.logged("error", "worker exited with status 0")
        it.alerted("unhealthy_group")


def test_3_a_registry_without_a_workflow_has_failed(shop: Shopkeeper) -> None:
    # The static scan sees the declaration; when the file is imported it declares nothing.
    with shop("if False:\n" + "".join(f"    {line}\n" for line in GREET.splitlines())) as it:
        with pytest.raises(tako.EnqueueError) as raised:
            it.enqueue("greet", name="Ann")

        assert "no workflows" in str(raised.value)
        assert "no workflows" in it.problem("unhealthy_group")["what"]
        assert "no workflows" in it.alerted("unhealthy_group")["detail"]


def test_4_the_run_that_was_stored_before_the_boot_failed_is_blocked_and_runs_when_mended(shop: Shopkeeper) -> None:
    with shop() as it:
        it.ready()
        stored = tako.enqueue("greet", {"name": "Ann"}, delay=0.3)
        it.save(BROKEN)

        it.until(lambda: it.state(stored.id)["status"] == "blocked", what="the run is blocked")
        assert "worker exited with status 1" in it.state(stored.id)["blocked"]
        assert "1 run blocked" in it.problem("blocked_runs")["what"]
        it.logged("warning", "1 run is queued while unhealthy")

        it.save(GREET)
        it.ended(stored.id)


def test_4_confirm_waits_for_the_claim_and_withdraws_what_nobody_claims(shop: Shopkeeper) -> None:
    held = "    while not Path('go').exists():\n        time.sleep(0.02)\n    return ctx.step"
    with shop("import time\nfrom pathlib import Path\n" + GREET.replace("    return ctx.step", held),
              settings="[workflows]\nconcurrency = 1") as it:  # fmt: skip
        it.ready()
        claimed = tako.enqueue("greet", {"name": "Ann"}, confirm=True)
        assert it.state(claimed.id)["status"] == "running"

        with pytest.raises(tako.EnqueueError, match="no worker claimed the run"):
            tako.enqueue("greet", {"name": "Bob"}, confirm=True, deadline="1s")

        assert [run["id"] for run in it.ok("list_runs")["runs"]] == [claimed.id]
        (it.folder / "go").touch()
        it.ended(claimed.id)


def test_10_a_worker_that_lives_and_claims_nothing_is_replaced_and_recorded(
    shop: Shopkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "DEAF_AFTER_S", 0.5)
    # The first worker loses the part of itself that asks for runs; its heartbeat goes on.
    deaf = (
        "from pathlib import Path\nfrom tako.worker.claims import Claims\n"
        "if not Path('once').exists():\n"
        "    Path('once').touch()\n"
        "    Claims._take_all = lambda self: 0\n"
        "    Claims.first = lambda self: self._on_empty and None\n"
    )
    with shop(deaf + GREET, settings="[workflows]\nworkers = 1") as it:
        it.ready()
        (before,) = it.workers()
        run_id = it.enqueue("greet", name="Ann")

        def looked() -> bool:
            it.rounds()
            return bool(it.lines("error", "claimed nothing"))

        it.until(looked, what="the deaf worker is noticed")
        it.ended(run_id)
        assert before["pid"] not in [worker["pid"] for worker in it.workers()]
        it.logged("error", r"worker claimed nothing for \d+s although runs waited and it had room")
        problem = it.problem("deaf_worker")
        assert problem["severity"] == "warning"
        assert 'a worker of group "default" took no run' in problem["what"]


def test_30_a_missing_secret_is_named_with_the_known_ones_when_the_worker_boots(shop: Shopkeeper) -> None:
    reads = "from tako import secrets\nKEY = secrets['STRIPE_KEY']\n" + GREET
    it = shop(reads)
    (it.folder / ".tako").mkdir()
    vault.set(it.folder / ".tako/secrets.json", "STRIPE_KAY", "sk_live_hunter22")
    with it:
        with pytest.raises(tako.WorkerUnhealthy) as raised:
            it.enqueue("greet", name="Ann")

        for told in (str(raised.value), str(it.problem("unhealthy_group")), str(it.alerted("unhealthy_group"))):
            assert "STRIPE_KEY" in told
            assert "hunter22" not in told
        assert "STRIPE_KAY" in "\n".join(it.health()["stderr_tail"])
        it.logged("error", "worker exited with status 1 after")


def test_39_the_last_words_of_a_crashed_worker_are_kept_with_its_crash(shop: Shopkeeper) -> None:
    crashes = GREET.replace(
        '    return f"Hello {name}"',
        "    import os, sys\n    for number in range(30):\n        print('word', number, file=sys.stderr, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n    return name",
    )
    with shop(crashes) as it:
        run_id = it.enqueue("greet", name="Ann")

        dead = it.dead(run_id)

        assert "worker died 3 times running it (SIGKILL)" in dead["error"]
        words = [line["message"] for line in it.ok("logs", last_crash=True)["lines"]]
        assert "word 29" in words
        assert "was killed by SIGKILL" in words[-1]
        it.logged("error", r"worker was killed by SIGKILL after \d+ms, 1 run in flight")
        assert "worker died 3 times" in it.alerted("dead_run")["what"]


def test_40_a_start_hook_that_fails_is_a_failed_boot(shop: Shopkeeper) -> None:
    hook = "import tako\n\n@tako.on_start\ndef connect() -> None:\n    raise ConnectionError('no database here')\n\n"
    with shop(hook + GREET) as it:
        with pytest.raises(tako.WorkerUnhealthy) as raised:
            it.enqueue("greet", name="Ann")

        assert "ConnectionError: no database here" in str(raised.value)
        assert "workflows/flows.py:5" in str(raised.value)
        assert "ConnectionError" in it.problem("unhealthy_group")["what"]
        it.logged("error", "worker exited with status 1")
        assert "ConnectionError" in it.alerted("unhealthy_group")["detail"]


def test_a_worker_that_is_killed_while_nothing_runs_is_replaced_without_a_word_to_callers(shop: Shopkeeper) -> None:
    with shop(settings="[workflows]\nworkers = 1") as it:
        it.ready()
        it.ended(it.enqueue("greet", name="Ann"))
        (worker,) = it.workers()
        os.kill(worker["pid"], signal.SIGKILL)

        it.ended(it.enqueue("greet", name="Bob"))
        it.logged("error", "worker was killed by SIGKILL")
