"""OpenAI's API at ``/v1/openai``: the Responses protocol with background mode, and chat completions for plainer clients.

`asked` reads what clients send, `objects` has the shapes of what they are shown, `numbers` the sequence numbers, `story`
what becomes of a text that is replaced, `telling` the events (all five pure); `refusals` has the shape of errors, `http` the
calls.
"""

from __future__ import annotations

from api.protocols.openai.http import calls

__all__ = ["calls"]
