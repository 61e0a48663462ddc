"""Where the OpenAPI document is served, and a page on which to read it: no script, no other origin."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import msgspec
from flask import Flask, Response, render_template
from markupsafe import Markup, escape

from api import openapi
from api.calls import JSON, Call


def install(app: Flask, calls: Iterable[Call]) -> None:
    """Serve ``/openapi.json`` and ``/docs``; the document is made once, when it is first asked for."""

    @cache
    def document() -> openapi.Document:
        return openapi.document(calls)

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document())

    app.jinja_env.filters["marked"] = _marked

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        return Response(encoded(), mimetype=JSON)

    @app.get("/docs")
    def docs() -> str:
        return render_template("docs.html", document=document(), problems=openapi.problems())

    @app.get("/docs.css")
    def docs_css() -> Response:
        return Response(render_template("docs.css"), mimetype="text/css")


def _marked(text: str) -> Markup:
    """Markdown's code in backticks as HTML; everything else is text."""
    pieces = (
        Markup("<code>{}</code>").format(piece) if at % 2 else escape(piece) for at, piece in enumerate(text.split("`"))
    )
    return Markup("").join(pieces)
