"""Component jobs: listed, read, and what was built of them."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from flask import Response, request

from api.calls import Access, Answer, Calls
from api.pages import Page, PageQuery
from api.services import Services
from shared import errors
from shared.records import Job, Principal

calls = Calls()

TSX: Final = "text/plain"
JAVASCRIPT: Final = "text/javascript"


@calls.add(
    "GET",
    "/v1/projects/{projectId}/jobs",
    query=PageQuery,
    answers={200: Page[Job]},
    refusals=(errors.NotFound,),
)
def list_jobs(services: Services, *, principal: Principal, project_id: UUID, query: PageQuery) -> Answer:
    """The component jobs of a project, newest first."""
    items, cursor = services.store.jobs(principal, project_id, limit=query.limit, before=query.before)
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


@calls.add("GET", "/v1/jobs/{jobId}", answers={200: Job}, refusals=(errors.NotFound,))
def get_job(services: Services, *, principal: Principal, job_id: UUID) -> Answer:
    """One component job."""
    return Answer(status=200, body=services.store.job(principal, job_id))


@calls.add(
    "GET",
    "/v1/jobs/{jobId}/source",
    answers={200: str},
    media_type=TSX,
    refusals=(errors.NotFound, errors.NotBuilt),
)
def get_job_source(services: Services, *, principal: Principal, job_id: UUID) -> Response:
    """The component as it was written, in TSX; the entity tag is its SHA-256."""
    source, sha256 = services.store.job_source(principal, job_id)
    return _text(source, sha256, TSX)


@calls.add(
    "GET",
    "/v1/jobs/{jobId}/bundle.js",
    access=Access.TOKEN_OR_TICKET,
    any_origin=True,
    answers={200: str},
    media_type=JAVASCRIPT,
    refusals=(errors.NotFound, errors.NotBuilt),
)
def get_job_bundle(services: Services, *, principal: Principal, job_id: UUID) -> Response:
    """The built component: an ES module that imports `react`, `react/jsx-runtime` and `remotion`, to be run in a sandbox.

    Any origin may read it, a sandboxed frame's too: only a token or a ticket opens it. The entity tag is its SHA-256.
    """
    bundle, sha256 = services.store.job_bundle(principal, job_id)
    response = _text(bundle, sha256, JAVASCRIPT)
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _text(text: str, sha256: str, media_type: str) -> Response:
    response = Response(text, 200, mimetype=media_type)
    response.set_etag(sha256)
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response
