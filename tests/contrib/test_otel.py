"""Spans of real processes, received as a collector does: one trace from the web request into the run and its steps."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tako.sdk import spans
from tests.support.dev import Dev, runtime_folder, until, write

WORKFLOWS = """
from tako import {Context}, workflow
from tako.contrib import otel

otel.init()

def charge(order):
    if order < 0:
        raise ValueError("no such order")
    return order

@workflow(retries=0)
{adef} refund(ctx: {Context}, order: int) -> None:
    {wait}ctx.step("give-back", charge, order)

@workflow(retries=0)
{adef} sell(ctx: {Context}, order: int) -> int:
    {wait}ctx.step("load", charge, 1)
    {wait}ctx.sleep("rest", "3.2s")
    {wait}ctx.start("refund", refund, order=5)
    return {wait}ctx.step("charge", charge, order)
"""
REQUEST = """
import sys
sys.path.insert(0, ".")
from opentelemetry import trace
from tako.contrib import otel
from workflows.shop import sell
import asyncio

assert otel.init()
with trace.get_tracer("web").start_as_current_span("POST /order"):
    order = int(sys.argv[2])
    run = asyncio.run(sell.aenqueue(order=order)) if sys.argv[1] == "a" else sell.enqueue(order=order)
print(run.id)
trace.get_tracer_provider().shutdown()
"""


@dataclass
class Span:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    is_error: bool
    events: list[str]
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                collector._take(ExportTraceServiceRequest.FromString(data))
                body = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: Any) -> None:
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    self.spans.append(
                        Span(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.kind,
                            span.status.code == 2,
                            [event.name for event in span.events],
                            _attributes(span.attributes),
                            resource,
                        )
                    )

    def named(self, name: str, *, trace_id: str | None = None) -> list[Span]:
        return [span for span in self.spans if span.name == name and trace_id in (None, span.trace_id)]


def _attributes(found: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module", params=["sync", "async"])
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Dev]:
    """An app whose workers and requests send their spans to the collector at once."""
    folder = tmp_path_factory.mktemp("traced")
    is_async = request.param == "async"
    code = WORKFLOWS.format(
        Context="AsyncContext" if is_async else "Context",
        adef="async def" if is_async else "def",
        wait="await " if is_async else "",
    )
    settings = (
        'name = "traced"\n[workflows]\nidle_timeout = "1s"\n[vars]\n'
        f'OTEL_EXPORTER_OTLP_ENDPOINT = "{collector.url}"\nOTEL_BSP_SCHEDULE_DELAY = "100"\nNO_PROXY = "127.0.0.1"\n'
    )
    write(
        folder, {"workflows/__init__.py": "", "workflows/shop.py": code, "request.py": REQUEST, "tako.toml": settings}
    )
    with Dev(folder, "--no-web") as dev:
        yield dev
    shutil.rmtree(runtime_folder(folder), ignore_errors=True)


def ask(app: Dev, order: int) -> str:
    """A web request that enqueues, as its workflows do: sync or async; the run's id."""
    kind = "a" if "async def" in (app.folder / "workflows/shop.py").read_text() else "s"
    done = app.tako("run", "--", "python", "request.py", kind, str(order))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.acceptance
def test_one_trace_leads_from_the_request_through_the_run_and_its_child(app: Dev, collector: Collector) -> None:
    run_id = ask(app, 7)
    enqueued = next(span for span in collector.spans if span.attributes.get("messaging.message.id") == run_id)
    trace_id = enqueued.trace_id
    until(lambda: collector.named("step give-back", trace_id=trace_id), what="the child's step is told")
    until(lambda: len(collector.named("run sell", trace_id=trace_id)) == 2, what="both passes of the run are told")

    (web,) = collector.named("POST /order", trace_id=trace_id)
    assert (enqueued.name, enqueued.kind, enqueued.parent_id) == ("enqueue sell", 4, web.span_id)
    passes = collector.named("run sell", trace_id=trace_id)
    assert [(one.kind, one.parent_id, one.attributes["tako.outcome"]) for one in passes] == [
        (5, enqueued.span_id, "parked"), (5, enqueued.span_id, "succeeded"),
    ]  # fmt: skip
    assert [one.attributes["messaging.message.id"] for one in passes] == [run_id, run_id]
    (load,) = collector.named("step load", trace_id=trace_id)  # once: the second pass found it saved
    (charge,) = collector.named("step charge", trace_id=trace_id)
    assert (load.parent_id, charge.parent_id) == (passes[0].span_id, passes[1].span_id)
    (child,) = collector.named("run refund", trace_id=trace_id)
    assert child.parent_id == passes[1].span_id
    assert (charge.resource["service.name"], charge.resource["tako.group"]) == ("traced", "default")


@pytest.mark.acceptance
def test_a_failed_step_and_its_run_are_errors_in_the_trace(app: Dev, collector: Collector) -> None:
    run_id = ask(app, -1)
    failed = until(
        lambda: [
            span for span in collector.spans
            if span.attributes.get("messaging.message.id") == run_id and span.attributes.get("tako.outcome") == "failed"
        ],
        what="the failed run is told",
    )  # fmt: skip
    (step,) = collector.named("step charge", trace_id=failed[0].trace_id)

    assert (failed[0].is_error, step.is_error, step.events) == (True, True, ["exception"])


@pytest.mark.parametrize(
    "carried", ["", "nonsense", "00-0-0-00", f"00-{'0' * 32}-{'1' * 16}-01", "ff-1-1-01", "00-z-z-z"]
)
def test_what_is_no_traceparent_is_no_parent(carried: str) -> None:
    from opentelemetry import trace

    assert trace is not None
    assert spans._parent(carried or "-") is None


def test_without_a_provider_nothing_is_made() -> None:
    from opentelemetry import trace

    assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
    runs: list[Any] = [{"id": "r", "workflow": "w", "payload_json": "{}"}]
    with spans.enqueueing(runs):
        pass
    assert runs == [{"id": "r", "workflow": "w", "payload_json": "{}"}]
