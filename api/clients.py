"""chatrelay's client for browsers and Node.js, at a stable address, and its types."""

from __future__ import annotations

from typing import Final

from flask import Response, current_app

from api.calls import Access, Calls
from api.jobs import JAVASCRIPT
from api.services import Services

calls = Calls()

_MODULE: Final = "clients/chatrelay.js"
_TYPES: Final = "clients/chatrelay.d.ts"


@calls.add("GET", f"/{_MODULE}", access=Access.ANYBODY, any_origin=True, media_type=JAVASCRIPT, answers={200: str})
def client_module(services: Services) -> Response:
    """chatrelay's client as an ES module, without dependencies. Pages of any origin may import it."""
    response = current_app.send_static_file(_MODULE)
    response.mimetype = JAVASCRIPT
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@calls.add("GET", f"/{_TYPES}", access=Access.ANYBODY, any_origin=True, media_type="text/plain", answers={200: str})
def client_types(services: Services) -> Response:
    """The client's types, for TypeScript."""
    response = current_app.send_static_file(_TYPES)
    response.mimetype = "text/plain"
    return response
