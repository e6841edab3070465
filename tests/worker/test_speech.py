"""`print` and `logging` of handlers and steps are lines that carry their run, step and level."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker.conftest import Start
from tests.worker.engine import Engine, WorkerProcess

FLOWS = """
    import logging
    import os
    import sys
    import threading
    from contextvars import copy_context
    from tako import {Context}, secrets, workflow

    log = logging.getLogger("shop")
    {configure}
    print("said at import")

    {adef} step_printing(what):
        print("step", what)
        log.warning("warned of %s", what, extra={{"order": 7, "run_id": "forged"}})
        return what

    def in_a_thread(what):
        print("in a thread", what)

    @workflow
    {adef} talks(ctx: {Context}, what: str = "it") -> None:
        print("handler", what)
        {wait}ctx.step("speak", step_printing, what)
        {wait}ctx.step("thread", in_a_thread, what)
        print("two\\nlines", end="")
        print(" and a half", file=sys.stderr, end="")
        log.info("after the steps")

    @workflow
    {adef} maps(ctx: {Context}) -> None:
        {wait}ctx.map("m", step_printing, ["a", "b", "c"])

    @workflow
    {adef} own_thread(ctx: {Context}) -> None:
        plain = threading.Thread(target=in_a_thread, args=("alone",))
        taken = threading.Thread(target=copy_context().run, args=(in_a_thread, "along"))
        for thread in (plain, taken):
            thread.start()
            thread.join()

    @workflow
    {adef} raises(ctx: {Context}) -> None:
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("it went wrong")

    @workflow
    {adef} structured(ctx: {Context}) -> None:
        print('{{"msg": "mine", "level": "warning", "run_id": "forged", "order": 3}}'.replace('": ', '":'))
        print("\\x1b[2Jcleared\\nforged 14:02:11 INFO")
        print("the key is", secrets["KEY"])
        log.error("the key is %s", secrets["KEY"])
        os.write(1, b"written to the file itself\\n")
"""

KINDS = {
    "sync": {"Context": "Context", "adef": "def", "wait": ""},
    "async": {"Context": "AsyncContext", "adef": "async def", "wait": "await "},
}


@pytest.fixture(params=KINDS)
def flows(request: pytest.FixtureRequest) -> dict[str, str]:
    return {**KINDS[request.param], "configure": ""}


def told(engine: Engine, worker: WorkerProcess, workflow: str, **payload: Any) -> list[dict[str, Any]]:
    """What it logged about the run, the runtime's own lines left out."""
    run_id = engine.give(workflow, payload)
    assert engine.wait("finish", id=run_id)["outcome"] == "succeeded", worker.output()
    lines = [line for line in worker.logged() if line.get("workflow") == workflow and line["msg"] != "started"]
    assert {line["run_id"] for line in lines} == {run_id}
    return lines


def test_print_and_logging_carry_run_and_step(engine: Engine, start: Start, flows: dict[str, str]) -> None:
    worker = start(FLOWS.format(**flows), secrets={"KEY": "swordfish"})

    lines = told(engine, worker, "talks", what="it")

    assert [(line["msg"], line.get("step"), line["level"]) for line in lines] == [
        ("handler it", None, "info"),
        ("step it", "speak", "info"),
        ("warned of it", "speak", "warning"),
        ("in a thread it", "thread", "info"),
        ("two", None, "info"),
        ("after the steps", None, "info"),
        ("lines", None, "info"),
        (" and a half", None, "info"),
    ]
    assert (lines[2]["logger"], lines[2]["order"]) == ("shop", 7)
    assert "\nsaid at import\n" in "\n" + worker.output()


def test_each_item_of_a_map_says_its_own(engine: Engine, start: Start, flows: dict[str, str]) -> None:
    worker = start(FLOWS.format(**flows))

    lines = told(engine, worker, "maps")

    assert {(line["msg"], line["step"]) for line in lines} == {
        (f"{word} {item}", f"m[{index}]") for index, item in enumerate("abc") for word in ("step", "warned of")
    }


def test_a_thread_of_ones_own_takes_the_run_along_if_it_is_told_to(
    engine: Engine, start: Start, flows: dict[str, str]
) -> None:
    worker = start(FLOWS.format(**flows))

    assert [line["msg"] for line in told(engine, worker, "own_thread")] == ["in a thread along"]
    assert "\nin a thread alone\n" in worker.output()


def test_a_logged_exception_has_its_traceback(engine: Engine, start: Start, flows: dict[str, str]) -> None:
    worker = start(FLOWS.format(**flows))

    (line,) = told(engine, worker, "raises")

    assert (line["msg"], line["level"]) == ("it went wrong", "error")
    assert line["traceback"].endswith("ZeroDivisionError: division by zero")


def test_what_is_printed_forges_nothing_and_tells_no_secret(
    engine: Engine, start: Start, flows: dict[str, str]
) -> None:
    worker = start(FLOWS.format(**flows), secrets={"KEY": "swordfish"})

    lines = told(engine, worker, "structured")

    assert [(line["msg"], line["level"]) for line in lines] == [
        ("mine", "warning"), ("\x1b[2Jcleared", "info"), ("forged 14:02:11 INFO", "info"),
        ("the key is [secret KEY]", "info"), ("the key is [secret KEY]", "error"),
    ]  # fmt: skip
    assert lines[0]["order"] == 3
    assert "swordfish" not in worker.output()
    assert "\nwritten to the file itself\n" in worker.output()


def test_who_configures_logging_gets_his_own_format_and_the_level_is_kept(engine: Engine, start: Start) -> None:
    configure = 'logging.basicConfig(level="DEBUG", format="%(name)s says %(message)s")'
    worker = start(FLOWS.format(**KINDS["sync"], configure=configure))

    lines = told(engine, worker, "talks")

    assert ("shop says warned of it", "warning", "speak") in [
        (line["msg"], line["level"], line.get("step")) for line in lines
    ]
    assert sum("warned of it" in line for line in worker.output().splitlines()) == 1


def test_a_handler_of_one_logger_says_its_records_once(engine: Engine, start: Start) -> None:
    configure = "log.addHandler(logging.StreamHandler())"  # as Django's, and its records go to the root, too
    worker = start(FLOWS.format(**KINDS["sync"], configure=configure))

    lines = told(engine, worker, "talks")

    assert [line["level"] for line in lines if line["msg"] == "warned of it"] == ["warning"]


def test_logging_is_not_loaded_for_code_that_does_not_log(engine: Engine, start: Start) -> None:
    worker = start("""
        import sys
        from tako import Context, workflow

        @workflow
        def quiet(ctx: Context) -> None:
            print("loaded:", "logging" in sys.modules)
    """)

    assert [line["msg"] for line in told(engine, worker, "quiet")] == ["loaded: False"]


def test_lines_of_runs_side_by_side_are_each_their_own(engine: Engine, start: Start) -> None:
    worker = start("""
        import threading
        from tako import Context, workflow

        both = threading.Barrier(2)

        @workflow
        def half(ctx: Context, name: str) -> None:
            print("begins ", end="")
            both.wait(15)
            print(name)
    """)
    ids = {engine.give("half", {"name": name}): name for name in ("one", "two")}
    for run_id in ids:
        engine.wait("finish", id=run_id)

    lines = [line for line in worker.logged() if line["msg"].startswith("begins")]
    assert {line["run_id"]: line["msg"] for line in lines} == {id: f"begins {name}" for id, name in ids.items()}
