"""Component jobs over HTTP: what was asked for, what became of it, and the module that a preview loads."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any
from uuid import UUID

import pytest

from shared.events import EventId
from shared.lifecycle import ErrorCode
from shared.outcomes import Failed, Outcome, Succeeded
from shared.store import Built
from tests.integration.api_parts import Api, Person, answered, job_made, refused

SOURCE = "export default () => <div />; // ünï\n"
BUNDLE = 'import { jsx } from "react/jsx-runtime"; // ünï\nexport default () => jsx("div", {});\n'


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


BUILT = Built(source=SOURCE, source_sha256=sha256(SOURCE), bundle=BUNDLE, bundle_sha256=sha256(BUNDLE))


def end(api: Api, message_id: str, outcome: Outcome, built: Built | None = None) -> None:
    """As a builder does."""
    claim = api.store.claim_build(UUID(message_id), "test", lease_s=60, max_tries=3)
    assert claim is not None
    api.store.finalize(
        claim.lease,
        outcome,
        first=EventId(claim.lease.attempt, 2),
        usage=None,
        first_token_ms=None,
        built=built,
    )


def built(api: Api, person: Person, project_id: str) -> str:
    job_id, message_id = job_made(api, person, project_id)
    end(api, message_id, Succeeded(content="I build it."), BUILT)
    return job_id


def test_a_job_shows_what_was_asked_for_and_how_far_it_is(api: Api) -> None:
    anna = api.person()
    project_id = anna.project()["id"]
    job_id, message_id = job_made(api, anna, project_id)
    job: dict[str, Any] = answered(anna.get(f"/v1/jobs/{job_id}"), 200)
    assert job.pop("createdAt").endswith("Z")
    assert job.pop("updatedAt").endswith("Z")
    assert job == {
        "id": job_id,
        "projectId": project_id,
        "messageId": message_id,
        "name": "Ball",
        "effectDescription": "a ball",
        "status": "pending",
        "phase": None,
        "tries": 0,
        "error": None,
    }
    message = answered(anna.get(f"/v1/messages/{message_id}"), 200)
    assert (message["status"], message["jobId"]) == ("building", job_id)
    assert message["toolCalls"][0]["jobId"] == job_id


def test_the_jobs_of_a_project_come_in_pages_newest_first(api: Api) -> None:
    anna = api.person()
    project_id = anna.project()["id"]
    made = [job_made(api, anna, project_id)[0] for _ in range(3)]
    first = answered(anna.get(f"/v1/projects/{project_id}/jobs?limit=2"), 200)
    assert [job["id"] for job in first["items"]] == [made[2], made[1]]
    rest = answered(anna.get(f"/v1/projects/{project_id}/jobs?limit=2&before={first['nextCursor']}"), 200)
    assert ([job["id"] for job in rest["items"]], rest["nextCursor"]) == ([made[0]], None)


@pytest.mark.parametrize("what", ["source", "bundle.js"])
def test_before_it_is_built_there_is_nothing_to_load(api: Api, what: str) -> None:
    """409 `not_built` while it waits, and after it failed."""
    anna = api.person()
    job_id, message_id = job_made(api, anna, anna.project()["id"])
    refused(anna.get(f"/v1/jobs/{job_id}/{what}"), 409, "not_built")
    end(api, message_id, Failed(content="I build it.", code=ErrorCode.BUILD_FAILED, reason="2:3: no"))
    refused(anna.get(f"/v1/jobs/{job_id}/{what}"), 409, "not_built")
    assert answered(anna.get(f"/v1/jobs/{job_id}"), 200)["error"] == "2:3: no"


def test_a_built_component_is_served_as_it_was_written_and_as_a_module(api: Api) -> None:
    anna = api.person()
    job_id = built(api, anna, anna.project()["id"])
    source = anna.get(f"/v1/jobs/{job_id}/source")
    assert (source.status_code, source.content_type, source.text) == (200, "text/plain; charset=utf-8", SOURCE)
    bundle = anna.get(f"/v1/jobs/{job_id}/bundle.js")
    assert (bundle.status_code, bundle.content_type, bundle.text) == (200, "text/javascript; charset=utf-8", BUNDLE)
    assert bundle.headers["ETag"] == f'"{sha256(BUNDLE)}"'
    assert bundle.headers["X-Content-Type-Options"] == "nosniff"
    again = anna.get(f"/v1/jobs/{job_id}/bundle.js", headers={"If-None-Match": bundle.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("origin", ["null", "https://somewhere.example"])
def test_a_sandboxed_frame_loads_the_module_by_a_ticket(api: Api, origin: str) -> None:
    """Its origin is `null`; the ticket is good again and again, on this address alone."""
    anna = api.person()
    project_id = anna.project()["id"]
    path = f"/v1/jobs/{built(api, anna, project_id)}/bundle.js"
    ticket = answered(anna.post("/v1/tickets", {"path": path}), 201)["ticket"]
    for _ in range(2):
        loaded = api.nobody().get(f"{path}?ticket={ticket}", headers={"Origin": origin})
        assert (loaded.status_code, loaded.text) == (200, BUNDLE)
        assert loaded.headers["Access-Control-Allow-Origin"] == "*"
    other = f"/v1/jobs/{built(api, anna, project_id)}/bundle.js"
    refused(api.nobody().get(f"{other}?ticket={ticket}"), 401, "unauthorized")
    refused(api.nobody().get(path, headers={"Origin": origin}), 401, "unauthorized")


def test_no_other_address_is_open_to_foreign_pages(api: Api) -> None:
    anna = api.person()
    job_id = built(api, anna, anna.project()["id"])
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/source"):
        refused(anna.get(path, headers={"Origin": "null"}), 403, "foreign_origin")


def test_a_ticket_for_a_job_that_is_not_ones_own_is_refused(api: Api) -> None:
    anna, eve = api.person(), api.person()
    job_id = built(api, anna, anna.project()["id"])
    refused(eve.post("/v1/tickets", {"path": f"/v1/jobs/{job_id}/bundle.js"}), 404, "not_found")
    refused(eve.post("/v1/tickets", {"path": f"/v1/jobs/{uuid.uuid4()}/bundle.js"}), 404, "not_found")
    refused(eve.post("/v1/tickets", {"path": "/v1/jobs/x/bundle.js"}), 404, "not_found")


def test_a_build_is_cancelled_and_retried_over_http(api: Api) -> None:
    """Before a builder took it the API ends it; the retry is the same job again."""
    anna = api.person()
    job_id, message_id = job_made(api, anna, anna.project()["id"])
    assert answered(anna.post(f"/v1/messages/{message_id}/cancel"), 202)["status"] == "cancelled"
    assert answered(anna.get(f"/v1/jobs/{job_id}"), 200)["status"] == "cancelled"
    again = answered(anna.post(f"/v1/messages/{message_id}/retry"), 202)
    assert (again["status"], again["jobId"]) == ("building", job_id)
    assert answered(anna.get(f"/v1/jobs/{job_id}"), 200)["status"] == "pending"


def test_the_openapi_document_has_the_jobs(api: Api) -> None:
    document = json.loads(api.nobody().get("/openapi.json").text)
    assert "409" in document["paths"]["/v1/jobs/{jobId}/bundle.js"]["get"]["responses"]


# --- previews ---------------------------------------------------------------------------------------------------


def test_a_preview_s_frame_may_load_its_own_modules_and_components_alone(api: Api) -> None:
    anna = api.person()
    project_id = anna.project(template="video")["id"]
    job_id = built(api, anna, project_id)
    elsewhere = built(api, anna, anna.project()["id"])
    scenes = [
        {"id": f"s{index}", "type": "custom", "start": 12, "duration": 1, "data": {"componentId": component}}
        for index, component in enumerate((job_id, elsewhere, "x", str(uuid.uuid4())))
    ]
    patch = [{"op": "add", "path": "/scenes/-", "value": scene} for scene in scenes]
    answered(anna.patch(f"/v1/projects/{project_id}/document", patch, media_type="application/json-patch+json"), 200)
    for path in (f"/v1/projects/{project_id}/preview", f"/v1/jobs/{job_id}/preview"):
        ticket = answered(anna.post("/v1/tickets", {"path": path}), 201)["ticket"]
        frame = api.nobody().get(f"{path}?ticket={ticket}")
        assert (frame.status_code, frame.mimetype) == (200, "text/html")
        directives = {part.split()[0]: part.split()[1:] for part in frame.headers["Content-Security-Policy"].split(";")}
        assert directives["sandbox"] == ["allow-scripts"]
        assert directives["default-src"] == directives["connect-src"] == ["'none'"]
        assert directives["script-src"][1:] == [
            f"http://localhost{it}"
            for it in ("/static/vendor/react.js", "/static/preview/", f"/v1/jobs/{job_id}/bundle.js")
        ]
        assert elsewhere not in frame.text
        url = frame.text.split('"url":"')[1].split('"')[0]
        assert api.nobody().get(url, headers={"Origin": "null"}).text == BUNDLE
        refused(api.nobody().get(f"{path}?ticket={url.split('=')[1]}"), 401, "unauthorized")
    refused(api.person().post("/v1/tickets", {"path": path}), 404, "not_found")


def test_only_modules_of_frames_are_open_to_other_origins(api: Api) -> None:
    for path in ("/static/preview/main.js", "/static/vendor/react.js"):
        assert api.nobody().get(path).headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in api.nobody().get("/static/app/main.js").headers
