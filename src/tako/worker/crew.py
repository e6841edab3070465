"""The threads of `def` handlers, and the turn that goes round among them as long as handlers are quick.

Ten handlers of 20 µs that are woken in ten threads cost ten times the waking (15 µs each), a fight over the
interpreter's lock, and frames that leave one by one, each a transaction of its own in the engine. So what one read has
brought (runs to begin, answers that threads wait for) stands in *line*, and one thread has the *turn*. When its run
ends it takes the next one itself; when it waits for the engine it hands the turn to the next in line; the last one
sends what all of them have asked for, in one piece.

A handler that waits for something else would hold the others up. So the reader looks after a millisecond, and if few
have gone on, everybody goes on at once, as threads do; the next batches do not line up at all. Also a single run, or a
single answer, is not lined up: what its thread asks leaves at once.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections import deque
from contextvars import Context
from threading import Thread

from tako.worker import execute
from tako.worker.connection import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import Any

    from tako.worker.steps import SyncAttempt

# So many must have had the turn between two looks, a millisecond apart, or they are too slow for it to go round.
_QUICK = 2
# After a batch that was too slow the next ones are let loose: one, and twice as many each time that it is tried again
# in vain, which costs a millisecond. A machine that is busy with something else makes any batch slow now and then.
_MOST_LOOSE = 64


class Crew:
    """`freed` is called by the thread whose handler has returned; `flush` sends what was asked, claims included."""

    def __init__(self, *, freed: Callable[[SyncAttempt], None], flush: Callable[[], None]) -> None:
        self._freed = freed
        self._flush = flush
        self._lock = allocate_lock()  # over all that follows
        self._line: deque[SyncAttempt | Turn] = deque()
        self._holder: _Member | None = None  # who has the turn; all others that run are loose
        self._is_lined_up = False
        self._passed = self._seen = 0  # how often the turn was passed on, now and at the last look
        self._loose = 0  # batches that are still to be let loose
        self._next_loose = 1
        self._idle: list[_Member] = []
        self._members: dict[int, _Member] = {}  # by thread

    # --- the reader -------------------------------------------------------------------------------------------------

    def add(self, attempt: SyncAttempt) -> None:
        """A run to begin, when `go` is called."""
        self._line.append(attempt)

    def waiter(self) -> Waiter:
        """What this thread waits for an answer with."""
        member = self._members.get(get_ident())
        return Waiter() if member is None else Turn(self, member)

    def answered(self, turn: Turn) -> None:
        """An answer that a thread waits for; it goes on when `go` is called."""
        self._line.append(turn)

    def go(self) -> bool:
        """All that a read has brought stands in line. Whether to `look` in a millisecond."""
        with self._lock:
            line = self._line
            if not line:
                return self._is_lined_up
            if self._loose or (len(line) == 1 and not self._is_lined_up):
                self._loose -= self._loose > 0
                found = self._all()
            else:
                self._is_lined_up = True
                found = [] if self._holder is not None else [line.popleft()]
                for next_one in found:
                    self._holder = self._member_for(next_one)
        for one in found:
            self._start(one)
        return self._is_lined_up

    def look(self) -> bool:
        """Called a millisecond after `go` or `look`, unless something came. Whether to look again."""
        with self._lock:
            found = []
            if self._passed - self._seen < _QUICK:
                self._is_lined_up, self._holder = False, None
                if self._line:
                    self._loose, self._next_loose = self._next_loose, min(2 * self._next_loose, _MOST_LOOSE)
                found = self._all()
            self._seen = self._passed
        for one in found:
            self._start(one)
        self._flush()
        return self._is_lined_up

    def _all(self) -> list[SyncAttempt | Turn]:
        found = list(self._line)
        self._line.clear()
        return found

    # --- the crew ---------------------------------------------------------------------------------------------------

    def pass_on(self, member: _Member, *, is_free: bool) -> SyncAttempt | None:
        """This thread waits, or is free. What it is to do next, if it is free and its turn goes on; else the next in
        line goes on, or what was asked is sent."""
        with self._lock:
            following = self._line[0] if self._line else None
            if is_free and self._holder is None and following is not None and not isinstance(following, Turn):
                self._line.popleft()  # the run ahead that has got this one's place
                return following
            if self._holder is not member or not self._line:
                if self._holder is member:
                    self._holder, self._is_lined_up, self._next_loose = None, False, 1
                if is_free:
                    self._idle.append(member)
                next_one = None
            else:
                self._passed += 1
                next_one = self._line.popleft()
                if is_free and not isinstance(next_one, Turn):
                    return next_one
                if is_free:
                    self._idle.append(member)
                self._holder = self._member_for(next_one)
        if next_one is None:
            self._flush()
        else:
            self._start(next_one)
        return None

    def _member_for(self, one: SyncAttempt | Turn) -> _Member:
        """Who will go on with this. With the lock held."""
        if isinstance(one, Turn):
            return one.member
        member = self._idle.pop() if self._idle else _Member()
        one.member = member
        return member

    def _start(self, one: SyncAttempt | Turn) -> None:
        if isinstance(one, Turn):
            one.release()
            return
        with self._lock:
            member = one.member or self._member_for(one)
        member.job = one
        if member.is_started:
            member.wake.release()
        else:
            member.is_started = True
            # Not from `_thread`: debuggers, coverage and profilers hook themselves into threading's.
            Thread(target=self._work, args=(member,), name=f"tako-run-{len(self._members) + 1}", daemon=True).start()

    def _work(self, member: _Member) -> None:
        self._members[get_ident()] = member
        attempt = member.job
        while True:
            member.job = None
            if attempt is not None:
                self._run(attempt)
            attempt = None  # a thread that waits must not keep the last payload alive
            attempt = self.pass_on(member, is_free=True)
            if attempt is None:
                member.wake.acquire()
                attempt = member.job

    def _run(self, attempt: SyncAttempt) -> None:
        attempt.thread_id = get_ident()
        try:
            # An empty context for each: what one run sets must not be seen by the next one.
            Context().run(execute.run, attempt)
        except BaseException as error:  # ours: the handler's own are judged inside. The next run must go on
            execute.rescue(attempt, error)
        self._freed(attempt)


class _Member:
    """A thread of the crew."""

    __slots__ = ("is_started", "job", "wake")

    def __init__(self) -> None:
        self.is_started = False
        self.job: SyncAttempt | None = None
        self.wake: LockType = allocate_lock()
        self.wake.acquire()


class Turn(Waiter):
    """A reply that a thread of the crew waits for: it goes on when its turn comes."""

    __slots__ = ("_crew", "member")

    def __init__(self, crew: Crew, member: _Member) -> None:
        super().__init__()
        self._crew = crew
        self.member = member

    def __call__(self, reply: Any) -> None:
        """Take the reply, and stand in line."""
        self._reply = reply
        self._crew.answered(self)

    def release(self) -> None:
        """Let the thread go on."""
        self._lock.release()

    def wait(self, flush: Callable[[], None]) -> Any:
        """As Waiter.wait; others go on meanwhile."""
        self._crew.pass_on(self.member, is_free=False)
        return super().wait(_nothing)


def _nothing() -> None:
    pass
