"""What runs around user code in a worker: `@tako.on_start` once before it is ready, and the seams of frameworks."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractContextManager
    from typing import Any, Protocol, TypeVar

    class Bridge(Protocol):
        """Between loops and threads, in tests of a framework that has its own idea of them."""

        def run(self, work: Coroutine[Any, Any, Any]) -> Any:
            """Run a coroutine to its end, from a thread without a loop."""

        def call(self, fn: Callable[[], Any]) -> Awaitable[Any]:
            """Call sync code, from within a loop."""

    F = TypeVar("F", bound=Callable[[], Any])

hooks: "list[Callable[[], Any]]" = []
around_handlers: "list[Callable[[], AbstractContextManager[Any]]]" = []
around_steps: "list[Callable[[], AbstractContextManager[Any]]]" = []
bridge: "Bridge | None" = None  # for `tako.testing`, from `tako.contrib`


def on_start(fn: "F") -> "F":
    """Call this once in each worker, before it is ready: clients, pools. If it raises, that is a boot failure.

    `fn` takes nothing, and may be async: it then runs in the loop of the async handlers.
    """
    if not callable(fn):
        raise TypeError(f"on_start: expected a function, found {fn!r}")
    hooks.append(fn)
    return fn


def around(
    *,
    handler: "Callable[[], AbstractContextManager[Any]] | None" = None,
    step: "Callable[[], AbstractContextManager[Any]] | None" = None,
) -> None:
    """Enter these context managers around each handler, each sync step: for `tako.contrib`."""
    if handler is not None:
        around_handlers.append(handler)
    if step is not None:
        around_steps.append(step)
