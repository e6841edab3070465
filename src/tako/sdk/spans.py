"""OpenTelemetry, where the app has loaded and set it up: spans of enqueues, runs and steps, and what a run carries.

A run carries the `traceparent` (W3C) of the span that enqueued it, so that what a worker does days later is seen in the
trace of the request that asked for it. Nothing here imports OpenTelemetry, and this file itself is loaded only by who
has found it in `sys.modules`.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from tako.protocol.messages import NewRun

MAX_TRACEPARENT_CHARS = 55


class Opened:
    """A span that has begun, and is the current one of its context until `end`."""

    __slots__ = ("_context", "_span", "_token", "_trace")

    def __init__(self, tracer: "Any", name: str, kind: str, parent: "Any", attributes: "dict[str, Any]") -> None:
        self._trace = sys.modules["opentelemetry.trace"]
        self._context = sys.modules["opentelemetry.context"]
        found = {key: value for key, value in attributes.items() if value is not None}
        self._span = tracer.start_span(name, parent, self._trace.SpanKind[kind], found)
        self._token = self._context.attach(self._trace.set_span_in_context(self._span, parent))

    def failed(self, error: BaseException) -> None:
        """This exception ends it."""
        self._span.record_exception(error)
        words = f"{type(error).__name__}: {error}"
        self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, words[:1_000]))

    def end(self, **attributes: "Any") -> None:
        """It is over."""
        for key, value in attributes.items():
            self._span.set_attribute(key, value)
        self._context.detach(self._token)
        self._span.end()


def tracer() -> "Any":
    """The tracer of Tako; None while nobody has set up where spans go."""
    global _known
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if type(provider).__name__ in ("ProxyTracerProvider", "NoOpTracerProvider"):
        return None
    if _known[0] is not provider:
        _known = (provider, provider.get_tracer("tako"))
    return _known[1]


_known: "tuple[Any, Any]" = (None, None)


def begin(name: str, kind: str, attributes: "dict[str, Any]", *, carried: str | None = None) -> Opened | None:
    """Begin a span. `carried` is the traceparent of its parent, if that is not the current span of this context."""
    found = tracer()
    if found is None:
        return None
    return Opened(found, name, kind, _parent(carried) if carried else None, attributes)


def enqueueing(runs: "Sequence[NewRun]") -> "AbstractContextManager[None]":
    """A span around an enqueue; the runs carry it."""
    return _Enqueueing(runs)


class _Enqueueing:
    __slots__ = ("_opened", "_runs")

    def __init__(self, runs: "Sequence[NewRun]") -> None:
        self._runs = runs
        self._opened: Opened | None = None

    def __enter__(self) -> None:
        runs = self._runs
        if tracer() is None or not runs or "trace" in runs[0]:  # the last: written down earlier, and carried since
            return
        more = f" ×{len(runs)}" if len(runs) > 1 else ""
        self._opened = begin(
            f"enqueue {runs[0]['workflow']}{more}",
            "PRODUCER",
            {
                "messaging.system": "tako",
                "messaging.operation.type": "send",
                "messaging.destination.name": runs[0]["workflow"],
                "messaging.message.id": runs[0]["id"] if len(runs) == 1 else None,
                "messaging.batch.message_count": len(runs) if len(runs) > 1 else None,
            },
        )
        carry(runs)

    def __exit__(self, kind: "Any", error: "BaseException | None", trace: "Any") -> None:
        if self._opened is not None:
            if error is not None:
                self._opened.failed(error)
            self._opened.end()


def carry(runs: "Sequence[NewRun]") -> None:
    """Let the runs carry the current span, if there is one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return
    here = trace.get_current_span().get_span_context()
    if here.is_valid:
        text = f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"
        for run in runs:
            run["trace"] = text


def _parent(carried: str) -> "Any":
    """The context of a span elsewhere; None when what was carried is none of ours."""
    trace = sys.modules["opentelemetry.trace"]
    try:
        version, trace_id, span_id, flags = carried.split("-")
        found = trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
        )
    except ValueError:
        return None
    if version != "00" or not found.is_valid:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(found))
