"""Every state of the page passes axe-core, in both themes, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site, Watched
from tests.stack import Stack

CODE: Final = """\
```js
// a word about it
export function greet(name = "sea", times = 3) { return `<b>${name}</b>`.repeat(times) !== null; }
```
"""


def test_a_first_page(
    watch: Callable[..., Watched], site: Site, look: dict[str, Any], check: Callable[[Page, str], None]
) -> None:
    page = watch(site.origin, **look).page
    page.goto(f"{site.origin}/#token={site.token}")
    expect(page.locator("button.suggestion")).to_have_count(5)
    check(page, "no project yet")


def enter(watch: Callable[..., Watched], site: Site, look: dict[str, Any]) -> Page:
    project = site.call("POST", "/v1/projects", {"name": "Harbour", "template": "video"})
    watched = watch(site.origin, **look)
    watched.page.goto(f"{site.origin}/#token={site.token}&project={project['id']}")
    expect(watched.page.locator("[data-version]")).to_be_attached()
    return watched.page


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def show(page: Page, pane: str) -> None:
    page.locator("main").get_by_role("button", name=re.compile(f"^{pane}")).first.click()


def test_signing_in(
    watch: Callable[..., Watched], site: Site, look: dict[str, Any], check: Callable[[Page, str], None]
) -> None:
    page = watch(site.origin, **look).page
    page.goto(site.origin)
    expect(page.get_by_role("heading")).to_be_visible()
    check(page, "signing in")


def test_a_conversation_and_what_stands_beside_it(
    watch: Callable[..., Watched], site: Site, look: dict[str, Any], check: Callable[[Page, str], None]
) -> None:
    page = enter(watch, site, look)
    expect(page.locator("button.suggestion").first).to_be_visible()
    check(page, "an empty project")
    site.model.say(
        "half a word", {"text": f"# A heading\n\n{CODE}\nHalf a "}, {"hold": "middle"}, {"text": "word, `code`.\n"}
    )
    ask(page, "Give me half a word")
    expect(page.locator("li.assistant .markdown")).to_contain_text("Half a")
    expect(page.locator(".hljs-title").first).to_be_visible()
    check(page, "a streaming answer")
    page.get_by_role("textbox", name="Message").fill("Make the background dark blue")
    expect(page.get_by_text("Wait in line")).to_be_visible()
    check(page, "a message that is written while another is unfinished")
    page.keyboard.press("Enter")
    expect(page.locator("li.assistant")).to_have_count(2)
    check(page, "a waiting answer")
    site.model.release("middle")
    expect(page.locator('li.assistant[data-status="success"]')).to_have_count(2)
    page.locator(".tool-call summary").click()
    expect(page.locator(".changes ins")).to_be_visible()
    check(page, "a tool call unfolded")
    refused = {"status": 401, "error": {"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}}
    site.model.on("stumble", {"rounds": [{"attempts": [refused]}]})
    ask(page, "stumble")
    expect(page.locator('[data-outcome="error"]')).to_be_visible()
    check(page, "a failed answer")
    show(page, "Document")
    expect(page.locator('[data-pointer="/meta/title"]')).to_be_visible()
    check(page, "the document")
    show(page, "History")
    page.locator(".version summary").first.click()
    check(page, "the history")
    show(page, "Preview")
    expect(page.locator(".player")).to_be_visible()
    check(page, "the preview")


@pytest.mark.parametrize("name", ["Members", "Settings"])
def test_a_dialog(
    watch: Callable[..., Watched],
    site: Site,
    look: dict[str, Any],
    check: Callable[[Page, str], None],
    shared_stack: Stack,
    name: str,
) -> None:
    page = enter(watch, site, look)
    page.get_by_role("button", name=name).click()
    expect(page.locator("dialog[open]")).to_be_visible()
    check(page, name)


def test_the_keys(
    watch: Callable[..., Watched], site: Site, look: dict[str, Any], check: Callable[[Page, str], None]
) -> None:
    page = enter(watch, site, look)
    page.get_by_role("textbox", name="Message").blur()
    page.keyboard.press("?")
    for group in ("In the chat", "In the document"):
        expect(page.get_by_role("dialog", name="Keys").get_by_role("heading", name=group)).to_be_visible()
    check(page, "the keys")
