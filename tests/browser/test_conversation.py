"""What a person does in a conversation works: on real processes, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.stack import Stack

expect.set_options(timeout=STEP_TIMEOUT_MS)


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Clip", "template": "video"})
    return made


@pytest.fixture
def page(site: Site, watch: Callable[..., Watched], project: dict[str, Any]) -> Page:
    page = watch(site.origin).page
    enter(page, site, site.token, project)
    return page


def enter(page: Page, site: Site, token: str, project: dict[str, Any]) -> None:
    page.goto(f"{site.origin}/#token={token}&project={project['id']}")
    expect(page.locator("[data-version]")).to_be_attached()


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def answers(page: Page) -> Locator:
    return page.locator("li.assistant")


def held(site: Site, page: Page) -> None:
    """One answer is being written, until "end" is released."""
    site.model.say("the first", {"text": "So far. "}, {"hold": "end"}, {"text": "So it ends."})
    ask(page, "the first")
    expect(answers(page).first.locator(".markdown")).to_have_text("So far.")


def test_who_waits_is_told_the_place_in_line(site: Site, page: Page) -> None:
    held(site, page)
    ask(page, "another")
    expect(answers(page)).to_have_count(2)
    ask(page, "a third")
    expect(answers(page).nth(1).locator(".progress-words")).to_have_text("Waiting, 2nd in line")
    expect(answers(page).nth(2).locator(".progress-words")).to_have_text("Waiting, 3rd in line")
    site.model.release("end")
    expect(page.locator('li.assistant[data-status="success"]')).to_have_count(3)


@pytest.mark.parametrize(("choice", "status"), [("At once", "pending"), ("Instead", "cancelled")])
def test_a_message_may_go_at_once_or_instead(site: Site, page: Page, choice: str, status: str) -> None:
    held(site, page)
    site.model.say("the second", {"text": "Here."})
    expect(page.get_by_text(choice, exact=True)).to_have_count(0)  # nothing is written yet that could go either way
    page.get_by_role("textbox", name="Message").fill("the second")
    page.get_by_text(choice, exact=True).click()
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(answers(page).last).to_have_attribute("data-status", "success")
    expect(answers(page).first).to_have_attribute("data-status", status)
    site.model.release("end")


def test_a_question_is_edited_and_asked_again_and_nothing_is_lost(site: Site, page: Page) -> None:
    site.model.say("colour", {"text": "Blue."})
    ask(page, "Which colour?")
    expect(answers(page).last).to_have_attribute("data-status", "success")
    field = page.get_by_role("textbox", name="Message")
    field.press("ArrowUp")
    expect(field).to_have_value("Which colour?")
    page.keyboard.press("Escape")
    expect(field).to_have_value("")
    page.locator("li.user").get_by_role("button", name="Edit and ask again").click()
    expect(field).to_be_focused()
    field.fill("Which other colour?")
    page.keyboard.press("Enter")
    expect(page.locator("li.user .bubble")).to_have_text(["Which colour?", "Which other colour?"])
    expect(page.locator('li.assistant[data-status="success"]')).to_have_count(2)


def test_a_tool_call_unfolds_to_what_it_changed(site: Site, page: Page) -> None:
    ask(page, "Make the background dark blue")
    expect(answers(page).last).to_have_attribute("data-status", "success")
    page.locator(".tool-call summary").click()
    expect(page.locator(".change-words")).to_have_text("Changed /meta/backgroundColor")
    expect(page.locator(".changes ins")).to_contain_text('"#1e3a8a"')
    expect(page.locator(".changes del")).not_to_be_empty()


def test_what_is_sent_in_a_row_is_stored_in_that_order(site: Site, page: Page) -> None:
    """However long the way of the first one is."""
    site.model.say("number", {"text": "Here."})
    slow: list[Route] = []
    sent: list[str] = []

    def on_request(route: Route) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        sent.append(json.loads(route.request.post_data or "")["content"])
        if len(sent) == 1:
            slow.append(route)
        else:
            route.continue_()

    page.route("**/v1/projects/*/messages", on_request)
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/messages")):
        ask(page, "number one")
    ask(page, "number two")
    expect(page.locator("li.user .bubble")).to_have_text(["number one", "number two"])
    slow[0].continue_()
    expect(page.locator('li.assistant[data-status="success"]')).to_have_count(2)
    expect(page.locator("li.user .bubble")).to_have_text(["number one", "number two"])
    assert sent == ["number one", "number two"]


def test_what_is_being_written_outlives_a_reload(page: Page) -> None:
    field = page.get_by_role("textbox", name="Message")
    field.fill("half a thought")
    page.reload()
    expect(field).to_have_value("half a thought")


def test_an_answer_is_copied_without_permission_and_it_is_said(site: Site, page: Page) -> None:
    site.model.say("a word", {"text": "**Word.**"})
    ask(page, "a word")
    expect(answers(page).last).to_have_attribute("data-status", "success")
    answers(page).get_by_role("button", name="Copy the answer").click()
    expect(page.get_by_role("status")).to_have_text("The answer is copied.")


def test_a_viewer_reads_and_is_told_why(
    site: Site, watch: Callable[..., Watched], project: dict[str, Any], shared_stack: Stack
) -> None:
    user = f"viewer-{project['id']}"
    token, _ = shared_stack.store.create_token(user)
    site.call("PUT", f"/v1/projects/{project['id']}/members/{user}", {"role": "viewer"})
    site.call("POST", f"/v1/projects/{project['id']}/messages", {"content": "Say hi"}, Prefer="wait=30")
    page = watch(site.origin).page
    enter(page, site, token, project)
    expect(page.get_by_text("You are a viewer here.")).to_be_visible()
    expect(page.locator(".author")).to_have_count(1)
    expect(page.locator(".message").get_by_role("button", name="Ask again")).to_have_count(0)
    expect(page.get_by_role("button", name="Send")).to_have_count(0)
