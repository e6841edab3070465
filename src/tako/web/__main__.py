"""`python -m tako.web`: the process of a web instance."""

import os
import resource
import sys
import time
from contextlib import suppress

from tako.protocol import control, envelope


def main() -> int:
    """Serve until drained, and return the exit code."""
    began = time.monotonic()
    try:
        arguments = control.read_argv(sys.argv[1:])
    except ValueError as error:
        print(f"python -m tako.web is started by Tako, not by hand: {error}.\n  Try `tako dev`.", file=sys.stderr)  # noqa: T201
        return 2
    # A startup that hangs tells where it hangs before the daemon ends it.
    import faulthandler

    faulthandler.dump_traceback_later(0.9 * arguments.start_timeout_ms / 1000)
    sys.argv[1:] = []  # an app that reads its arguments at import must not read ours
    letter = _letter()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # secrets are in memory, and must not be in a core file
    _keep_to_ourselves()
    if arguments.command:
        from tako.web import shim

        return shim.run(arguments, letter=letter, began=began)
    from tako.sdk import runtime
    from tako.web import prints, runner

    prints.listen()
    runtime.receive(letter)
    return runner.run(arguments, began=began)


def _keep_to_ourselves() -> None:
    """Neither the line nor the listener reaches what the app starts: its children are no instances."""
    for fd in (control.CONTROL_FD, control.LISTENER_FD):
        with suppress(OSError):
            os.set_inheritable(fd, False)


def _letter() -> "envelope.Envelope":
    """What is on fd 3, which is closed before the app's own code runs."""
    nothing: envelope.Envelope = {"token": "", "secrets": {}, "storages": {}}
    if control.PRIVATE_SOCKET not in os.environ:
        return nothing  # started by hand: fd 3 may be anything, a terminal that never ends among it
    try:
        return envelope.read()
    except (OSError, ValueError):
        return nothing


if __name__ == "__main__":
    sys.exit(main())
