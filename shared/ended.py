"""A message's end, told by whoever committed it: to the metrics, and as one line of the log."""

from __future__ import annotations

from typing import Any

from shared import events, log_context, logs, metrics
from shared.records import Ending

_log = logs.get_logger(__name__)


def tell(ending: Ending, model: str | None) -> None:
    """Once for each end. A hand-over to a builder is a line too: the message's turn ended with it."""
    metrics.message_ended(ending, model)
    last = events.decode(ending.events[-1])
    if not isinstance(last, events.Finalized):
        return
    line: dict[str, Any] = {"status": ending.status.value, "code": _code(ending), "model": model}
    line["attempt"] = events.peek(ending.events[-1])[1].attempt
    if last.timing is not None:
        line |= {"queued_ms": last.timing.queued_ms, "first_token_ms": last.timing.first_token_ms}
        line["total_ms"] = last.timing.total_ms
    if last.usage is not None:
        line |= {"prompt_tokens": last.usage.prompt_tokens, "completion_tokens": last.usage.completion_tokens}
    told = {name: value for name, value in line.items() if value is not None}
    with log_context.about(message_id=ending.message_id, project_id=ending.project_id):
        _log.info("message ended", **told)


def _code(ending: Ending) -> str | None:
    for payload in ending.events[:-1]:
        if events.peek(payload)[0] == "error":
            event = events.decode(payload)
            return event.code if isinstance(event, events.Error) else None
    return None
