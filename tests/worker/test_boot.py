"""A worker boots whole or not at all, and says on stderr and by its exit code why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine

OK = """
    from tako import Context, workflow

    @workflow
    def ok(ctx: Context) -> None: ...
"""


def test_an_import_error_is_printed_from_the_users_file_on_and_exits_1(engine: Engine, start: Start) -> None:
    worker = start("from tako import workflow\nimport no_such_module\n")

    assert worker.exit_code() == 1
    lines = worker.output().splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('workflows/flows.py", line 2, in <module>')
    assert lines[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert engine.all("hello") == []


def test_a_syntax_error_names_file_and_line_and_exits_1(start: Start) -> None:
    worker = start("from tako import workflow\ndef broken(:\n")

    assert worker.exit_code() == 1
    assert 'workflows/flows.py", line 2' in worker.output()
    assert worker.output().splitlines()[-1].startswith("SyntaxError")
    assert "tako/worker" not in worker.output()


def test_an_error_in_a_module_that_a_workflow_imports_shows_both_files(start: Start) -> None:
    worker = start({"workflows/flows.py": "import helpers\n", "helpers.py": "1 / 0\n"})

    assert worker.exit_code() == 1
    assert 'workflows/flows.py", line 1' in worker.output()
    assert 'helpers.py", line 1' in worker.output()
    assert worker.output().splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(("code", "status"), [("", 0), ("0", 0), ("3", 3)])
def test_sys_exit_in_a_module_reaches_the_supervisor_before_hello(
    engine: Engine, start: Start, code: str, status: int
) -> None:
    worker = start(f"import sys\nsys.exit({code})\n")

    assert worker.exit_code() == status
    assert engine.all("hello") == []


def test_files_without_workflows_are_a_fault_of_the_code_and_exit_78(start: Start) -> None:
    worker = start("x = 1\n")

    assert worker.exit_code() == 78
    assert worker.output() == 'tako: no workflows: workflows/flows.py declares none of group "default"\n'


def test_a_worker_of_another_group_serves_only_its_own_workflows(engine: Engine, start: Start) -> None:
    start(
        """
        from tako import Context, workflow

        @workflow(group="mail")
        def send(ctx: Context) -> None: ...

        @workflow
        def other(ctx: Context) -> None: ...
        """,
        env={"TAKO_WORKFLOW_WORKER": "mail"},
    )

    registry = engine.wait("hello")["registry"]
    assert registry["group"] == "mail"
    assert [told["name"] for told in registry["workflows"]] == ["send"]


def test_two_workflows_of_one_name_exit_78_with_both_places(start: Start) -> None:
    worker = start({"workflows/a.py": "\n" + OK, "workflows/b.py": OK})

    assert worker.exit_code() == 78
    assert "'ok'" in worker.output()
    assert "workflows/a.py:" in worker.output()
    assert "workflows/b.py:" in worker.output()
    assert "Traceback" not in worker.output()


def test_a_bad_definition_exits_78_with_file_and_line(start: Start) -> None:
    worker = start("from tako import workflow\n\n@workflow(key='{nobody}')\ndef flow(ctx): ...\n")

    assert worker.exit_code() == 78
    assert "workflows/flows.py:3" in worker.output()
    assert "nobody" in worker.output()
    assert "Traceback" not in worker.output()


def test_a_type_that_cannot_be_stored_exits_78(start: Start) -> None:
    worker = start("from tako import workflow\n\n@workflow\ndef flow(ctx, names: set[str]): ...\n")

    assert worker.exit_code() == 78
    assert "workflows/flows.py:3" in worker.output()


def test_a_module_has_the_name_under_which_the_web_app_imports_it(engine: Engine, start: Start) -> None:
    engine.give("names")
    start(
        {
            "workflows/deep/flows.py": """
                from tako import Context, workflow

                @workflow
                def names(ctx: Context) -> list[str]:
                    import workflows.deep.flows as same
                    return [__name__, str(same.names is names)]
            """
        }
    )

    assert engine.wait("finish")["result_json"] == '["workflows.deep.flows","True"]'


def test_a_file_that_another_module_of_its_name_hides_exits_78(start: Start) -> None:
    worker = start({"json/flows.py": "", "workflows/a.py": OK}, files=["json/decoder.py"])

    assert worker.exit_code() == 78
    assert "json/decoder.py could not be imported" in worker.output()


def test_the_root_is_working_directory_and_first_on_the_path(engine: Engine, start: Start, app: Path) -> None:
    engine.give("where")
    start(
        """
        import os, sys
        from tako import Context, workflow

        @workflow
        def where(ctx: Context) -> list[str]:
            return [os.getcwd(), sys.path[0]]
        """
    )

    assert engine.wait("finish")["result_json"] == f'["{app}","{app}"]'


def test_fd_3_is_closed_before_user_code_runs_and_secrets_are_not_in_the_environment(
    engine: Engine, start: Start
) -> None:
    engine.give("look")
    start(
        """
        import os
        from tako import Context, secrets, workflow

        try:
            os.fstat(3)
            state = "open"
        except OSError:
            state = "closed"

        @workflow
        def look(ctx: Context) -> list[str]:
            return [state, secrets["KEY"], str("swordfish" in str(os.environ))]
        """,
        secrets={"KEY": "swordfish"},
    )

    assert engine.wait("finish")["result_json"] == '["closed","swordfish","False"]'


def test_a_missing_secret_at_import_fails_the_boot_with_its_name_and_the_known_ones(start: Start) -> None:
    worker = start('from tako import secrets\nkey = secrets["STRIPE_KEY"]\n', secrets={"OTHER": "value"})

    assert worker.exit_code() == 1
    assert "STRIPE_KEY" in worker.output()
    assert "OTHER" in worker.output()
    assert "value" not in worker.output()


def test_a_secret_does_not_stand_in_the_traceback_of_a_failed_boot(start: Start) -> None:
    worker = start(
        'from tako import secrets\nraise ValueError("bad key " + secrets["KEY"])\n', secrets={"KEY": "swordfish"}
    )

    assert worker.exit_code() == 1
    assert worker.output().splitlines()[-1] == "ValueError: bad key [secret KEY]"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_start_hooks_run_before_hello(engine: Engine, start: Start, kind: str) -> None:
    engine.give("flow")
    start(
        f"""
        import tako

        state = []

        @tako.on_start
        {kind} connect():
            state.append("connected")

        @tako.workflow
        def flow(ctx: tako.Context) -> list[str]:
            return state
        """
    )

    assert engine.wait("finish")["result_json"] == '["connected"]'


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_start_hook_that_fails_is_a_boot_failure(engine: Engine, start: Start, kind: str) -> None:
    worker = start(
        f"""
        import tako

        @tako.on_start
        {kind} connect():
            raise ConnectionError("no database")

        @tako.workflow
        def flow(ctx: tako.Context) -> None: ...
        """
    )

    assert worker.exit_code() == 1
    assert worker.output().splitlines()[-1] == "ConnectionError: no database"
    assert "tako/worker" not in worker.output()
    assert engine.all("hello") == []


def test_a_boot_that_hangs_dumps_its_stack_before_the_supervisors_patience_ends(start: Start) -> None:
    worker = start("import threading\nthreading.Event().wait()\n", env={"TAKO_BOOT_TIMEOUT_MS": "2000"})

    worker.wait_for_output('workflows/flows.py", line 2 in <module>')


def test_the_stack_is_dumped_by_the_time_that_began_with_the_process() -> None:
    # What it does before it comes to that is spent by the clock, as on a machine that has no CPU for it.
    code = """
