"""tRPC 11 at ``/trpc``, for `wsLink`, `httpSubscriptionLink`, `httpLink`, `httpBatchLink` and `httpBatchStreamLink`.

`envelopes` has the bytes, `errors` the shapes of refusals, `telling` the events (all three pure), `procedures` what can be
called, `socket` and `http` the two ways to call it. The router's TypeScript types are in `api/static/clients/trpc.d.ts`.
"""

from __future__ import annotations

from api.protocols.trpc.http import calls

__all__ = ["calls"]
