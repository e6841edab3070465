"""What a worker says of itself: one line of JSON on stderr, which the daemon takes as structured (protocol.md 1)."""

import os

from tako.protocol import json_text
from tako.worker import redaction

_PLAIN = (str, int, bool)


def write(level: str, message: str, **fields: object) -> None:
    """Write one line. Secrets are taken out; what is None is left out; never raises."""
    line: dict[str, object] = {"msg": message, "level": level}
    line.update((name, value) for name, value in fields.items() if value is not None)
    try:
        text = json_text.encode(line)
    except (TypeError, ValueError, RecursionError):  # a field of the user's that JSON cannot say
        shown = {name: value if type(value) in _PLAIN else str(value) for name, value in line.items()}
        text = json_text.encode(shown)
    # One write, so that the lines of several threads, and what the user prints, do not run into each other.
    data = redaction.clean(text).encode("utf-8", "backslashreplace") + b"\n"
    try:  # noqa: SIM105 - contextlib is not loaded in a cold process
        os.write(2, data)
    except OSError:
        pass  # stderr is gone or full: nobody to tell
