"""Every Redis name. Public: dashboards tail them.

The braces keep a message's log and its channel in one slot of a Redis Cluster.
"""

from __future__ import annotations

from uuid import UUID

CONTROL = "chatrelay:control"
"""Channel between the processes: ``{type: cancel, messageId}``, ``{type: withdraw, projectId, userId?}`` or
``{type: withdraw, tokenSha256}``."""

OPS = "chatrelay:ops"
"""Channel: the lifecycle of everything, never users' text."""

LOG_FIELD = "e"
"""The field of a log's stream entry that holds the event's JSON."""


RATES = "chatrelay:rate"
"""What keys begin with that count requests: ``chatrelay:rate:…``; they expire within two minutes."""


def log(message_id: UUID | str) -> str:
    """Stream; entry id = event id."""
    return f"chatrelay:log:{{{message_id}}}"


def message_channel(message_id: UUID | str) -> str:
    """Channel: one JSON a message's event, the same bytes as in the log."""
    return f"chatrelay:message:{{{message_id}}}"


def project_channel(project_id: UUID | str) -> str:
    """Channel: lifecycle events of a project's messages (all but deltas), ``message``, ``document``, ``job``."""
    return f"chatrelay:project:{{{project_id}}}"


INTERACTIVE_QUEUE = "chatrelay.interactive"
"""Celery queue: messages that somebody waits for."""

BATCH_QUEUE = "chatrelay.batch"
"""Celery queue: reprocessing, below the interactive one."""

BUILDS_QUEUE = "chatrelay.builds"
"""Celery queue: component builds."""