import time
began = time.monotonic()
from tako.worker import boot
while time.monotonic() < began + 0.3:
    pass
print(time.monotonic() - began, boot._until_dump_s(30.0), boot._until_dump_s(0.1))
"""

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    spent_s, until_s, at_once_s = map(float, told.stdout.split())
    assert until_s <= 27.0 - spent_s + 0.02
    assert 0 < at_once_s < 0.1


def test_no_stack_is_dumped_after_hello(engine: Engine, start: Start) -> None:
    engine.give("longer_than_a_boot")
    worker = start(
        """
        import threading
        from tako import Context, workflow

        @workflow
        def longer_than_a_boot(ctx: Context) -> None:
            threading.Event().wait(2.2)
        """,
        env={"TAKO_BOOT_TIMEOUT_MS": "2000"},
    )

    engine.wait("finish")

    assert "Timeout" not in worker.output()


def test_a_process_that_nobody_gave_an_envelope_says_how_workers_are_started(start: Start) -> None:
    worker = start(OK, env={"TAKO_ENVELOPE_FD": "99"})

    assert worker.exit_code() == 78
    assert "no envelope on fd 99" in worker.output()


def test_what_only_the_engine_can_refuse_is_said_in_its_words_and_not_tried_again_soon(
    engine: Engine, start: Start
) -> None:
    engine.answers["hello"] = lambda message: {
        "status": "error", "code": "definition", "detail": {},
        "message": "workflows/flows.py:4: workflow 'tick': invalid cron '0 25 * * *': bad hour",
    }  # fmt: skip
    worker = start(
        """
        from tako import Context, workflow

        @workflow(schedule="0 25 * * *")
        def tick(ctx: Context) -> None: ...
        """
    )

    assert worker.exit_code() == 78
    assert "tako: workflows/flows.py:4: workflow 'tick': invalid cron '0 25 * * *': bad hour" in worker.output()
    assert "Traceback" not in worker.output()
