"""Where a message's time goes, as spans that a tracing backend can show. Off, all of this does nothing and loads nothing.

A span carries ids, counts, codes and names that were registered: no text of a user's or a provider's, and of an exception its
type or code. What is exported, and how, is `shared.trace_export`'s, which knows the library.

A message's bell carries the trace that it was rung in (`carried`). One that comes without, the sweeper's say, is answered in
a trace whose id is the message's own, so that all such attempts are in one place, which the message's id names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from shared.trace_export import Exporting

_log = logging.getLogger(__name__)

Attribute: TypeAlias = str | int | float | bool | Sequence[str]
Attributes: TypeAlias = Mapping[str, Attribute | None]
"""None: left out."""


class Kind(Enum):
    """OpenTelemetry's kinds of spans."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    CONSUMER = 4


class Span(Protocol):
    def name(self, name: str) -> None:
        """Call it so from now on."""

    def note(self, attributes: Attributes) -> None: ...

    def event(self, name: str, attributes: Attributes) -> None:
        """Something that happened now."""

    def failed(self, code: str) -> None:
        """It came to nothing, and why, in one word."""


class _Unseen:
    """A span of nobody's."""

    def name(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None: ...

    def event(self, name: str, attributes: Attributes) -> None: ...

    def failed(self, code: str) -> None: ...


_UNSEEN: Final = _Unseen()
_exporting: Exporting | None = None


def start(process: str, environment: Mapping[str, str], *, wanted: bool | None) -> None:
    """Export this process's spans, where that is wanted (None: where an OTLP endpoint is set). To be called after a fork."""
    global _exporting
    if _exporting is None and is_wanted(environment, wanted):
        try:
            from shared.trace_export import Exporting
        except ImportError:
            # a platform sets an endpoint for everybody; who wants traces for certain is told by `shared.settings`
            _log.warning("no traces: OpenTelemetry is not installed (the extra `otel`)")
            return
        _exporting = Exporting(process)


def stop() -> None:
    """Send what has ended, for a second or two; nothing is traced from then on."""
    global _exporting
    exporting, _exporting = _exporting, None
    if exporting is not None:
        exporting.stop()


def span(
    name: str, attributes: Attributes | None = None, *, kind: Kind = Kind.INTERNAL
) -> AbstractContextManager[Span]:
    """What is done in the context, as a part of the present span. An exception that leaves it is told by its type or code."""
    return nullcontext(_UNSEEN) if _exporting is None else _exporting.span(name, attributes or {}, kind=kind)


def request(method: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """The span of an HTTP request, in its caller's trace where `headers` (in lower case) tell one."""
    return nullcontext(_UNSEEN) if _exporting is None else _exporting.request(method, headers)


def turn(name: str, message_id: UUID, attributes: Attributes, *, began_at_ns: int) -> AbstractContextManager[Span]:
    """The span of an attempt at a message: in the trace that its bell brought (`continued`), else in the message's own."""
    return (
        nullcontext(_UNSEEN)
        if _exporting is None
        else _exporting.turn(name, message_id, attributes, began_at_ns=began_at_ns)
    )


def past(name: str, began_at_ns: int, attributes: Attributes | None = None) -> None:
    """A part of the present span that ends now. By `time.time_ns`."""
    if _exporting is not None:
        _exporting.past(name, began_at_ns, attributes or {})


def event(name: str, attributes: Attributes | None = None) -> None:
    """Something that happened in the present span."""
    if _exporting is not None:
        _exporting.event(name, attributes or {})


def carried() -> dict[str, str]:
    """The present trace for another process, as W3C's headers; empty where nothing is traced."""
    return {} if _exporting is None else _exporting.carried()


def continued(headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """Spans of the context are in the trace that `headers` carry, where they do."""
    return nullcontext() if _exporting is None else _exporting.continued(headers)


def ids() -> dict[str, str]:
    """The present span's, for log lines."""
    return {} if _exporting is None else _exporting.ids()


def is_wanted(environment: Mapping[str, str], wanted: bool | None) -> bool:
    if wanted is not None:
        return wanted
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(environment.get(name) for name in names)
