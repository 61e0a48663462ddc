"""Sharing a project on the page: invited, given roles, taken out; and what the project's settings refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.people import Colleague, choose, enter, invite, part
from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.stack import Stack

expect.set_options(timeout=STEP_TIMEOUT_MS)


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Shared", "document": {"title": "One"}})
    return made


@pytest.fixture
def colleague(shared_stack: Stack) -> Colleague:
    return Colleague(shared_stack)


@pytest.fixture
def open_as(watch: Callable[..., Watched], project: dict[str, Any]) -> Callable[[Site], Page]:
    """Opens the project in a browser of the person's own."""

    def open_it(person: Site) -> Page:
        watched = watch(person.origin)
        watched.allows_failed_loads = True
        return enter(watched, person, project)

    return open_it


def members(page: Page) -> Locator:
    page.get_by_role("button", name="Members", exact=True).click()
    return page.get_by_role("dialog")


def settings(page: Page) -> Locator:
    page.get_by_role("button", name="Settings", exact=True).click()
    return page.get_by_role("dialog")


def test_who_is_invited_sees_the_project_edits_reads_and_is_taken_out(
    site: Site, colleague: Colleague, open_as: Callable[[Site], Page]
) -> None:
    page = open_as(site)
    dialog = members(page)
    dialog.get_by_label("Invite by name").fill(colleague.name)
    dialog.get_by_role("form", name="Invite").get_by_role("combobox").select_option("editor")
    dialog.get_by_role("button", name="Invite").click()
    theirs = dialog.locator(f'[data-member="{colleague.name}"]')
    expect(theirs).to_be_visible()
    expect(dialog.get_by_label("Invite by name")).to_have_value("")
    expect(dialog.get_by_role("form", name="Invite").get_by_role("combobox")).to_have_value("editor")

    other = open_as(colleague.site)
    expect(other.get_by_role("navigation").get_by_role("button", name="Shared")).to_contain_text("editor")
    expect(other.locator('.head [data-role="editor"]')).to_be_visible()
    choose(other, "/title")
    expect(other.get_by_role("button", name="Edit", exact=True)).to_be_visible()

    theirs.get_by_role("combobox").select_option("viewer")
    expect(theirs.get_by_role("combobox")).to_be_enabled()
    other.get_by_role("button", name="Edit", exact=True).click()
    other.get_by_label("Value").fill("Not allowed")
    other.get_by_role("button", name="Save").click()
    expect(other.locator("#edit-problem")).to_contain_text("role")
    other.reload()
    expect(other.locator('.head [data-role="viewer"]')).to_be_visible()
    choose(other, "/title")
    for control in ("Edit", "Remove", "Undo", "Settings"):
        expect(other.get_by_role("button", name=control, exact=True)).to_have_count(0)

    theirs.get_by_role("button", name="Remove").click()
    theirs.get_by_role("button", name="Yes, remove").click()
    expect(theirs).to_have_count(0)
    refresh = other.get_by_role("button", name="Refresh")
    expect(refresh.or_(other.get_by_role("alert")).first).to_be_visible()
    if refresh.count():
        refresh.click()
    expect(other.get_by_role("alert")).to_contain_text("no longer a member")
    expect(other.locator("[data-version]")).to_have_count(0)
    expect(other.get_by_role("navigation").get_by_role("button", name="Shared")).to_have_count(0)


def test_the_last_owner_stays_and_is_told_why(site: Site, open_as: Callable[[Site], Page]) -> None:
    page = open_as(site)
    dialog = members(page)
    role = dialog.get_by_label("Role of")
    role.select_option("viewer")
    expect(dialog.get_by_role("alert")).to_contain_text("keeps at least one owner")
    expect(role).to_have_value("owner")
    dialog.get_by_role("button", name="Leave the project").click()
    dialog.get_by_role("button", name="Yes, leave").click()
    expect(dialog.get_by_role("alert")).to_contain_text("keeps at least one owner")


def test_everybody_sees_the_members_and_may_leave(
    site: Site, colleague: Colleague, open_as: Callable[[Site], Page], project: dict[str, Any]
) -> None:
    invite(site, project["id"], colleague.name, "viewer")
    page = open_as(colleague.site)
    dialog = members(page)
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    expect(dialog.get_by_role("button", name="Invite")).to_have_count(0)
    expect(dialog.get_by_role("combobox")).to_have_count(0)
    dialog.get_by_role("button", name="Leave the project").click()
    dialog.get_by_role("button", name="Yes, leave").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("navigation").get_by_role("button", name="Shared")).to_have_count(0)
    left = [member["user"] for member in site.call("GET", f"/v1/projects/{project['id']}/members")["items"]]
    assert colleague.name not in left


def test_a_name_that_nobody_can_have_is_refused_in_words(site: Site, open_as: Callable[[Site], Page]) -> None:
    dialog = members(open_as(site))
    dialog.get_by_label("Invite by name").fill("two words")
    dialog.get_by_role("button", name="Invite").click()
    expect(dialog.get_by_role("alert")).to_contain_text("without spaces")


def test_a_schema_is_checked_given_and_taken_away(
    site: Site, open_as: Callable[[Site], Page], project: dict[str, Any]
) -> None:
    page = open_as(site)
    dialog = settings(page)
    dialog.get_by_role("checkbox").check()
    field = dialog.get_by_label("Schema", exact=True)
    field.fill('{\n  "type": }')
    expect(dialog.locator(".json-state")).to_contain_text("Line 2, column 11")
    expect(dialog.get_by_role("button", name="Save")).to_be_disabled()
    field.fill('{"type": "nothing"}')
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not a JSON Schema")
    field.fill('{"properties": {"title": {"type": "number"}}}')
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("/title")
    field.fill('{"properties": {"title": {"type": "string"}}}')
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    path = f"/v1/projects/{project['id']}"
    assert site.call("GET", path)["schema"] == {"properties": {"title": {"type": "string"}}}
    settings(page).get_by_role("checkbox").uncheck()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    assert site.call("GET", path)["schema"] is None


def test_a_project_begins_with_json_of_ones_own(site: Site, open_as: Callable[[Site], Page]) -> None:
    page = open_as(site)
    page.get_by_role("navigation").get_by_role("button", name="New").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Mine")
    dialog.get_by_label("JSON of your own").check()
    field = dialog.get_by_label("The document", exact=True)
    field.fill("[1, 2")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).to_contain_text("ends too early")
    field.fill('[1, {"a": "b"}]')
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Mine")).to_be_visible()
    expect(part(page, "/0")).to_contain_text("1")


def test_more_projects_than_a_page_come_as_one_scrolls(site: Site, open_as: Callable[[Site], Page]) -> None:
    for number in range(104):
        site.call("POST", "/v1/projects", {"name": f"Project {number}"})
    page = open_as(site)
    items = page.get_by_role("navigation").locator("button.project")
    expect(items).to_have_count(100)
    page.get_by_role("navigation").hover()
    page.mouse.wheel(0, 100_000)
    expect(items).to_have_count(105)
