"""The document's history on the page: who changed what, compared, looked back at, taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.people import TAKE_DOCUMENT, Colleague, choose, document_of, enter, invite, part
from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.stack import Stack

expect.set_options(timeout=STEP_TIMEOUT_MS)

DOCUMENT = {"title": "One", "count": 1}


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Log", "document": DOCUMENT})
    return made


@pytest.fixture
def colleague(shared_stack: Stack, site: Site, project: dict[str, Any]) -> Colleague:
    colleague = Colleague(shared_stack)
    invite(site, project["id"], colleague.name)
    return colleague


@pytest.fixture
def open_page(site: Site, watch: Callable[..., Watched], project: dict[str, Any]) -> Callable[[], Page]:
    def open_it() -> Page:
        watched = watch(site.origin)
        watched.allows_failed_loads = True
        return enter(watched, site, project)

    return open_it


def title(value: str) -> dict[str, Any]:
    return {"op": "replace", "path": "/title", "value": value}


def show(page: Page, pane: str) -> None:
    page.get_by_role("group", name="Beside the chat").get_by_role("button", name=pane, exact=True).click()


def version(page: Page, number: int) -> Locator:
    return page.locator(f'[data-of-version="{number}"]')


def walk(page: Page, way: str) -> None:
    page.get_by_role("button", name=way, exact=True).first.click()


def test_a_project_without_changes_says_so(open_page: Callable[[], Page]) -> None:
    page = open_page()
    show(page, "History")
    expect(page.get_by_text("Nothing was changed yet")).to_be_visible()
    for way in ("Undo", "Redo"):
        expect(page.get_by_role("button", name=way, exact=True)).to_be_disabled()


def test_versions_tell_who_changed_what_and_unfold_to_the_difference(
    site: Site, open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    colleague.patch(project["id"], title("Two"))
    page = open_page()
    show(page, "History")
    newest = version(page, 2)
    expect(newest).to_contain_text(colleague.name)
    expect(newest).to_contain_text("Changed /title")
    newest.locator("summary").click()
    expect(newest.locator("del")).to_contain_text("One")
    expect(newest.locator("ins")).to_contain_text("Two")
    show(page, "Document")
    choose(page, "/count")
    page.keyboard.press("Delete")
    expect(part(page, "/count")).to_have_count(0)
    show(page, "History")
    expect(version(page, 3)).to_contain_text("by you")
    expect(version(page, 3)).to_contain_text("Removed /count")


def test_a_version_of_an_answer_leads_to_its_message_and_back(
    site: Site, open_page: Callable[[], Page], project: dict[str, Any]
) -> None:
    """The message is more pages back than are loaded."""
    call = {"tool": {"name": "applyJsonPatch", "arguments": {"operations": [title("Asked")]}}}
    site.model.on("new title", {"rounds": [{"steps": [call]}, {"steps": [{"text": "Done."}]}]})
    site.model.say("question", {"text": "An answer."})
    path = f"/v1/projects/{project['id']}/messages"
    site.call("POST", path, {"content": "a new title"}, Prefer="wait=30")
    for number in range(18):
        site.call("POST", path, {"content": f"question {number}"}, Prefer="wait=30")
    page = open_page()
    expect(page.locator("li.message")).to_have_count(30)
    show(page, "History")
    version(page, 2).get_by_role("button", name="to the message").click()
    message = page.locator("li.assistant").first
    expect(message).to_be_focused()
    expect(message).to_be_in_viewport()
    show(page, "Document")
    message.get_by_role("button", name="version 2").click()
    expect(version(page, 2).locator("ins")).to_contain_text("Asked")


def test_versions_come_page_by_page_as_one_scrolls(
    open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    for number in range(40):
        colleague.patch(project["id"], {"op": "replace", "path": "/count", "value": number + 10})
    page = open_page()
    show(page, "History")
    expect(page.locator("[data-of-version]")).to_have_count(30)
    page.get_by_role("region", name="Versions").hover()
    page.mouse.wheel(0, 100_000)
    expect(page.locator("[data-of-version]")).to_have_count(41)


def test_undo_and_redo_are_versions_and_marked(
    site: Site, open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    """Undo takes back the newest change, whoever made it."""
    colleague.patch(project["id"], title("Two"))
    page = open_page()
    choose(page, "/title")
    page.keyboard.press("Control+z")
    expect(part(page, "/title")).to_contain_text("One")
    show(page, "History")
    expect(version(page, 3)).to_contain_text("undo of 2")
    expect(version(page, 2).locator("[data-undone]")).to_be_visible()
    walk(page, "Redo")
    expect(version(page, 4)).to_contain_text("redo of 2")
    expect(version(page, 2).locator("[data-undone]")).to_have_count(0)
    assert document_of(site, project) == {**DOCUMENT, "title": "Two"}
    walk(page, "Redo")
    expect(page.get_by_role("alert")).to_contain_text("nothing to redo")
    for number in (5, 6):
        walk(page, "Undo")
        if number == 5:
            expect(version(page, 5)).to_contain_text("undo of 2")
    expect(page.get_by_role("alert")).to_contain_text("nothing to undo")


def test_an_undo_after_somebody_else_edited_is_asked_for_again(
    site: Site, open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    """Of the page that has not heard of the edit, the undo is not about it."""
    colleague.patch(project["id"], title("Two"))
    page = open_page()
    page.evaluate(
        """async ([path]) => {
            const original = globalThis.fetch;
            globalThis.fetch = async (url, options) => {
                if (!String(url).endsWith("/undo")) return original(url, options);
                globalThis.fetch = original;
                const headers = { ...options.headers, "If-Match": '"1"' }; // what a page says that saw no newer one
                return original(url, { ...options, headers });
            };
        }""",
        [project["id"]],
    )
    walk(page, "Undo")
    expect(page.get_by_role("alert")).to_contain_text("Somebody else changed the document meanwhile")
    assert document_of(site, project)["title"] == "Two"
    walk(page, "Undo")
    expect(part(page, "/title")).to_contain_text("One")


def test_an_undo_that_breaks_a_schema_given_since_is_refused_in_words(
    site: Site, open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    colleague.patch(project["id"], title("Two"))
    site.call("PATCH", f"/v1/projects/{project['id']}", {"schema": {"properties": {"title": {"const": "Two"}}}})
    page = open_page()
    walk(page, "Undo")
    expect(page.get_by_role("alert")).to_contain_text("would not fit the project's schema")
    expect(page.get_by_role("alert")).to_contain_text("/title")


def test_any_two_versions_are_compared(
    open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    colleague.patch(project["id"], title("Two"))
    colleague.patch(project["id"], {"op": "add", "path": "/new", "value": [1]})
    colleague.patch(project["id"], title("Four"))
    page = open_page()
    show(page, "History")
    page.get_by_role("button", name="Compare", exact=True).click()
    comparison = page.get_by_role("group", name="Compare two versions")
    expect(comparison.locator("ins")).to_contain_text('"Four"')  # the newest two are compared to begin with
    for first, second, gone, came in ((1, 4, '"One"', '"Four"'), (4, 2, '"Four"', '"Two"')):
        comparison.get_by_label("From version").fill(str(first))
        comparison.get_by_label("to version").last.fill(str(second))
        page.keyboard.press("Enter")
        expect(comparison.locator("del").filter(has_text=gone)).to_be_visible()
        expect(comparison.locator("ins").filter(has_text=came)).to_be_visible()


def test_a_comparison_that_comes_in_leaves_the_number_that_is_being_typed(
    open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    for words in ("Two", "Three", "Four"):
        colleague.patch(project["id"], title(words))
    page = open_page()
    show(page, "History")
    page.get_by_role("button", name="Compare", exact=True).click()
    comparison = page.get_by_role("group", name="Compare two versions")
    to = comparison.get_by_label("to version").last
    newest = comparison.locator("ins").filter(has_text='"Four"')
    expect(newest).to_be_visible()
    comparison.get_by_label("From version").fill("1")
    to.fill("3")
    expect(comparison.locator("del").filter(has_text='"One"')).to_be_visible()  # leaving a field compares
    held: list[Route] = []
    page.route("**/versions/**", lambda route: held.append(route))
    with page.expect_request("**/versions/**"):
        to.press("Enter")
    expect(comparison).to_contain_text("Comparing")
    to.fill("2")
    page.route("**/versions/**", lambda route: route.continue_())  # the newest route is asked first
    for route in held:
        route.continue_()
    expect(comparison.locator("ins").filter(has_text='"Three"')).to_be_visible()
    expect(to).to_have_value("2")


def test_the_document_is_looked_at_as_it_was_and_left_alone(
    open_page: Callable[[], Page], colleague: Colleague, project: dict[str, Any]
) -> None:
    colleague.patch(project["id"], title("Two"))
    page = open_page()
    show(page, "History")
    page.get_by_role("button", name="Look at it: version 1").click()
    expect(part(page, "/title")).to_contain_text("One")
    expect(page.get_by_text("as it was then")).to_be_visible()
    choose(page, "/title")
    expect(page.get_by_role("button", name="Edit", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Undo", exact=True)).to_have_count(0)
    page.evaluate(TAKE_DOCUMENT, {"version": 3, "operations": [title("Three")]})
    expect(part(page, "/title")).to_contain_text("One")
    page.get_by_role("button", name="Back to now").click()
    expect(part(page, "/title")).to_contain_text("Three")
