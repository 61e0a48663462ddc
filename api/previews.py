"""The sandboxed frames in which built components run: documents that may load nothing but what stands in their policy.

A component is a stranger's program. Its frame has an opaque origin (the policy's ``sandbox``, and the ``iframe``'s), so that
it reads nothing of the page's; it may import React, our own modules and the components of this very frame, each by its path,
and nothing else may be requested from it. There is no nonce: a dynamic import would inherit it. Trusted types keep a
component from writing markup, and so from making a realm of its own in which `api/static/preview/lockdown.js` has not run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from flask import Response, request

from api.auth import Caller
from api.calls import Access, Calls
from api.requests import path_id
from api.services import Services
from shared import errors
from shared.records import Job, JsonValue

calls = Calls()

HTML: Final = "text/html"
MOST_COMPONENTS: Final = 32
"""In one frame; those of a document beyond it are shown as placeholders."""

_REACT: Final = "/static/vendor/react.js"
_MODULES: Final = "/static/preview/"
_RUNTIME: Final = f"{_MODULES}main.js"
_IMPORT_MAP: Final = (
    msgspec.json.encode(
        {"imports": {"react": _REACT, "react/jsx-runtime": _REACT, "remotion": f"{_MODULES}remotion.js"}}
    )
).decode()
_IMPORT_MAP_SHA256: Final = base64.b64encode(hashlib.sha256(_IMPORT_MAP.encode()).digest()).decode()
_HOST: Final = re.compile(r"[A-Za-z0-9._\-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")


@calls.add(
    "GET",
    "/v1/jobs/{jobId}/preview",
    access=Access.TOKEN_OR_TICKET,
    answers={200: str},
    media_type=HTML,
    refusals=(errors.NotFound, errors.NotBuilt),
)
def preview_job(services: Services, *, principal: Caller, job_id: UUID) -> Response:
    """A frame that shows one built component, for an `iframe` with `sandbox="allow-scripts"`.

    It is told what to show by messages from the page around it.
    """
    job = services.store.job(principal, job_id)
    services.store.job_bundle(principal, job_id)
    return _frame(services, principal, [job])


@calls.add(
    "GET",
    "/v1/projects/{projectId}/preview",
    access=Access.TOKEN_OR_TICKET,
    answers={200: str},
    media_type=HTML,
    refusals=(errors.NotFound,),
)
def preview_project(services: Services, *, principal: Caller, project_id: UUID) -> Response:
    """A frame that shows the project's video, with the built components that its scenes name.

    It is told the document, and every change of it, by messages from the page around it; a component placed later needs a new
    frame.
    """
    document = services.store.project(principal, project_id).document
    named = placed_components(document)
    jobs = services.store.built_jobs(principal, project_id, named) if named else []
    return _frame(services, principal, jobs)


def placed_components(document: JsonValue) -> list[UUID]:
    """The first `MOST_COMPONENTS` components that the document's scenes name, each once. What is no video names none."""
    found: dict[UUID, None] = {}
    scenes = document.get("scenes") if isinstance(document, dict) else None
    for scene in scenes if isinstance(scenes, list) else ():
        if len(found) == MOST_COMPONENTS:
            break
        if isinstance(scene, dict) and scene.get("type") == "custom" and isinstance(scene.get("data"), dict):
            try:
                found[path_id(str(scene["data"].get("componentId")))] = None
            except errors.NotFound:
                continue
    return list(found)


def _frame(services: Services, principal: Caller, jobs: Sequence[Job]) -> Response:
    paths = [f"/v1/jobs/{job.id}/bundle.js" for job in jobs]
    tickets = services.store.create_stream_tickets(principal, principal.token_sha256, paths)
    components = [
        {"id": str(job.id), "name": job.name, "url": f"{path}?ticket={ticket}"}
        for job, path, ticket in zip(jobs, paths, tickets, strict=True)
    ]
    response = Response(_html(components), 200, mimetype=HTML)
    response.headers["Content-Security-Policy"] = _policy(paths)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-DNS-Prefetch-Control"] = "off"
    response.headers["Cache-Control"] = "no-store"
    return response


def _policy(paths: Sequence[str]) -> str:
    """Plain ``http`` sources match ``https`` too: where a proxy ends TLS we do not know which the browser sees."""
    if _HOST.fullmatch(request.host) is None:
        raise errors.NotFound
    origin = f"{request.scheme}://{request.host}"
    scripts = " ".join(origin + path for path in (_REACT, _MODULES, *paths))
    return (
        "sandbox allow-scripts; default-src 'none';"
        f" script-src 'sha256-{_IMPORT_MAP_SHA256}' {scripts};"
        " style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _html(components: list[dict[str, Any]]) -> str:
    # as data in a script element, where < could end it
    listed = msgspec.json.encode(components).decode().replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Preview</title>
<style>{_STYLE}</style>
<script type="importmap">{_IMPORT_MAP}</script>
<script type="application/json" id="components">{listed}</script>
<script type="module" src="{_RUNTIME}"></script>
</head>
<body><div id="stage"></div></body>
</html>
"""


_STYLE: Final = (
    "html,body{margin:0;height:100%;overflow:hidden;background:#000;font:16px/1.4 system-ui,sans-serif}"
    "#stage{position:absolute;left:50%;top:50%;transform-origin:0 0;overflow:hidden}"
)
