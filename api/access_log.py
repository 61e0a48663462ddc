"""One log line and one span for each request: its method, route, status and time, and never its address, query or body."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from typing import Any, Final

from flask import Flask, request

from shared import log_context, logs, traces

REQUEST_ID_HEADER: Final = "X-Request-Id"
_ROUTE: Final = "chatrelay.route"
"""Where a request's environment has its endpoint's name and its address with names for what varies."""
_log = logs.get_logger(__name__)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNREMARKABLE: Final = frozenset({"healthz", "readyz", "get_metrics", "static"})
"""Endpoints whose requests are lines for debugging, unless they fail, and no spans."""


def install(app: Flask) -> None:
    """To be called before anything else is asked of a request."""
    inner = app.wsgi_app

    @app.before_request
    def remember_route() -> None:
        if request.url_rule is not None:
            request.environ[_ROUTE] = request.endpoint, request.url_rule.rule

    def told(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        given = log_context.sane_request_id(environ.get("HTTP_X_REQUEST_ID"))
        with log_context.about(request_id=given or str(uuid.uuid4())):
            return _told(inner, environ, start_response)

    app.wsgi_app = told  # type: ignore[method-assign]  # as Flask's documentation has it


def request_id() -> str:
    """The present request's; empty outside one."""
    return str(log_context.facts().get(log_context.REQUEST_ID, ""))


def _told(inner: Any, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    began = time.monotonic()
    method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in _METHODS else "other"
    answered: list[int] = []
    taken: StopIteration | None = None
    answer: Iterable[bytes] = ()

    def remember(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        answered[:] = [int(status.split(" ", 1)[0])]
        return start_response(status, headers, *more)

    with traces.request(method, _trace_headers(environ)) as span:
        try:
            answer = inner(environ, remember)
        except StopIteration as error:  # gunicorn's word for a connection that was taken: others answer on it
            taken = error
        endpoint, route = environ.get(_ROUTE, (None, None))
        status = answered[0] if answered else None
        if taken is not None and "HTTP_UPGRADE" in environ:
            status = 101
        span.name(f"{method} {route or 'no route'}")
        span.note({"http.route": route, "http.response.status_code": status, "chatrelay.request.id": request_id()})
        if status is not None and status >= 500:
            span.failed(str(status))
        fields: dict[str, Any] = {"method": method, "route": route, "status": status}
        if taken is not None:
            fields["handed_over"] = True
        unremarkable = endpoint in _UNREMARKABLE and (status is None or status < 500)
        level = logging.DEBUG if unremarkable else logging.INFO
        _log.log(level, "request", **fields, ms=round((time.monotonic() - began) * 1000, 1))
    if taken is not None:
        raise taken
    return answer


def _trace_headers(environ: dict[str, Any]) -> dict[str, str]:
    names = ("traceparent", "tracestate")
    return {name: value for name in names if (value := environ.get(f"HTTP_{name.upper()}"))}
