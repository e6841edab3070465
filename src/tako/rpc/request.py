"""What both clients say: the frame of a request, and the error for each way in which no answer came. Pure, cold.

A request is in one of three situations when its connection ends, and the caller is told which:

- not sent: the line was never complete at the other end, so the engine cannot have acted on it;
- sent, no reply: it may have. It is asked again where that is harmless (REPEATABLE), else the caller learns it;
- refused: an error came that names no request. The engine read nothing after it.
"""

import json

from tako import __version__
from tako.errors import EnqueueUnknown, InvalidRequest, PayloadError, StoreUnavailable, TakoError, from_reply
from tako.protocol import PROTOCOL_VERSION
from tako.protocol.framing import MAX_FRAME_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Message = dict[str, Any]

ENQUEUE = "enqueue_runs"
# The engine answers an enqueue by its deadline, if only with "too late, not stored"; so long may its answer travel.
GRACE_S = 1.0
# There is no event for "somebody listens on this path again"; what asks again this often is bounded by its deadline.
DIAL_AGAIN_S = 0.02
# Asking twice changes nothing: enqueues and signals are told apart by their id, the others read.
REPEATABLE = frozenset({
    ENQUEUE, "get_run", "find_run", "list_runs", "wait_run", "ack", "list_workflows", "list_schedules", "health",
    "status", "logs", "check",
})  # fmt: skip
# Refusals of a whole connection, made before its first request was looked at.
_REFUSALS = ("unauthorized", "version_mismatch")
START_IT = "Start it with `tako dev`, then try again."

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# Not framing.decode: what the engine answers need not be checked for keys that stand twice, and this is faster.
_decode = json.JSONDecoder().raw_decode


def introduction(app: str, token: str | None) -> bytes:
    """What the first request of a connection begins with, in place of its opening brace."""
    fields = {"app": app, "protocol": PROTOCOL_VERSION, "sdk": __version__}
    if token:
        fields["token"] = token
    return _encode(fields)[:-1].encode() + b","


def frame(number: int, command: str, fields: "Mapping[str, Any]", *, deadline: float, reserve: int) -> bytes:
    """The line of a request. `deadline` (monotonic seconds) goes along with an enqueue; `reserve` is the introduction.

    Raises:
        PayloadError, InvalidRequest: too long, or not text that UTF-8 can say. Nothing was sent.
    """
    message = {"request": number, "command": command, **fields}
    if command == ENQUEUE:
        message.setdefault("deadline_mono_ms", int(deadline * 1000))
    kind = PayloadError if command == ENQUEUE else InvalidRequest
    try:
        line = _encode(message).encode() + b"\n"
    except ValueError as error:
        raise kind(f"`{command}` cannot be sent: {error}; nothing was stored") from None
    if len(line) + reserve > MAX_FRAME_BYTES:
        raise kind(
            f"`{command}` is {len(line):,} bytes long and a request is at most {MAX_FRAME_BYTES:,}; nothing was stored",
            cure="Store the data elsewhere and pass a reference to it, or enqueue fewer runs at a time.",
        )
    return line


def is_repeatable(command: str, fields: "Mapping[str, Any]") -> bool:
    """Whether it may be asked again when the reply was lost."""
    return command in REPEATABLE or (command == "signal_run" and fields.get("signal_id") is not None)


def read_line(line: bytes) -> "Message":
    """The object in a line. Raises ValueError when there is none."""
    message = _decode(str(line, "utf-8", "surrogatepass"))[0]
    if type(message) is not dict:
        raise ValueError("not an object")
    return message


def read_reply(line: bytes) -> "Message":
    """The reply in a line. Raises ValueError when it is none."""
    message = read_line(line)
    if "status" not in message:
        raise ValueError("not a reply")
    return message


def data_of(reply: "Message") -> "Any":
    """The data of a reply; raises the error that it stands for."""
    if reply["status"] == "ok":
        return reply.get("data")
    raise error_of(reply)


def error_of(reply: "Message") -> TakoError:
    """The error that a reply stands for, with its cure."""
    error = from_reply(reply)
    error.cure = str(error.detail.pop("cure", ""))
    return error


def refuses_connection(reply: "Message") -> bool:
    """Whether this error, which names no request, says that the engine acts on nothing of this connection."""
    return reply.get("code") in _REFUSALS


def not_listening(command: str, path: str) -> StoreUnavailable:
    """Nobody is at the other end, and this request was never sent."""
    return StoreUnavailable(
        f"the engine is not running: nothing listens at {path}. `{command}` was not sent; nothing was stored.",
        cure=START_IT,
        detail={"reason": "NO_ENGINE"},
    )


def not_sent(command: str, waited_s: float) -> StoreUnavailable:
    """Somebody is there and takes nothing."""
    return StoreUnavailable(
        f"the engine takes no requests: `{command}` could not be sent within {waited_s:g} s; nothing was stored.",
        cure="See `tako status` and the engine's log for what holds it up, then try again.",
        detail={"reason": "NOT_SENT"},
    )


def no_reply(command: str, fields: "Mapping[str, Any]", why: str) -> TakoError:
    """It was sent and no answer came. `why` ends the sentence "The engine ..."."""
    if command != ENQUEUE:
        return StoreUnavailable(
            f"the engine {why} `{command}`, which may or may not have been done.",
            cure="See `tako status`, then try again.",
            detail={"reason": "NO_REPLY"},
        )
    ids = [run.get("id") for run in fields.get("runs", ())]
    run_id = ids[0] if ids else None
    return EnqueueUnknown(
        f"the engine {why} the enqueue; the run may or may not be stored, as {run_id}.",
        cure="`tako.get_run(run_id)` answers once the engine is back; enqueueing again with the same key is safe.",
        detail={"run_id": run_id, "run_ids": ids},
    )
