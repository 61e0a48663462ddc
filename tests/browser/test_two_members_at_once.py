"""Two members edit by hand and by assistant at once, at random: document, versions and both pages agree at the end."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import httpx
import jsonpatch
from playwright.sync_api import Page, expect

from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.stack import Stack

SEED: Final = int(os.environ.get("CHATRELAY_TEST_SEED", "20261124"))
ACTS: Final = int(os.environ.get("CHATRELAY_TEST_ACTS", "30"))
"""Of each member; 120 took 52 s in all, with the start of the servers."""
START: Final = {"notes": ["first"], "title": "Log"}
SHOWN: Final = """async () => {
    const state = await import("/static/app/state.js");
    return { version: state.documentVersion.value, document: state.documentValue.value };
}"""


class Member:
    """One person's hands: edits, undoes, asks. Keeps what was acknowledged."""

    def __init__(self, site: Site, project_id: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.name = f"member-{seed}"
        self.path = f"{site.origin}/v1/projects/{project_id}"
        self.headers = {"Authorization": f"Bearer {site.token}"}
        self.edits: list[int] = []
        """The versions that its own acts became."""
        self.asked: list[str] = []
        self.refused = 0
        self.failure: BaseException | None = None

    def act_often(self) -> None:
        try:
            with httpx.Client(headers=self.headers, timeout=STEP_TIMEOUT_MS / 1000) as client:
                for number in range(ACTS):
                    self._act(client, number)
        except BaseException as error:
            self.failure = error
            raise

    def _act(self, client: httpx.Client, number: int) -> None:
        kind = self.chance.choices(["edit", "undo", "redo", "ask"], [5, 2, 1, 3])[0]
        if kind == "ask":
            answer = client.post(f"{self.path}/messages", json={"content": "note that I asked", "onBusy": "parallel"})
            assert answer.status_code in (202, 429), answer.text
            if answer.status_code == 202:
                self.asked.append(answer.json()["assistantMessage"]["id"])
            return
        answer = self._edit(client, f"{self.name} {number}") if kind == "edit" else client.post(f"{self.path}/{kind}")
        assert answer.status_code in (200, 409, 412), answer.text
        if answer.status_code == 200:
            self.edits.append(answer.json()["version"])
        else:
            self.refused += 1

    def _edit(self, client: httpx.Client, text: str) -> httpx.Response:
        project = client.get(self.path).json()
        notes = project["document"]["notes"]
        at = self.chance.randrange(len(notes) + 1)
        operation = self.chance.choice(
            [
                {"op": "add", "path": f"/notes/{at}", "value": text},
                {"op": "remove", "path": f"/notes/{at}"},
                {"op": "replace", "path": "/title", "value": text},
                {"op": "move", "from": f"/notes/{at}", "path": "/notes/0"},
            ]
        )
        headers = {"Content-Type": "application/json-patch+json"}
        if self.chance.random() < 0.7:
            headers["If-Match"] = f'"{project["version"]}"'
        return client.patch(f"{self.path}/document", json=[operation], headers=headers)


def enter(watch: Callable[..., Watched], site: Site, project_id: str) -> Page:
    watched = watch(site.origin)
    watched.page.goto(f"{site.origin}/#token={site.token}&project={project_id}")
    expect(watched.page.locator("[data-version]")).to_be_attached()
    return watched.page


def all_versions(site: Site, project_id: str) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = []
    before = ""
    while True:
        page = site.call("GET", f"/v1/projects/{project_id}/versions?limit=100{before}")
        found += page["items"]
        if page["nextCursor"] is None:
            return found[::-1]
        before = f"&before={page['nextCursor']}"


def test_document_versions_and_both_pages_agree_at_the_end(
    watch: Callable[..., Watched], site: Site, shared_stack: Stack
) -> None:
    print(f"seed {SEED}")
    project_id = site.call("POST", "/v1/projects", {"name": "Log book", "document": START})["id"]
    name = f"guest-{uuid4()}"
    token, _ = shared_stack.store.create_token(name)
    site.call("PUT", f"/v1/projects/{project_id}/members/{name}", {"role": "editor"})
    guest = Site(shared_stack.urls[-1], token, shared_stack.model)
    noted = {"operations": [{"op": "add", "path": "/notes/-", "value": "noted"}]}
    call = {"tool": {"name": "applyJsonPatch", "arguments": noted}}
    site.model.on("note that I asked", {"rounds": [{"steps": [call]}] * 4 + [{"steps": [{"text": "Noted. "}]}]})
    pages = [enter(watch, site, project_id), enter(watch, guest, project_id)]
    members = [Member(site, project_id, SEED), Member(guest, project_id, SEED + 1)]
    threads = [threading.Thread(target=member.act_often, name=member.name) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [member.failure for member in members] == [None, None]
    asked = [message_id for member in members for message_id in member.asked]
    for page in pages:
        for message_id in asked:
            expect(page.locator(f'[data-message-id="{message_id}"]')).to_have_attribute("data-status", "success")

    versions = all_versions(site, project_id)
    assert [version["version"] for version in versions] == list(range(2, len(versions) + 2))
    documents = [START]
    for version in versions:
        documents.append(jsonpatch.apply_patch(documents[-1], version["operations"]))
        assert jsonpatch.apply_patch(documents[-1], version["inverse"]) == documents[-2]
    assert any("messageId" in version for version in versions), "no edit of the assistant came through"
    by_hand = [version["version"] for version in versions if version.get("messageId") is None]
    assert sorted(member_version for member in members for member_version in member.edits) == by_hand
    assert {version["messageId"] for version in versions if "messageId" in version} <= set(asked)
    project = site.call("GET", f"/v1/projects/{project_id}")
    assert project["document"] == documents[-1]
    for page in pages:
        expect(page.locator("[data-version]")).to_have_attribute("data-version", str(project["version"]))
        assert page.evaluate(SHOWN) == {"version": project["version"], "document": project["document"]}
    print(
        f"{len(by_hand)} by hand, {len(versions) - len(by_hand)} by assistant, {sum(m.refused for m in members)} refused"
    )
