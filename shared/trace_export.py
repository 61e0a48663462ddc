"""Spans out of the process, by OTLP over HTTP: the only importer of OpenTelemetry. Loaded where traces are on.

Where nobody takes them they are dropped: what waits is bounded by the library (2,048 spans), and no answer waits for it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Final
from uuid import UUID

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util import types

from shared.errors import ChatrelayError
from shared.traces import Attributes, Kind

STOP_S: Final = 2.0
"""A collector that is slow or away holds up a stopping process no longer."""
_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_trace_of: ContextVar[UUID | None] = ContextVar("chatrelay-trace-of", default=None)
"""The message whose id the next root span's trace takes."""


class Exporting:
    def __init__(self, process: str) -> None:
        self._provider = TracerProvider(resource=_resource(process), id_generator=_Ids(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("chatrelay", version("chatrelay"))
        self._propagator = TraceContextTextMapPropagator()

    def stop(self) -> None:
        stopping = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        stopping.start()
        stopping.join(STOP_S)

    @contextmanager
    def span(
        self, name: str, attributes: Attributes, *, kind: Kind = Kind.INTERNAL, began_at_ns: int | None = None
    ) -> Iterator[_Seen]:
        begun = self._tracer.start_span(
            name, kind=_KINDS[kind], attributes=_set(attributes), start_time=began_at_ns, record_exception=False
        )
        token = context.attach(trace.set_span_in_context(begun))
        seen = _Seen(begun)
        try:
            yield seen
        except BaseException as error:
            seen.failed(_code(error))
            raise
        finally:
            context.detach(token)
            begun.end()

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[_Seen]:
        token = context.attach(self._propagator.extract(headers, context=context.Context()))
        try:
            with self.span(method, {"http.request.method": method}, kind=Kind.SERVER) as seen:
                yield seen
        finally:
            context.detach(token)

    @contextmanager
    def turn(self, name: str, message_id: UUID, attributes: Attributes, *, began_at_ns: int) -> Iterator[_Seen]:
        token = _trace_of.set(message_id)
        try:
            with self.span(name, attributes, kind=Kind.CONSUMER, began_at_ns=began_at_ns) as seen:
                yield seen
        finally:
            _trace_of.reset(token)

    def past(self, name: str, began_at_ns: int, attributes: Attributes) -> None:
        self._tracer.start_span(name, attributes=_set(attributes), start_time=began_at_ns).end(time.time_ns())

    def event(self, name: str, attributes: Attributes) -> None:
        trace.get_current_span().add_event(name, _set(attributes))

    def carried(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    @contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[None]:
        token = context.attach(self._propagator.extract(headers, context=context.Context()))
        try:
            yield
        finally:
            context.detach(token)

    def ids(self) -> dict[str, str]:
        present = trace.get_current_span().get_span_context()
        if not present.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(present.trace_id), "span_id": trace.format_span_id(present.span_id)}


class _Seen:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(_set(attributes))

    def event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, _set(attributes))

    def failed(self, code: str) -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR))


class _Ids(RandomIdGenerator):
    """Random, but for the trace of a message that nobody brought one for: its id, which has 74 random bits."""

    def generate_trace_id(self) -> int:
        message_id = _trace_of.get()
        return super().generate_trace_id() if message_id is None else message_id.int


def _resource(process: str) -> Resource:
    """What the environment says (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``) stands."""
    own = Resource(
        {
            "service.version": version("chatrelay"),
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        }
    )
    found = own.merge(Resource.create())
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: f"chatrelay-{process}"}))
    return found


def _set(attributes: Attributes) -> dict[str, types.AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}


def _code(error: BaseException) -> str:
    if isinstance(error, ChatrelayError):
        return str(getattr(error, "error_code", error.code))
    return type(error).__qualname__
