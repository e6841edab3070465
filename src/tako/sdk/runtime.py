"""From this process's environment and envelope to an engine that can be called: on first use, once, fork-safe.

What starts a process for user code (`tako.worker`, `tako.web`) reads fd 3 itself and calls `receive`. A command under
`tako run` reads it here, when it first needs it.
"""

import os
from time import time_ns

from tako.errors import NoEngine
from tako.protocol import env, envelope, json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tako.sdk.engine import Engine


WAYS_IN = "`tako dev`, or as `tako run -- COMMAND`; in tests use `tako.testing`"

_engine: "Engine | None" = None
_environment: env.ProcessEnvironment | None = None
_token: str | None = None
_secrets: dict[str, str] | None = None
_has_looked = False
_clock: "Callable[[], int] | None" = None
# What `tako.contrib` puts around the engine of this process, whichever that is.
_wrappers: "list[Callable[[Engine], Engine]]" = []


def engine() -> "Engine":
    """The engine of this process.

    Raises:
        NoEngine: this process does not run under Tako.
    """
    if _engine is not None:
        return _engine
    return _connect()


def _connect() -> "Engine":
    global _engine
    found = environment()
    _look_for_envelope()
    from tako.sdk.engine import RemoteEngine

    _engine = engine = _wrapped(RemoteEngine(found.socket, found.app, _token))
    return engine


def wrap(wrapper: "Callable[[Engine], Engine]") -> None:
    """Put something around the engine of this process, now or when it is found. For `tako.contrib`."""
    global _engine
    _wrappers.append(wrapper)
    if _engine is not None:
        _engine = wrapper(_engine)


def _wrapped(found: "Engine") -> "Engine":
    for wrapper in _wrappers:
        found = wrapper(found)
    return found


def now_ms() -> int:
    """Unix time in milliseconds, by the clock that the engine of this process goes by."""
    return time_ns() // 1_000_000 if _clock is None else _clock()


def environment() -> env.ProcessEnvironment:
    """What this process's environment says. Raises NoEngine when it says nothing."""
    global _environment
    if _environment is None:
        _environment = env.read()
    if _environment is None:
        raise NoEngine("This process does not run under Tako, so there is no engine.", cure=f"Start it with {WAYS_IN}.")
    return _environment


def secrets() -> dict[str, str] | None:
    """The app's secrets; None outside Tako."""
    if _secrets is None:
        _look_for_envelope()
    return _secrets


def receive(found: "envelope.Envelope") -> None:
    """Take over what came on fd 3. For whoever read it."""
    global _token, _secrets, _has_looked
    _token = found["token"]
    _secrets = dict(found["secrets"])
    _has_looked = True


def install(
    new_engine: "Engine | None",
    *,
    environment: env.ProcessEnvironment | None = None,
    secrets: dict[str, str] | None = None,
    clock: "Callable[[], int] | None" = None,
) -> "tuple[Any, ...]":
    """Put another engine in place, for `tako.testing`. Returns what `restore` takes back."""
    global _engine, _environment, _secrets, _has_looked, _clock
    before = (_engine, _environment, _secrets, _has_looked, _clock)
    _engine = None if new_engine is None else _wrapped(new_engine)
    _environment, _secrets, _has_looked, _clock = environment, secrets, True, clock
    return before


def restore(before: "tuple[Any, ...]") -> None:
    """Undo `install`."""
    global _engine, _environment, _secrets, _has_looked, _clock
    _engine, _environment, _secrets, _has_looked, _clock = before


def _look_for_envelope() -> None:
    """Read the envelope of a process that `tako run` started. Never raises: without it, peer credentials must do."""
    global _has_looked
    if _has_looked:
        return
    _has_looked = True
    if not os.environ.get(env.INTERNAL_SOCKET):
        return
    data = _envelope_bytes(int(os.environ.get(envelope.ENVELOPE_FD_VARIABLE) or envelope.ENVELOPE_FD))
    if not data:
        return
    try:
        found = json_text.decode(data.decode())
        receive({"token": str(found["token"]), "secrets": dict(found["secrets"]), "storages": {}})
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # something else of the user's is open there


def _envelope_bytes(fd: int) -> bytes:
    """What lies on fd 3, if that is an envelope: a pipe that was filled and closed, or a sealed memory file.

    Nothing else is read: a program that the user's program started has our variables, but any file there. A memory
    file is read without moving it, so that forks can read it too.
    """
    from select import POLLHUP, POLLIN, poll
    from stat import S_ISFIFO

    try:
        if "memfd:envelope" in os.readlink(f"/dev/fd/{fd}"):  # noqa: PTH115  (pathlib costs 8 ms)
            return os.pread(fd, os.fstat(fd).st_size, 0)
    except OSError:
        pass  # not Linux, or nothing is open there
    try:
        if not S_ISFIFO(os.fstat(fd).st_mode):
            return b""
        waiting = poll()
        waiting.register(fd, POLLIN)
        found = waiting.poll(0)
        if not found or not found[0][1] & POLLIN or not found[0][1] & POLLHUP:
            return b""
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        os.close(fd)
        return b"".join(chunks)
    except OSError:
        return b""
