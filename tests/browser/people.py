"""People on one project: what a browser test needs to have two of them at it."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.browser.site import Site, Watched
from tests.stack import Stack

TAKE_DOCUMENT = """async (change) => {
    const { takeDocument } = await import("/static/app/actions/document.js");
    takeDocument(change);
}"""


class Colleague:
    """Another user, who works over HTTP."""

    def __init__(self, stack: Stack) -> None:
        self.name = f"colleague-{uuid4()}"
        token, _ = stack.store.create_token(self.name)
        self.site = Site(stack.urls[0], token, stack.model)

    def patch(self, project_id: str, *operations: dict[str, Any]) -> dict[str, Any]:
        """Changes the document; the project after it."""
        answer = httpx.patch(
            f"{self.site.origin}/v1/projects/{project_id}/document",
            headers={"Authorization": f"Bearer {self.site.token}", "Content-Type": "application/json-patch+json"},
            content=json.dumps(operations),
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        project: dict[str, Any] = answer.json()
        return project


def invite(site: Site, project_id: str, user: str, role: str = "editor") -> None:
    site.call("PUT", f"/v1/projects/{project_id}/members/{user}", {"role": role})


def enter(watched: Watched, site: Site, project: dict[str, Any]) -> Page:
    """Opens the project, signed in; its page, once the document is there."""
    watched.page.goto(f"{watched.origin}/#token={site.token}&project={project['id']}")
    expect(watched.page.get_by_role("heading", name=project["name"], exact=True)).to_be_visible()
    expect(watched.page.locator("[data-version]")).to_be_attached()
    return watched.page


def part(page: Page, pointer: str) -> Locator:
    """The part of the shown document at `pointer`."""
    return page.locator(f'[data-pointer="{pointer}"]')


def choose(page: Page, pointer: str) -> None:
    """Selects a part of the document."""
    part(page, pointer).locator(".row").first.click()


def document_of(site: Site, project: dict[str, Any]) -> Any:
    return site.call("GET", f"/v1/projects/{project['id']}")["document"]
