"""What the dashboard needs of an app: the narrow door through which it sees and acts. `host/window.py` is one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from tako.logs.filters import Filter
from tako.logs.hub import Subscription
from tako.metrics.exposition import Family
from tako.metrics.ring import Ring

# What changed (runs, health, schedules), and the ids of the runs if it were runs.
OnChange = Callable[[str, Collection[str]], None]


class App(Protocol):
    """One app, whose engine is in this process."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def ring(self) -> Ring:
        """What happened of late, by the second and by the minute."""
        ...

    @property
    def changes(self) -> int:
        """A number that is another one when something may look otherwise than before."""
        ...

    async def ask(self, command: str, **fields: Any) -> Any:
        """A command of SPEC.md section 3, and the data that its reply carries. Fields that are None are left out.

        Raises:
            TakoError: it was refused; it changed nothing.
        """
        ...

    async def families(self) -> list[Family]:
        """All metrics."""
        ...

    def redact(self, text: str) -> str:
        """The text without the values of secrets."""
        ...

    def listen(self, on_change: OnChange) -> Callable[[], None]:
        """Be told of changes, on the loop, from now until what is returned is called."""
        ...

    def follow(self, wanted: Filter, *, tail: int) -> Subscription:
        """Log lines: the newest `tail`, then those that come. To be closed."""
        ...
