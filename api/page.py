"""The pages at ``/`` and ``/ops``, and what they ask of the server before anybody has signed in."""

from __future__ import annotations

from importlib.metadata import version

import msgspec
from flask import Response, current_app

from api.calls import Access, Answer, Calls
from api.services import Services

calls = Calls()


class PageFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    model: str
    """The default one."""
    models: tuple[str, ...]
    scripted_model: bool
    """Answers come from a script, not from a model."""
    version: str


@calls.add("GET", "/", access=Access.ANYBODY, media_type="text/html", answers={200: str})
def page(services: Services) -> Response:
    """The page."""
    return current_app.send_static_file("index.html")


@calls.add("GET", "/ops", access=Access.ANYBODY, media_type="text/html", answers={200: str})
def operators_page(services: Services) -> Response:
    """The page of operators. What it shows needs a token with the scope `ops`."""
    return current_app.send_static_file("ops.html")


@calls.add("GET", "/page.json", access=Access.ANYBODY, answers={200: PageFacts})
def page_facts(services: Services) -> Answer:
    """What the page shows before anybody has signed in."""
    settings = services.settings
    facts = PageFacts(
        model=settings.models[0],
        models=settings.models,
        scripted_model=settings.scripted_model,
        version=version("chatrelay"),
    )
    return Answer(status=200, body=facts)
