"""The doors through which a failing command leaves: expected (1), usage (2), a bug of ours (70), interrupted (130)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from tako.cli.arguments import UsageError
from tako.cli.output import Output
from tako.errors import TakoError

DONE, REFUSED, USAGE, BUG, INTERRUPTED = 0, 1, 2, 70, 130


class Interrupted(KeyboardInterrupt):
    """Ctrl-C at a place that knows what goes on without us. The text says it."""


class Unreported(Exception):
    """The command has said all there is to say; leave with this code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def guarded(run: Callable[[], int], *, command: str, output: Output) -> int:
    """Run a command and turn every way it can end into an exit code, and what must be said into words."""
    try:
        exit_code = run()
        flush(output)
        return exit_code
    except Unreported as done:
        return done.exit_code
    except UsageError as error:
        return _refuse(error, output, USAGE)
    except TakoError as error:
        return _refuse(error, output, REFUSED)
    except KeyboardInterrupt as error:
        # A new line: the terminal has just printed "^C" on the current one.
        text = str(error) if isinstance(error, Interrupted) else ""
        output.say(f"\nInterrupted. {text}".rstrip())
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit as error:  # argparse's --help
        return error.code if isinstance(error.code, int) else DONE
    except OSError as error:
        return _refuse(_of_the_system(error, command), output, REFUSED)
    except Exception as error:
        return _bug(error, command, output)


@contextlib.contextmanager
def output_that_ends() -> Iterator[None]:
    """`tako logs | head` ends without a word: the reader left, which is its right. A full disk is told by `guarded`."""
    try:
        yield
    except BrokenPipeError:
        _forget_stdout()
        raise SystemExit(DONE) from None


def flush(output: Output) -> None:
    """Write what Python still holds of the output. Raises OSError: it cannot be written."""
    try:
        output.flush()
    except OSError:
        _forget_stdout()
        raise


def _forget_stdout() -> None:
    """Python flushes stdout once more on its way out, and would complain there of what was told already."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(error: TakoError, output: Output, exit_code: int) -> int:
    if output.json:
        document = {"code": error.code, "message": error.message, "cure": error.cure, "detail": error.detail}
        output.document({"error": document})
    output.fail(_safe(error.message), cure=_safe(error.cure))
    return exit_code


def _of_the_system(error: OSError, command: str) -> TakoError:
    place = f": {error.filename}" if error.filename else ""
    return TakoError(f"{command} was stopped by the system: {error.strerror or type(error).__name__}{place}.")


def _bug(error: Exception, command: str, output: Output) -> int:
    from tako.cli import report

    where = report.place_of(error)
    if output.json:
        output.document(
            {"error": {"code": "bug", "message": f"{type(error).__name__} {where}", "cure": "", "detail": {}}}
        )
    output.fail(f"{command} met a bug of Tako: {type(error).__name__} {where}.")
    try:
        path = report.write(error, command)
    except OSError as failed:
        output.say(f"  No report was written: {failed.strerror}. TAKO_DEBUG=1 prints it instead.")
    else:
        output.say(f"  The report is {path}; it holds no secret and no payload. Please send it to us.")
    output.say("  Runs that were enqueued are safe in the store. `tako doctor` looks at this machine.")
    if os.environ.get("TAKO_DEBUG"):
        import traceback

        traceback.print_exception(error, file=output.stderr)
    return BUG


def _safe(text: str) -> str:
    """Text from elsewhere, its own lines kept, unable to act on the terminal."""
    from tako.logs.render import clean_lines

    return "\n".join(clean_lines(text))
