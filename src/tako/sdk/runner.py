"""What a context hands to whoever does the work, the Runner: checked names, times and options."""

from tako.errors import StepError
from tako.sdk import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from tako.sdk.options import Duration, Retry
    from tako.sdk.signals import Signal

    class Logger(Protocol):
        """Lines that carry the run's id and the step; the rest is shown as fields."""

        def debug(self, message: str, **fields: object) -> None:
            """What only the author follows."""

        def info(self, message: str, **fields: object) -> None:
            """What an operator follows."""

        def warning(self, message: str, **fields: object) -> None:
            """What a person may want to act on."""

        def error(self, message: str, **fields: object) -> None:
            """What a person must act on."""

    class Runner(Protocol):
        """Who carries out what a context is asked for. Those of AsyncContext return awaitables."""

        log: Logger

        def step(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], options: "StepOptions") -> Any:
            """Give back the saved value of the step, or call `fn` and save what it returns."""

        def map(
            self,
            name: str,
            fn: Callable[[Any], Any],
            items: Iterable[Any],
            options: "StepOptions",
            *,
            limit: int,
            return_exceptions: bool,
        ) -> Any:
            """Steps name[0], name[1], ..., `limit` at a time."""

        def sleep(self, name: str, duration_ms: int) -> Any:
            """Go on after a while."""

        def sleep_until(self, name: str, when_ms: int) -> Any:
            """Go on at a time (Unix milliseconds)."""

        def wait_for(self, event: str, timeout_ms: int | None, received: Callable[[str | None], Any]) -> Any:
            """Wait for a signal; the answer is `received(text)`, or `received(None)` at the timeout."""

        def start(self, name: str, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            """Enqueue a child run, once."""

        def gather(self, runs: tuple[Any, ...], *, return_exceptions: bool) -> Any:
            """Wait for children."""


MAX_NAME = 200


class StepOptions:
    """How a step is executed: `retry` (None: not again), its timeout, and the type of its value."""

    __slots__ = ("_timeout_ms", "retry", "returns")

    def __init__(self, retry: "Retry | None" = None, timeout_ms: int | None = None, returns: "Any" = None) -> None:
        self.retry = retry
        self.returns = returns
        self._timeout_ms = timeout_ms

    def timeout_ms(self, attempt: "Any") -> int | None:
        """Its own, else that of the attempt's workflow."""
        found: int | None = attempt.workflow.step_timeout_ms if self._timeout_ms is None else self._timeout_ms
        return found


NO_OPTIONS = StepOptions()


def check_name(name: str) -> str:
    """A step's name, if it can be one."""
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not name.isprintable():
        raise StepError(
            f"expected a step's name of 1 to {MAX_NAME} printable characters, found {str(name)[:MAX_NAME]!r}",
            cure='The name comes first: ctx.step("send", send_mail, address).',
        )
    return name


def check_limit(limit: int) -> int:
    """`limit=` of `map`."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise StepError(f"map: limit: expected a whole number of at least 1, found {limit!r}")
    return limit


def step_options(
    fn: "Callable[..., Any]", retries: "int | Retry", timeout: "Duration | None", returns: "Any"
) -> StepOptions:
    """The options of a step. One shared object where nothing was asked for, which is most steps.

    Raises:
        StepError: one of them cannot be, or could as well be meant for `fn`.
    """
    if not callable(fn):
        raise StepError(
            f"expected a function to call, found {type(fn).__name__}",
            cure="Give the function and its arguments apart: ctx.step(name, fn, x), not ctx.step(name, fn(x)).",
        )
    if retries == 0 and timeout is None and returns is None:
        return NO_OPTIONS
    _refuse_ambiguous(fn, {"retries": retries != 0, "timeout": timeout is not None, "returns": returns is not None})
    try:
        retry = options.retry_of(retries) if retries != 0 else None
        timeout_ms = None if timeout is None else options.duration_ms(timeout, what="timeout")
    except (ValueError, TypeError) as error:
        raise StepError(f"step: {error}") from None
    return StepOptions(retry, timeout_ms, returns)


def _refuse_ambiguous(fn: "Any", given: "dict[str, bool]") -> None:
    bound: set[str] = set()
    while hasattr(fn, "func") and hasattr(fn, "keywords"):  # functools.partial says which one is meant
        bound.update(fn.keywords)
        fn = fn.func
    fn = getattr(fn, "__wrapped__", fn)
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    if code is None:
        return
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    for name, is_given in given.items():
        if is_given and name in parameters and name not in bound:
            raise StepError(
                f"{name}= could be meant for the step or for {fn.__name__}(), which has a parameter of that name",
                cure=f"For the function's, say functools.partial({fn.__name__}, {name}=...); or rename it.",
            )


def timeout_of(signal: "Signal[Any]", timeout: "Duration | None") -> int | None:
    """`timeout=` of `wait_for`, in milliseconds."""
    if not hasattr(signal, "received"):
        raise StepError(f"wait_for: expected a Signal, found {signal!r}")
    try:
        return None if timeout is None else options.duration_ms(timeout, what=f"wait_for {signal.name!r}")
    except (ValueError, TypeError) as error:
        raise StepError(str(error)) from None


def receiver(signal: "Signal[Any]", default: "Any") -> "Callable[[str | None], Any]":
    """What makes a value of the text that the engine answers."""
    return lambda text: signal.received(text, default)
