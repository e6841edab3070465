"""A request of either client: its line, and what becomes of it when its connection ends without a reply. Pure, cold.

It is then in one of three situations, and the caller is told which:

- not sent: the line was never complete at the other end, so no engine can have acted on it;
- sent, no reply: one may have. It is asked again where that is harmless (REPEATABLE), else the caller learns it;
- refused: an error came that names no request. The engine read nothing after it.

An enqueue that was sent and then refused when asked again is not certain to have failed: the first copy may be stored.
"""

from tako import __version__
from tako.errors import EnqueueUnknown, InvalidRequest, PayloadError, StoreUnavailable, TakoError, from_reply
from tako.protocol import PROTOCOL_VERSION, json_text
from tako.protocol.framing import MAX_FRAME_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Message = dict[str, Any]

ENQUEUE = "enqueue_runs"
CHECK = "check_runs"
# The engine answers an enqueue by its deadline, if only with "too late, not stored"; so long may its answer travel.
GRACE_S = 1.0
# There is no event for "somebody listens on this path again"; what asks again this often is bounded by its deadline.
DIAL_AGAIN_S = 0.02
# Asking twice changes nothing: enqueues and signals are told apart by their id, the others read.
REPEATABLE = frozenset({
    ENQUEUE, CHECK, "get_run", "find_run", "list_runs", "wait_run", "ack", "list_workflows", "list_schedules", "health",
    "status", "logs",
})  # fmt: skip
# What the engine says when it closes a connection before it has looked at any request.
_TURNED_AWAY = ("unauthorized", "version_mismatch")
# Said by the engine after it has looked for the run's id in the store: true of every copy of the request.
_CERTAIN = ("duplicate_run", "queue_full")
# Said by an engine that failed or stopped while it answered; what it had done by then, it does not say.
_ACCIDENTS = ("internal", "error")
_BUSY = (BlockingIOError, TimeoutError)
_NOBODY = (FileNotFoundError, ConnectionRefusedError)


