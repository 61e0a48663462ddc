"""A client of chatrelay: send a message, follow its answer without a gap or a doubled event, watch a project.

    async with Client(base_url, token) as client:
        submitted = await client.submit(project_id, "Hello")
        transcript = Transcript()
        async for event in client.follow(submitted.assistant_message.id):
            transcript = transcript.after(event)

`SyncClient` is the same for programs without an event loop.
"""

from chatrelay_client.backoff import backoff_s
from chatrelay_client.client import Client, Transport
from chatrelay_client.errors import ApiError, ChatrelayError, NoAnswer, StreamClosed
from chatrelay_client.events import (
    Complete,
    Delta,
    DocumentNotice,
    Error,
    EventId,
    Finalized,
    JobNotice,
    MessageNotice,
    ProjectEvent,
    Ready,
    Snapshot,
    Status,
    StreamEvent,
    ToolResult,
    ToolStart,
)
from chatrelay_client.rows import Message, MessageError, Page, Project, Submitted, Timing, ToolCall, Usage
from chatrelay_client.streams import Following, Watching
from chatrelay_client.sync import SyncClient
from chatrelay_client.transcript import Transcript, fold

__all__ = [
    "ApiError",
    "ChatrelayError",
    "Client",
    "Complete",
    "Delta",
    "DocumentNotice",
    "Error",
    "EventId",
    "Finalized",
    "Following",
    "JobNotice",
    "Message",
    "MessageError",
    "MessageNotice",
    "NoAnswer",
    "Page",
    "Project",
    "ProjectEvent",
    "Ready",
    "Snapshot",
    "Status",
    "StreamClosed",
    "StreamEvent",
    "Submitted",
    "SyncClient",
    "Timing",
    "ToolCall",
    "ToolResult",
    "ToolStart",
    "Transcript",
    "Transport",
    "Usage",
    "Watching",
    "backoff_s",
    "fold",
]
