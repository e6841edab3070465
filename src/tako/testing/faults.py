"""Faults that a test plans: a worker that dies behind a step, a step that fails. One that never came fails the test."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self

from tako.sdk.workflow import Workflow


class NeverReached(AssertionError):
    """A planned fault never came, so the test did not test what it says."""


class Fault:
    """A fault that is planned from its making on; as a `with`, until the end of the block.

    `reached` is how often it came.
    """

    def __init__(self, faults: Faults, said: str, *, step: str, workflow: Workflow[Any, Any] | str | None) -> None:
        self.reached = 0
        self._faults = faults
        self._said = said
        self._step = step
        self._workflow = workflow.name if isinstance(workflow, Workflow) else workflow

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._faults.forget(self)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise NeverReached if it never came."""
        if self.reached == 0:
            seen = self._faults.seen(self._workflow)
            steps = ", ".join(repr(name) for name in seen) if seen else "none"
            raise NeverReached(f"{self._said} was never reached. Steps that were executed: {steps}.")

    def concerns(self, workflow: str, step: str) -> bool:
        """Whether it is planned for this step. The name of a `map` stands for all its items."""
        if self._workflow not in (None, workflow):
            return False
        name, bracket, index = step.rpartition("[")
        return step == self._step or (bool(bracket) and name == self._step and index.removesuffix("]").isdigit())


class Crash(Fault):
    """The worker dies once a step's function has returned and before its result is saved; once."""


class Fail(Fault):
    """A step raises in place of its function, `times` times."""

    def __init__(
        self,
        faults: Faults,
        said: str,
        *,
        step: str,
        workflow: Workflow[Any, Any] | str | None,
        times: int | None,
        error: BaseException | type[BaseException] | None,
    ) -> None:
        super().__init__(faults, said, step=step, workflow=workflow)
        self._left = times
        self._error = error

    @property
    def is_used_up(self) -> bool:
        """Whether it has come as often as it should."""
        return self._left == 0

    def raise_error(self) -> None:
        """Come."""
        self.reached += 1
        if self._left is not None:
            self._left -= 1
        if self._error is None:
            raise RuntimeError(self._said)
        raise self._error


class Outage:
    """A group whose workers cannot start, from the making of this on; as a `with`, until the end of the block."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Faults:
    """The faults that are planned, and the steps at which they could have come."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._seen: dict[tuple[str, str], None] = {}

    def plan(self, fault: Fault) -> None:
        """From now on it may come."""
        self._planned.append(fault)

    def forget(self, fault: Fault) -> None:
        """It comes no more. Twice is harmless."""
        if fault in self._planned:
            self._planned.remove(fault)

    def check(self) -> None:
        """Raise NeverReached for the first that is planned and never came."""
        for fault in self._planned:
            fault.check()

    def seen(self, workflow: str | None) -> Collection[str]:
        """The names of steps that were executed."""
        return list(dict.fromkeys(step for name, step in self._seen if workflow in (None, name)))

    def before_step(self, workflow: str, step: str) -> None:
        """A step's function is about to be called: raises the error that is planned for it."""
        self._seen[workflow, step] = None
        for fault in self._planned:
            if isinstance(fault, Fail) and not fault.is_used_up and fault.concerns(workflow, step):
                fault.raise_error()

    def crashes_after(self, workflow: str, step: str) -> bool:
        """A step's function has returned: whether the worker dies now."""
        for fault in self._planned:
            if isinstance(fault, Crash) and fault.reached == 0 and fault.concerns(workflow, step):
                fault.reached += 1
                return True
        return False