class Request:
    """A request on its way, over as many connections as it takes.

    `deadline` is in monotonic seconds; of an enqueue it is later than what the engine is told, by GRACE_S. `reserve`
    is the length of the introduction. `is_patient`: an engine that is not there is waited for, until the deadline.

    Raises:
        PayloadError, InvalidRequest: too long, or not text that UTF-8 can say. Nothing was sent.
    """

    __slots__ = (
        "command",
        "deadline",
        "fields",
        "is_known",
        "is_patient",
        "line",
        "links",
        "number",
        "path",
        "waited_s",
    )

    def __init__(
        self,
        number: int,
        command: str,
        fields: "Mapping[str, Any]",
        *,
        path: str,
        now: float,
        deadline_s: float,
        reserve: int,
        is_patient: bool = False,
    ) -> None:
        self.number = number
        self.is_patient = is_patient
        self.command = command
        self.fields = fields
        self.path = path
        self.waited_s = deadline_s
        self.deadline = now + deadline_s
        self.is_known = False  # an engine may have had it, over a connection that is gone
        self.links = 0
        self.line = self._line(reserve)
        if command == ENQUEUE:
            self.deadline += GRACE_S

    def _line(self, reserve: int) -> bytes:
        message = {"request": self.number, "command": self.command, **self.fields}
        if self.command == ENQUEUE and "deadline_mono_ms" not in message:
            message["deadline_mono_ms"] = int(self.deadline * 1000)
        try:
            line = json_text.encode(message).encode() + b"\n"
        except ValueError as error:
            cure = "Texts are valid Unicode, and numbers are finite."
            raise self._unsendable(f"cannot be sent: {error}", cure) from None
        if len(line) + reserve > MAX_FRAME_BYTES:
            size = f"{len(line) + reserve:,} bytes"
            cure = "Store large data elsewhere and pass a reference to it; enqueue fewer runs at a time."
            raise self._unsendable(f"makes a request of {size}, and a request is at most {MAX_FRAME_BYTES:,}", cure)
        return line

    def _unsendable(self, why: str, cure: str) -> TakoError:
        kind = PayloadError if self.command in (ENQUEUE, CHECK) else InvalidRequest
        return kind(f"`{self.command}` {why}; nothing was sent.", cure=cure)

    def answer(self, reply: "Message") -> "Any":
        """The data of its reply; raises the error that it stands for."""
        if reply["status"] == "ok":
            return reply.get("data")
        error = error_of(reply)
        if self.command == ENQUEUE:
            if reply.get("code") in _ACCIDENTS:
                raise self._unknown(f"failed while it answered ({error.message})")
            if error.detail.get("outcome") == "unknown":
                raise self._unknown(f"cannot tell what became of it ({error.message})")
            if self.is_known and error.code not in _CERTAIN:
                raise self._unknown(f"went away before it answered, and refuses the repetition ({error.message})")
        raise error

    def after_dial(self, error: OSError, *, now: float) -> float:
        """No connection could be made. How many seconds to wait before the next try; raises if there is none."""
        is_absent, is_over = isinstance(error, _NOBODY), now >= self.deadline
        if is_over and (self.is_known or not is_absent):
            raise self._overdue()
        if not is_over and (self.is_known or isinstance(error, _BUSY) or (is_absent and self.is_patient)):
            return DIAL_AGAIN_S
        why = f"at {self.path} is out of reach: {error.strerror or error}"
        if is_absent:
            why = f"is not running: nothing listens at {self.path}"
        raise StoreUnavailable(
            f"the engine {why}; `{self.command}` was not sent.",
            cure="Start it with `tako dev`, then try again." if is_absent else "",
            detail={"reason": "NO_ENGINE" if is_absent else "UNREACHABLE"},
        ) from None

    def after_link(self, refusal: "Message | None", *, may_be_known: bool, was_alone: bool, now: float) -> float:
        """A connection ended, or the deadline came. As `after_dial`.

        `refusal` is the error that ended the connection; `was_alone`: no other request was in flight on it.
        """
        self.links += 1
        if refusal is not None and (was_alone or refusal.get("code") in _TURNED_AWAY):
            error = error_of(refusal)
            if self.is_known:
                raise self._unknown(f"went away before it answered, and refuses the repetition ({error.message})")
            raise error
        self.is_known = self.is_known or may_be_known
        if now >= self.deadline:
            raise self._overdue()
        if self.is_known:
            if self.command in REPEATABLE or (self.command == "signal_run" and self.fields.get("signal_id")):
                return 0.0 if self.links == 1 else DIAL_AGAIN_S
            raise self._unknown("went away before it answered")
        if self.links == 1:
            return 0.0
        raise StoreUnavailable(
            f"the engine closes its connections before it reads from them; `{self.command}` was not sent.",
            cure="See the engine's log for why.",
            detail={"reason": "UNREACHABLE"},
        )

    def _overdue(self) -> TakoError:
        if self.is_known:
            return self._unknown(f"did not answer within {self.waited_s:g} s")
        return StoreUnavailable(
            f"the engine took no request for {self.waited_s:g} s; `{self.command}` was not sent.",
            cure="See `tako status` and the engine's log for what holds it up, then try again.",
            detail={"reason": "NOT_SENT"},
        )

    def _unknown(self, why: str) -> TakoError:
        """It was sent and no answer came. `why` ends the sentence "The engine ..."."""
        if self.command != ENQUEUE:
            return StoreUnavailable(
                f"the engine {why}: `{self.command}` may or may not have been done.",
                cure="See `tako status`, then try again.",
                detail={"reason": "NO_REPLY"},
            )
        ids = [run.get("id") for run in self.fields.get("runs", ())]
        run_id = ids[0] if ids else None
        shown = run_id if len(ids) == 1 else f"{run_id} and {len(ids) - 1} more"
        return EnqueueUnknown(
            f"the engine {why}: the run {shown} may or may not be stored.",
            cure="`tako.get_run(run_id)` answers once the engine is back; enqueueing again with the same key is safe.",
            detail={"run_id": run_id, "run_ids": ids},
        )


def introduction(app: str, token: str | None) -> bytes:
    """What the first request of a connection begins with, in place of its opening brace."""
    fields = {"app": app, "protocol": PROTOCOL_VERSION, "sdk": __version__}
    if token:
        fields["token"] = token
    return json_text.encode(fields)[:-1].encode() + b","


def read_line(line: bytes) -> "Message":
    """The object in a line. Raises ValueError when there is none."""
    # Not framing.decode: what the engine answers need not be checked for keys that stand twice, and this is faster.
    message = json_text.decode(str(line, "utf-8", "surrogatepass"))
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
