"""Everybody who has a project open sees the same at once, each over one socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site, Watched
from tests.stack import Stack

HALVES = ("The tide comes in ", "and goes out again.")


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Harbour", "template": "video"})
    return made


@pytest.fixture
def guest(site: Site, shared_stack: Stack, project: dict[str, Any]) -> Site:
    """Another person, who may edit the project."""
    name = f"guest-{uuid4()}"
    token, _ = shared_stack.store.create_token(name)
    site.call("PUT", f"/v1/projects/{project['id']}/members/{name}", {"role": "editor"})
    return Site(shared_stack.urls[-1], token, shared_stack.model)


def enter(watch: Callable[..., Watched], site: Site, project: dict[str, Any]) -> Page:
    """The page of somebody who has the project open, on that person's web process."""
    watched = watch(site.origin)
    watched.page.goto(f"{site.origin}/#token={site.token}&project={project['id']}")
    expect(watched.page.locator("[data-version]")).to_be_attached()
    return watched.page


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def test_two_people_see_each_others_messages_while_they_stream(
    watch: Callable[..., Watched], site: Site, guest: Site, project: dict[str, Any]
) -> None:
    site.model.say("the tide", {"text": HALVES[0]}, {"hold": "tide"}, {"text": HALVES[1]})
    mine, theirs = enter(watch, site, project), enter(watch, guest, project)
    ask(mine, "Tell of the tide")
    for page in (mine, theirs):
        expect(page.locator("li.user .bubble")).to_have_text("Tell of the tide")
        expect(page.locator("li.assistant .markdown")).to_have_text(HALVES[0].strip())
    site.model.release("tide")
    for page in (mine, theirs):
        expect(page.locator("li.assistant")).to_have_attribute("data-status", "success")
        expect(page.locator("li.assistant .markdown")).to_have_text("".join(HALVES))
    assert mine.locator("li.message").count() == 2


def test_two_tabs_of_one_person_show_the_same_and_either_may_stop_it(
    watch: Callable[..., Watched], site: Site, project: dict[str, Any]
) -> None:
    """The second tab is of the same browser: it shares the storage, and has drafts and a socket of its own."""
    site.model.say("the tide", {"text": HALVES[0]}, {"hold": "tide"}, {"text": HALVES[1]})
    first = enter(watch, site, project)
    second = first.context.new_page()
    second.goto(f"{site.origin}/#project={project['id']}")
    expect(second.locator("[data-version]")).to_be_attached()
    first.get_by_role("textbox", name="Message").fill("Tell of the tide")
    expect(second.get_by_role("textbox", name="Message")).to_have_value("")
    first.keyboard.press("Enter")
    for tab in (first, second):
        expect(tab.locator("li.user .bubble")).to_have_text("Tell of the tide")
        expect(tab.locator("li.assistant .markdown")).to_have_text(HALVES[0].strip())
    second.get_by_role("button", name="Stop", exact=True).click()
    for tab in (first, second):
        expect(tab.locator("li.assistant")).to_have_attribute("data-status", "cancelled")
        expect(tab.locator("li.assistant .markdown")).to_have_text(HALVES[0].strip())
    site.model.release("tide")


def test_what_one_changes_the_other_sees(
    watch: Callable[..., Watched], site: Site, guest: Site, project: dict[str, Any]
) -> None:
    mine, theirs = enter(watch, site, project), enter(watch, guest, project)
    ask(theirs, "Make the background dark blue")
    for page in (mine, theirs):
        expect(page.locator('[data-pointer="/meta/backgroundColor"]')).to_have_attribute("data-lit", "changed")
        expect(page.locator("[data-version]")).to_have_attribute("data-version", "2")
    path = f"/v1/projects/{project['id']}/undo"
    site.call("POST", path)
    for page in (mine, theirs):
        expect(page.locator("[data-version]")).to_have_attribute("data-version", "3")


def test_a_tab_has_one_socket_however_much_is_unfinished(
    watch: Callable[..., Watched], site: Site, project: dict[str, Any]
) -> None:
    watched = watch(site.origin)
    sockets: list[str] = []
    watched.page.on("websocket", lambda socket: sockets.append(socket.url.partition("?")[0]))
    watched.page.goto(f"{site.origin}/#token={site.token}&project={project['id']}")
    expect(watched.page.locator("[data-version]")).to_be_attached()
    for word in ("one", "two", "three"):
        site.model.say(f"number {word}", {"text": f"{word} "}, {"hold": word}, {"text": "it is"})
        ask(watched.page, f"number {word}")
    for number, word in enumerate(("one", "two", "three")):
        answer = watched.page.locator("li.assistant").nth(number)
        expect(answer.locator(".markdown")).to_have_text(word)
        site.model.release(word)
        expect(answer.locator(".markdown")).to_have_text(f"{word} it is")
    assert [url.rpartition("/v1/")[2] for url in sockets] == [f"projects/{project['id']}/socket"]


def test_a_retry_of_one_person_is_seen_by_the_other(
    watch: Callable[..., Watched], site: Site, guest: Site, project: dict[str, Any]
) -> None:
    site.model.say("say when", {"text": "Once."})
    mine = enter(watch, site, project)
    ask(mine, "say when")
    expect(mine.locator("li.assistant")).to_have_attribute("data-status", "success")
    theirs = enter(watch, guest, project)
    expect(theirs.locator("li.assistant .markdown")).to_have_text("Once.")
    site.model.say("say when", {"text": "Twice."})
    message_id = mine.locator("li.assistant").get_attribute("data-message-id")
    guest.call("POST", f"/v1/messages/{message_id}/retry")
    for page in (mine, theirs):
        expect(page.locator("li.assistant .markdown")).to_have_text("Twice.")
        expect(page.locator("li.assistant")).to_have_attribute("data-status", "success")


def test_who_is_removed_is_told_and_leaves(
    watch: Callable[..., Watched], site: Site, guest: Site, project: dict[str, Any]
) -> None:
    theirs = enter(watch, guest, project)
    members = site.call("GET", f"/v1/projects/{project['id']}/members")["items"]
    name = next(member["user"] for member in members if member["role"] == "editor")
    site.call("DELETE", f"/v1/projects/{project['id']}/members/{name}")
    expect(theirs.get_by_role("alert")).to_contain_text("no longer a member of it")
    expect(theirs.get_by_role("heading", name="Harbour")).to_have_count(0)
