"""What a worker's and a builder's lines and spans bear: the bell that called, the attempt that is under way, each call of the
model and of a tool.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from shared import log_context, metrics, traces
from shared.doorbell import REQUEST_ID_HEADER
from shared.events import ToolCall, Usage
from shared.metrics import AttemptReason
from shared.records import Lease
from worker.assembler import Assembler

_log = logging.getLogger(__name__)

_FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


@contextmanager
def bell(request: Any, message_id: UUID) -> Iterator[None]:
    """A bell is answered. `request`: Celery's of the present task, whose headers tell where its message's bell was rung."""
    headers = request.headers if request.args and request.args[0] == str(message_id) else None
    headers = headers if isinstance(headers, dict) else {}
    facts: dict[str, UUID | str] = {log_context.MESSAGE_ID: message_id}
    if (request_id := log_context.sane_request_id(headers.get(REQUEST_ID_HEADER))) is not None:
        facts[log_context.REQUEST_ID] = request_id
    names = ("traceparent", "tracestate")
    carried = {name: value for name in names if isinstance(value := headers.get(name), str)}
    with log_context.about(**facts), traces.continued(carried):
        yield


@contextmanager
def attempt(
    kind: Literal["turn", "build"], lease: Lease, *, model: str, claimed_at: float, queued_s: float | None = None
) -> Iterator[None]:
    """A message that was taken; `claimed_at`: `time.monotonic` before the claim was sent. All that is told in the context
    bears it, until the bell is answered."""
    claimed_at_ns = time.time_ns() - int((time.monotonic() - claimed_at) * 1e9)
    attributes: traces.Attributes = {
        "chatrelay.message.id": str(lease.message_id),
        "chatrelay.project.id": str(lease.project_id),
        "chatrelay.attempt": lease.attempt,
        "chatrelay.run": lease.run,
        "chatrelay.queued_ms": None if queued_s is None else round(queued_s * 1000),
        "gen_ai.request.model": model,
    }
    with (
        log_context.about(
            message_id=lease.message_id, project_id=lease.project_id, attempt=lease.attempt, run=lease.run
        ),
        traces.turn(kind, lease.message_id, attributes, began_at_ns=claimed_at_ns),
    ):
        traces.past("claim", claimed_at_ns)
        _log.debug("%s begun with the model %s", kind, model)
        yield


def attempt_begun(lease: Lease, reason: AttemptReason) -> None:
    """Another attempt of the same holder."""
    metrics.ATTEMPTS.add(reason)
    log_context.note(attempt=lease.attempt)
    traces.event("attempt", {"chatrelay.attempt": lease.attempt, "chatrelay.reason": reason.value})
    _log.debug("an attempt begun anew: %s", reason.value)


def provider_failed(code: str, *, again_in_s: float) -> None:
    traces.event("retry", {"error.type": code, "chatrelay.pause_ms": round(again_in_s * 1000)})


class ModelCall:
    """One answer of the model, as a span by the conventions for generative AI. Never what was asked or said."""

    def __init__(self, span: traces.Span) -> None:
        self._span = span

    def answered(self, answer: Assembler) -> None:
        usage: Usage | None = answer.usage
        # a word of the provider's own could be anything
        reason = answer.finish_reason if answer.finish_reason in _FINISH_REASONS else metrics.OTHER
        self._span.note(
            {
                "gen_ai.response.finish_reasons": None if answer.finish_reason is None else [reason],
                "gen_ai.usage.input_tokens": None if usage is None else usage.prompt_tokens,
                "gen_ai.usage.output_tokens": None if usage is None else usage.completion_tokens,
            }
        )


@contextmanager
def model_call(base_url: str, model: str) -> Iterator[ModelCall]:
    address = urlsplit(base_url)
    attributes: traces.Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "server.address": address.hostname,
        "server.port": address.port,
    }
    with traces.span(f"chat {model}", attributes, kind=traces.Kind.CLIENT) as span:
        yield ModelCall(span)


class ToolRun:
    def __init__(self, span: traces.Span) -> None:
        self._span = span

    def made(self, call: ToolCall) -> None:
        self._span.note({"chatrelay.tool.success": call.state == "succeeded"})


@contextmanager
def tool_call(name: str, tool_call_id: str) -> Iterator[ToolRun]:
    label = metrics.tool_label(name)  # the model may have made it up
    attributes: traces.Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": label,
        "gen_ai.tool.call.id": tool_call_id,
        "gen_ai.tool.type": "function",
    }
    with traces.span(f"execute_tool {label}", attributes) as span:
        yield ToolRun(span)
