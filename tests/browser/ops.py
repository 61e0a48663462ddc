"""What tests of the operators' page have in hand: messages that end as they should, and the page on them."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched

expect.set_options(timeout=STEP_TIMEOUT_MS)

REFUSED = {"status": 401, "error": {"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}}
SECRET = "a word that no operator may read"


def enter(watched: Watched, operator: Site, fragment: str = "") -> Page:
    """Opens the operators' page, signed in; back once it is live. `globalThis.live` is what it keeps."""
    watched.page.goto(f"{watched.origin}/ops#token={operator.token}&{fragment}")
    expect(connection(watched.page)).to_have_text("Live")
    watched.page.evaluate("async () => { globalThis.live = (await import('/static/ops/state.js')).live; }")
    return watched.page


def go(page: Page, fragment: str) -> None:
    """Shows another part of the page."""
    page.evaluate("(fragment) => { location.hash = fragment; }", fragment)


def connection(page: Page) -> Locator:
    return page.locator("[data-connection]")


def panel(page: Page, title: str) -> Locator:
    return page.locator(f'[data-panel="{title}"]')


def project_of(site: Site) -> str:
    return str(site.call("POST", "/v1/projects", {"name": "Quay"})["id"])


def ask(site: Site, project: str, text: str, **more: object) -> str:
    """Submits a message; the id of its answer, which may be unfinished."""
    path = f"/v1/projects/{project}/messages"
    pair = site.call("POST", path, {"content": f"{text}: {SECRET}", "onBusy": "parallel", **more})
    return str(pair["assistantMessage"]["id"])


def answered(site: Site, project: str, text: str = "Say something") -> dict[str, Any]:
    """A message and its answer's row, once that is final."""
    path = f"/v1/projects/{project}/messages"
    body = {"content": f"{text}: {SECRET}", "onBusy": "parallel"}
    row: dict[str, Any] = site.call("POST", path, body, Prefer="wait=20")["assistantMessage"]
    return row


def stumbling(site: Site, word: str = "stumble") -> None:
    """From now on the provider refuses what contains the word."""
    site.model.on(word, {"rounds": [{"attempts": [REFUSED]}]})


def failed(site: Site, project: str) -> str:
    """The id of an answer that failed as `provider_auth`."""
    row = answered(site, project, "stumble")
    assert row["error"]["code"] == "provider_auth"
    return str(row["id"])
