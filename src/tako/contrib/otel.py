"""`tako.contrib.otel.init()`: send spans by OTLP, in the web app and in the workers alike. Needs `tako-py[otel]`.

Only a convenience: whoever sets up OpenTelemetry in another way (`opentelemetry-instrument`, a vendor's agent) gets the
same spans from Tako, since those go to whichever tracer provider is there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tako.protocol import env

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def init(*, attributes: Mapping[str, str] | None = None) -> bool:
    """Set up a tracer provider, if an address for spans is configured and nobody has set up one before.

    The address is that of OpenTelemetry's own variables, for example `OTEL_EXPORTER_OTLP_ENDPOINT` in `[vars]`. The
    service is named for the app unless `OTEL_SERVICE_NAME` says otherwise. Call it where the web app is made and in
    `workflows/__init__.py`. True when spans are sent.
    """
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return True
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return False
    told = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or os.environ.get(env.APP_NAME, "tako"),
        "service.version": os.environ.get(env.BUILD, ""),
        "deployment.environment.name": os.environ.get(env.ENVIRONMENT, ""),
        "service.instance.id": f"{os.uname().nodename}:{os.getpid()}",
        "tako.group": os.environ.get(env.GROUP, ""),
    }
    resource = Resource.create({**{name: value for name, value in told.items() if value}, **(attributes or {})})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True
