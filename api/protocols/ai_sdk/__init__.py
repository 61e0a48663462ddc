"""The Vercel AI SDK (`ai`, `@ai-sdk/react`), versions 6 and 7, at ``/v1/ai/chat/{projectId}``.

`chunks` has the UI message stream's parts, `telling` puts a message's events into them (both pure), `asking` does what a
client asks for, over the same rows as every other route; `http` and `socket` are the two ways to ask.
"""

from __future__ import annotations

from api.protocols.ai_sdk.http import calls

__all__ = ["calls"]
