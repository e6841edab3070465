from __future__ import annotations

import threading

import pytest

from tako.worker import tracebacks


def fail(number: int = 0) -> None:
    raise ValueError(f"no {number}")


def caught() -> Exception:
    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "name"),
    [(ValueError(), "ValueError"), (threading.BrokenBarrierError(), "threading.BrokenBarrierError")],
)
def test_an_error_has_the_name_that_python_prints(error: BaseException, name: str) -> None:
    assert tracebacks.type_name(error) == name


def test_words_are_one_line() -> None:
    assert tracebacks.words(ValueError("one\ntwo")) == "ValueError: one"
    assert tracebacks.words(ValueError()) == "ValueError"


def test_a_long_message_is_cut() -> None:
    assert len(tracebacks.message_of(ValueError("x" * 1_000_000))) == 8_192


def test_a_long_traceback_keeps_its_end() -> None:
    error = caught()
    error.add_note("y" * 100_000 + "end")

    found = tracebacks.text(error)

    assert len(found) < 66_000
    assert found.endswith("end\n")


def test_errors_in_a_group_are_all_shown() -> None:
    found = tracebacks.text(ExceptionGroup("several", [caught(), KeyError("two")]))

    assert "ValueError: no 0" in found
    assert "KeyError: 'two'" in found


def test_a_cause_that_leads_back_to_itself_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert "first" in tracebacks.text(first)


def test_the_stack_of_a_thread_names_the_line_of_the_app_that_it_waits_in() -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait_here() -> None:
        entered.set()
        leave.wait(10)

    thread = threading.Thread(target=wait_here)
    thread.start()
    try:
        entered.wait(10)
        trace, where = tracebacks.stack(thread.ident or 0)
    finally:
        leave.set()
        thread.join()

    assert "tests/worker/test_tracebacks.py" in where
    assert where.endswith(("in wait_here: leave.wait(10)", "in wait_here: entered.set()"))
    assert "in wait_here" in trace


def test_the_stack_of_a_thread_that_is_gone_is_empty() -> None:
    assert tracebacks.stack(-1) == ("", "")
