"""What Prometheus scrapes: of all API processes of this gunicorn, and what the database says."""

from __future__ import annotations

from flask import Response

from api.calls import Access, Calls
from api.services import Services
from shared import exporter

calls = Calls()


@calls.add("GET", "/metrics", access=Access.ANYBODY, media_type="text/plain", answers={200: str})
def get_metrics(services: Services) -> Response:
    """Prometheus metrics in their text format. They hold no ids and no text of users."""
    return Response(services.exporter.scrape(), content_type=exporter.CONTENT_TYPE)
