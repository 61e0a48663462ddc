"""Browsers: whose pages may call, what an answer lets a page do, and CORS for the origins that the settings allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flask import Flask, Response, request

from api import access_log, auth
from api.calls import Access, Call
from api.security_headers import HSTS, SECURITY_HEADERS
from shared.settings import Settings

_CORS_ALLOWED: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, PUT, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, Prefer, Traceparent, Tracestate, Trpc-Accept,"
        " OpenAI-Organization, OpenAI-Project, X-Request-Id, X-Stainless-Arch, X-Stainless-Helper-Method, X-Stainless-Lang,"
        " X-Stainless-OS, X-Stainless-Package-Version, X-Stainless-Retry-Count, X-Stainless-Runtime,"
        " X-Stainless-Runtime-Version, X-Stainless-Timeout"
    ),
    "Access-Control-Max-Age": "600",
}
_MODULES_OF_FRAMES: Final = ("/static/preview/", "/static/vendor/react.js")
"""What a preview's frame, whose origin is opaque, imports."""
_CORS_EXPOSED: Final = "ETag, Location, Preference-Applied, Retry-After, X-Request-Id, X-Should-Retry"


def install(app: Flask, settings: Settings, calls: Iterable[Call]) -> None:
    """Refuse foreign origins where calls are that not everybody may make, before anything else; put headers on answers."""
    calls = list(calls)
    guarded = frozenset(_first_segment(call.path) for call in calls if call.access is not Access.ANYBODY)
    any_origin = frozenset(call.name for call in calls if call.any_origin)

    @app.before_request
    def check_origin() -> Response | None:
        if _first_segment(request.path) not in guarded or request.endpoint in any_origin:
            return None
        origin = request.headers.get("Origin")
        auth.check_origin(origin, scheme=request.scheme, host=request.host, allowed=settings.allowed_origins)
        if request.method == "OPTIONS" and origin is not None and "Access-Control-Request-Method" in request.headers:
            return Response(status=204, headers=_CORS_ALLOWED)
        return None

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in headers(settings).items():
            if name == "Vary":
                response.vary.add(value)
            else:
                response.headers.setdefault(name, value)  # a frame's own policy stands
        if request.endpoint in any_origin or request.path.startswith(_MODULES_OF_FRAMES):
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1]


def headers(settings: Settings) -> dict[str, str]:
    """What every answer to the present request carries."""
    by_tls = dict([HSTS]) if request.scheme == "https" else {}
    return {**SECURITY_HEADERS, **by_tls, access_log.REQUEST_ID_HEADER: access_log.request_id(), **_cors(settings)}


def _cors(settings: Settings) -> dict[str, str]:
    """What lets the page of an allowed origin read this answer."""
    if not settings.allowed_origins:
        return {}
    origin = request.headers.get("Origin")
    if origin is None or origin not in settings.allowed_origins:
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _CORS_EXPOSED,
    }
