"""A deploy on all servers of an environment: all prepare, then all switch; one that cannot stops all of them."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tako.deploy.leg import Leg, Told
from tako.errors import TakoError
from tako.protocol import management


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How it ended on one server. `error` None: the release serves there."""

    server: str
    job: str | None
    previous: str | None
    sent_bytes: int
    error: Exception | None


class Rollout:
    """The legs, each in a thread of its own; what they tell comes out of `run`, in one."""

    def __init__(self, legs: Sequence[Leg], tellings: "queue.SimpleQueue[Told | None]") -> None:
        self.legs = legs
        self.has_switched = False
        self._tellings = tellings
        self._errors: dict[str, Exception] = {}

    def run(self, begin: Callable[[Leg, bool], None]) -> Iterator[Told]:
        """Have `begin(leg, hold)` start a job on every server, and see all of them through.

        Yields what happens; `results` has the ends. Raises nothing that a leg raises.
        """
        is_several = len(self.legs) > 1

        def prepare(leg: Leg) -> None:
            begin(leg, is_several)
            leg.follow(_is_held if is_several else to_the_end)

        yield from self._all(prepare)
        if is_several:
            yield from self._switch_or_abort()

    def each(self, act: Callable[[Leg], None]) -> Iterator[Told]:
        """Do something on every server at once: connect, or follow jobs that are under way."""
        yield from self._all(act)

    def results(self) -> list[Result]:
        """How it ended on each server, in their order."""
        return [
            Result(
                server=leg.server, job=leg.job, previous=leg.current, sent_bytes=leg.sent_bytes,
                error=self._errors.get(leg.server),
            )
            for leg in self.legs
        ]  # fmt: skip

    def abort(self) -> None:
        """Take back what has not switched, as well as it can be done: for an interrupted command."""
        if not self.has_switched:
            for leg in self.legs:
                _try(leg.abort)

    def _switch_or_abort(self) -> Iterator[Told]:
        if self._errors:
            for leg in self.legs:
                if leg.server not in self._errors:
                    _try(leg.abort)
                    self._errors[leg.server] = NotSwitched(leg.server, next(iter(self._errors)))
            return
        self.has_switched = True

        def switch(leg: Leg) -> None:
            leg.switch()
            leg.follow(to_the_end)

        yield from self._all(switch)

    def _all(self, act: Callable[[Leg], None]) -> Iterator[Told]:
        """Do it with every leg at once; yield what they tell until all are done."""
        self._errors = {}

        def one(leg: Leg) -> None:
            try:
                act(leg)
            except Exception as error:  # the thread's top: it is told by `results`, with the others'
                self._errors[leg.server] = error
            finally:
                self._tellings.put(None)

        for leg in self.legs:
            # Daemons: Ctrl-C must not wait for a server that does not answer.
            threading.Thread(target=one, args=(leg,), name=f"deploy-{leg.server}", daemon=True).start()
        running = len(self.legs)
        while running:
            told = self._tellings.get()
            if told is None:
                running -= 1
            else:
                yield told


class NotSwitched(TakoError):
    """This server was ready, and was told to leave it, because another one was not."""

    code = "deploy_aborted"

    def __init__(self, server: str, other: str) -> None:
        super().__init__(f"{server} was ready and did not switch, because {other} was not.")


def _is_held(event: management.DeployEvent) -> bool:
    return event["phase"] == "held" and event["event"] == "begin"


def to_the_end(_event: management.DeployEvent) -> bool:
    """No event but the last is the one to wait for."""
    return False


def _try(act: Callable[[], None]) -> None:
    # A server that cannot be told aborts by itself: a held job waits ten minutes at most.
    with contextlib.suppress(TakoError):
        act()
