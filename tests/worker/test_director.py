from __future__ import annotations

import os
import signal
import threading
import time

from tako.worker.director import Director


def test_calls_of_other_threads_are_done_in_order_by_the_one_that_runs() -> None:
    director = Director()
    done: list[tuple[int, int]] = []

    def post_all() -> None:
        for number in range(3):
            director.post(lambda number=number: done.append((number, threading.get_ident())))  # type: ignore[misc]
        director.post(lambda: director.stop(7))

    threading.Thread(target=post_all).start()

    assert director.run() == 7
    assert done == [(number, threading.get_ident()) for number in range(3)]


def test_what_is_due_later_is_done_in_the_order_of_its_time() -> None:
    director = Director()
    done: list[str] = []
    now = time.monotonic()

    director.at(now + 0.02, lambda: director.stop(0))
    director.at(now + 0.01, lambda: done.append("second"))
    director.at(now - 1, lambda: done.append("first"))
    director.at(now + 3600, lambda: done.append("never"))

    assert director.run() == 0
    assert done == ["first", "second"]


def test_a_signal_handler_may_post_while_it_waits() -> None:
    director = Director()
    before = signal.signal(signal.SIGUSR1, lambda *_: director.post(lambda: director.stop(3)))
    try:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)).start()
        assert director.run() == 3
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_was_noted_before_the_wait_began_is_heard() -> None:
    # As C sees it: the byte is in the pipe, and the handler has not been called yet.
    director = Director()
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    wakeup = signal.set_wakeup_fd(director.bell, warn_on_full_buffer=False)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        director.run_once()
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGUSR1, before)

    assert heard == [1]


def test_a_full_pipe_loses_no_call() -> None:
    director = Director()
    done: list[int] = []
    for number in range(70_000):
        director.post(lambda number=number: done.append(number))  # type: ignore[misc]
    director.post(lambda: director.stop(0))

    assert director.run() == 0
    assert done == list(range(70_000))


def test_the_first_exit_code_stays() -> None:
    director = Director()
    director.stop(75)
    director.stop(0)

    assert director.run() == 75
