"""A worker's life after boot: claim, run, keep the leases, idle out or drain.

Threads: the reader (replies, and with them claimed runs), one a `def` run up to the concurrency, the heart (leases),
the async loop if there is an async workflow, and the main thread, the director, which waits for what needs deciding:
signals, timers, timeouts.

A run is *held* from its claim until the engine has acknowledged its end, and held runs are what heartbeats renew.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` wraps in enums, without them
import atexit
import os
import sys
import time
from threading import Thread

from tako import errors
from tako.worker import attempt as attempts
from tako.worker import boot, execute, logline, speech, tracebacks
from tako.worker.attempt import NEVER, Attempt
from tako.worker.claims import Claims
from tako.worker.connection import FINAL, LOST, Connection
from tako.worker.crew import Crew
from tako.worker.director import Director
from tako.worker.heart import Heart
from tako.worker.overdue import Overdue
from tako.worker.steps import SyncAttempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from tako.protocol.messages import ClaimedRun, RunEpoch
    from tako.worker.aio import Loop
    from tako.worker.boot import Boot

    Message = dict[str, Any]

_SIGTERM, _SIGINT = 15, 2
DRAINED_EXIT = 0
BUG_EXIT = 70
RECYCLED_EXIT = 75  # a timed-out thread would not end; an error line on stderr names the run
# After a drain, what the engine has not acknowledged is offered this much longer.
_LAST_WORDS_S = 5.0


class Worker:
    """What a booted process does until it exits. `serve` is its life; the rest is called by its threads."""

    log = staticmethod(logline.write)

    def __init__(self, booted: Boot) -> None:
        self.worker_id = booted.worker_id
        self.release = booted.release
        self._boot = booted
        self._held: dict[str, Attempt] = {}
        self._handlers: set[Attempt] = set()  # those that have not returned, of lost and cancelled runs too
        self._last_work = time.monotonic()
        self._waits_to_be_idle = False
        self._is_closing = False
        self._drain_until = NEVER
        self._losses_at_drain = 0
        self._exit_code = DRAINED_EXIT
        self._look_at = NEVER
        self._director = Director()
        self._overdue = Overdue(recycle=self.recycle)
        self._aio: Loop | None = None
        self._crew = Crew(freed=self._handler_returned, flush=lambda: self._claims.flush())
        self.connection = Connection(
            path=booted.socket,
            app=booted.app,
            token=booted.token,
            hello=lambda: {**booted.hello(), "in_flight": self.in_flight()},
            on_push=self._pushed,
            on_stale=lambda ids: self._stale([{"id": id, "why": "not held here"} for id in ids]),
            on_lost=lambda: self._director.post(self._leave),
            after_batch=self._after_batch,
            look=self._look_after_batch,
            waiter=self._crew.waiter,
            later=self._director.later,
            log=self.log,
        )
        self._claims = Claims(
            worker_id=booted.worker_id,
            places=booted.concurrency,
            connection=self.connection,
            begin=self._begin,
            start=self._start,
            give_back=self._give_back,
            on_empty=lambda: self._director.post(self._ask_idle),
            later=self._director.later,
            log=self.log,
        )
        self._heart = Heart(
            worker_id=booted.worker_id,
            connection=self.connection,
            in_flight=self.in_flight,
            on_stale=self._stale,
            log=self.log,
        )

    # --- life ---

    def serve(self) -> int:
        """Say HELLO, work, and return the exit code."""
        boot.run_start_hooks(lambda hook: self._open_loop().finish(hook))
        speech.bridge()
        if self._boot.is_async:
            self._open_loop()  # else with the first run that needs it: a `def` handler must not wait for it
        try:
            told = self.connection.open()
        except errors.DefinitionError as error:  # what only the engine can check: cron lines, time zones
            boot.refuse(str(error))
        self._boot.said_hello()
        self._heart.every_s = told["heartbeat_ms"] / 1000
        Thread(target=self._read, name="tako-reader", daemon=True).start()
        self._claims.first()
        self._director.later(self._boot.idle_timeout_s, self._check_idle)
        return self._director.run()

    def serve_and_exit(self) -> NoReturn:
        """Serve, then end the process. SIGTERM and SIGINT drain it."""
        _signal.set_wakeup_fd(self._director.bell, warn_on_full_buffer=False)
        for number in (_SIGTERM, _SIGINT):
            _signal.signal(number, self._on_signal)
        exit_code = self.serve()
        # Not by returning: threads of handlers may still be running, and would be torn down while they do.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(exit_code)

    def _on_signal(self, *_: object) -> None:
        self._director.post(self.drain)  # only recorded here: the director acts

    def _read(self) -> None:
        try:
            self.connection.read_for_ever()
        except Exception as error:  # a worker that hears nothing must not look as if it were alive
            words = tracebacks.words(error)
            self.log("error", f"a bug of Tako's ends this worker: {words}", traceback=tracebacks.whole(error))
            self._director.post(lambda: self._director.stop(BUG_EXIT))

    def drain(self) -> None:
        """Take nothing new, let runs finish for the drain timeout, hand back the rest, exit. Again: hand back now.

        A daemon that has come since then cannot know what the one before has asked: its first word is not "again".
        """
        if self._drain_until < NEVER:
            if self.connection.losses == self._losses_at_drain:
                self._leave()
            self._losses_at_drain = self.connection.losses
            return
        if self._held:
            self.log("info", "draining", in_flight=len(self._held))
        self._close()

    def recycle(self, why: str) -> None:
        """Drain, and exit with RECYCLED_EXIT: a thread of this process will not end. In the director."""
        self._exit_code = RECYCLED_EXIT
        self.log("error", f"recycling the worker: {why}. Runs beside it finish, or are handed back uncounted")
        if self._drain_until == NEVER:
            self.connection.ask({"command": "leaving", "worker_id": self.worker_id}, lambda reply: None)
            self.connection.flush()
            self._close()

    def _close(self) -> None:
        self._is_closing = True
        self._claims.pause()
        self._losses_at_drain = self.connection.losses
        self._drain_until = time.monotonic() + self._boot.drain_timeout_s
        self._director.at(self._drain_until, self._leave)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._is_closing and not self._held:
            self._leave()

    def _leave(self) -> None:
        """Hand back what is held, wait a little for what the engine has not acknowledged, and stop."""
        self._is_closing = True
        self._claims.pause()
        handed_back = [attempt for attempt in list(self._held.values()) if attempt.settle()]
        for attempt in handed_back:
            attempt.end(attempts.DRAINED)
            self._drop(attempt)
        if handed_back:
            self._release([_handed_back(attempt) for attempt in handed_back])
            self.log("info", "handed back", runs=[attempt.run_id for attempt in handed_back])
        self.connection.wait_until_answered(timeout_s=_LAST_WORDS_S)
        self._heart.stop()
        self.connection.close()
        self._director.stop(self._exit_code)

    def _release(self, runs: list[RunEpoch]) -> None:
        fields = {"command": "release_runs", "worker_id": self.worker_id, "runs": runs}
        self.connection.ask(fields, lambda reply: None, keep=FINAL)
        self.connection.flush()

    # --- runs in hand ---

    def in_flight(self) -> list[RunEpoch]:
        """All runs that are held."""
        return [_epoch(attempt) for attempt in list(self._held.values())]

    def _begin(self, claimed: ClaimedRun) -> None:
        """A run was claimed. In the reader's thread."""
        if self._is_closing:
            self._claims.refused()
            self._release([{"id": claimed["id"], "epoch": claimed["epoch"]}])
            return
        workflow = self._boot.workflows.get(claimed["workflow"])
        if workflow is None:
            self._unknown(claimed)
            return
        self._heart.wake()
        attempt: Attempt
        if workflow.is_async:
            attempt = self._open_loop().attempt(claimed, workflow, self)
        else:
            attempt = SyncAttempt(claimed, workflow, self)
        self._held[attempt.run_id] = attempt
        self._claims.place(attempt)

    def _start(self, attempt: Attempt) -> None:
        """A run has a place. In the reader's thread, or in that of the handler that had it before."""
        self._handlers.add(attempt)
        if isinstance(attempt, SyncAttempt):
            self._crew.add(attempt)
        else:
            self._open_loop().start(attempt)  # type: ignore[arg-type]

    def _give_back(self, ahead: list[Attempt]) -> None:
        """These were claimed ahead and find no place: somebody else may have one."""
        given = [attempt for attempt in ahead if attempt.settle()]
        for attempt in given:
            attempt.end(attempts.DRAINED)
            self._drop(attempt)
        if given:
            self._release([_epoch(attempt) for attempt in given])

    def _unknown(self, claimed: ClaimedRun) -> None:
        """The engine gave us a run of a workflow that our code does not declare: never retried into a loop."""
        words = f"the code of this worker declares no workflow {claimed['workflow']!r}"
        self.log("error", words, run_id=claimed["id"], workflow=claimed["workflow"])
        fields = {
            "command": "finish",
            "worker_id": self.worker_id,
            "id": claimed["id"],
            "epoch": claimed["epoch"],
            "outcome": "fatal",
            "reason": words,
            "error": {"type": errors.UnknownWorkflow.__name__, "message": words, "traceback": ""},
        }
        self.connection.ask(fields, lambda reply: None, keep=FINAL)
        self._claims.refused()

    def finish(self, attempt: Attempt, outcome: Message) -> None:
        """Tell the engine how an attempt ended. Returns at once: the message is kept until it is acknowledged."""
        execute.tell(attempt, outcome, lambda reply: self._finished(attempt, reply))

    def _finished(self, attempt: Attempt, reply: Message) -> None:
        if reply["status"] == "ok":
            if reply["data"].get("status") == "pending":
                execute.tell_next(attempt, reply["data"]["run_at_ms"])
        elif reply is not LOST:
            attempt.say("warning", f"the end of the run was not accepted: {reply.get('message', '')}")
        self._drop(attempt)

    def parked(self, attempt: Attempt) -> None:
        """The run has let go of this worker."""
        self._drop(attempt)

    def lost(self, attempt: Attempt, why: str) -> None:
        """The engine says that a run is not ours any more: no further step of it runs (E4)."""
        if attempt.end(attempts.LOST):
            attempt.say("warning", f"lost the run, so its handler is stopped and changes nothing more: {why}")
        attempt.settle()
        self._drop(attempt)

    def _drop(self, attempt: Attempt) -> None:
        if self._held.get(attempt.run_id) is attempt:
            del self._held[attempt.run_id]
        self._last_work = time.monotonic()
        if self._held:
            return
        if self._is_closing:
            self._director.post(self._leave_if_done)
        elif self._waits_to_be_idle:
            self._waits_to_be_idle = False
            self._director.later(self._boot.idle_timeout_s, self._check_idle)

    def _handler_returned(self, attempt: Attempt) -> None:
        self._handlers.discard(attempt)
        self._claims.freed(attempt)
        # If a run ahead has begun in its place: one of the same kind goes on in this very thread.
        if self._aio is not None:
            self._aio.hand_over()
        if attempt.is_async:
            self._crew.go()

    # --- timeouts; in the director, but for `watch` ---

    def watch(self, deadline: float) -> None:
        """Look at timeouts at this monotonic time at the latest. Costs nothing when that is planned already."""
        if deadline < self._look_at:
            self._look_at = deadline
            self._director.at(deadline, self._look)

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return  # a later, earlier plan has been carried out, and made a new one
        self._look_at = NEVER
        self.watch(self._overdue.look(list(self._handlers), now=time.monotonic()))

    def _open_loop(self) -> Loop:
        if self._aio is None:
            from tako.worker.aio import Loop

            self._aio = Loop(flush=self._claims.flush, freed=self._handler_returned, log=self.log)
        return self._aio

    # --- what the engine says; in the reader's thread ---

    def _after_batch(self) -> bool:
        is_lined_up = self._crew.go()
        if self._aio is not None:
            self._aio.hand_over()
        # Before it is sent: who begins a run ahead leaves to us what its place has asked for.
        has_ahead = self._claims.answered()
        self._claims.flush()
        return has_ahead or is_lined_up

    def _look_after_batch(self) -> bool:
        has_ahead = self._claims.look()
        return self._crew.look() or has_ahead

    def _pushed(self, message: Message) -> None:
        if message.get("push") != "cancel":
            return  # of a newer engine; what we must know of comes as an answer
        for run in message["runs"]:
            attempt = self._held.get(run["id"])
            if attempt is not None and attempt.epoch == run["epoch"]:
                if attempt.end(attempts.CANCELLED):
                    attempt.say("info", "cancelled")
                attempt.settle()
                self._drop(attempt)
        # Whatever starts a step has looked at `ended` first, so from here on no further one starts.
        fields = {"command": "cancelled", "worker_id": self.worker_id, "runs": message["runs"]}
        self.connection.ask(fields, lambda reply: None)

    def _stale(self, runs: Sequence[Message]) -> None:
        for run in runs:
            attempt = self._held.get(run["id"])
            # Of a run that has ended or parked here, the engine may know before its answer is through to the handler.
            if attempt is not None and not attempt.is_leaving and not attempt.is_settled.locked():
                self.lost(attempt, run["why"])

    # --- idle; in the director ---

    def _check_idle(self) -> None:
        if self._is_closing:
            return
        due = self._last_work + self._boot.idle_timeout_s
        if self._held:
            self._waits_to_be_idle = True
            if not self._held:  # the last one was dropped meanwhile, and may not have seen that we wait
                self._director.later(self._boot.idle_timeout_s, self._check_idle)
        elif time.monotonic() < due:
            self._director.at(due, self._check_idle)
        else:
            self._ask_idle()
            self._director.later(self._boot.idle_timeout_s, self._check_idle)

    def _ask_idle(self) -> None:
        self.connection.ask({"command": "idle", "worker_id": self.worker_id}, self._answered_idle)
        self.connection.flush()

    def _answered_idle(self, reply: Message) -> None:
        data = reply["data"] if reply["status"] == "ok" else {}
        for run in data.get("runs") or ():
            self._claims.took()
            self._begin(run)
        if data.get("exit"):
            self._director.post(self._idle_out)
        else:
            self._claims.resume()

    def _idle_out(self) -> None:
        self._is_closing = True
        self._claims.pause()
        self._leave_if_done()


def _epoch(attempt: Attempt) -> RunEpoch:
    return {"id": attempt.run_id, "epoch": attempt.epoch}


def _handed_back(attempt: Attempt) -> RunEpoch:
    spent_ms = attempt.spent_ms()
    return _epoch(attempt) if spent_ms is None else {**_epoch(attempt), "spent_ms": spent_ms}
