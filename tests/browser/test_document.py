"""The document on the page: followed, found, changed by hand, and settled with what others changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import TAKE_DOCUMENT, Colleague, choose, document_of, enter, invite, part
from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.stack import Stack

expect.set_options(timeout=STEP_TIMEOUT_MS)

DOCUMENT = {
    "title": "Harbour",
    "count": 3,
    "isOpen": True,
    "nothing": None,
    "boats": [{"id": "a", "name": "Ada"}, {"id": "b", "name": "Bea"}],
    "tags": ["x", "y"],
}
SCHEMA = {"type": "object", "properties": {"title": {"type": "string", "maxLength": 12}}, "required": ["title"]}


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    body = {"name": "Quay", "document": DOCUMENT, "schema": SCHEMA}
    made: dict[str, Any] = site.call("POST", "/v1/projects", body)
    return made


@pytest.fixture
def watched(site: Site, watch: Callable[..., Watched], project: dict[str, Any]) -> Watched:
    """The page, on the project. What is refused on purpose the browser itself reports."""
    watched = watch(site.origin)
    watched.allows_failed_loads = True
    enter(watched, site, project)
    return watched


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def colleague(shared_stack: Stack, site: Site, project: dict[str, Any]) -> Colleague:
    colleague = Colleague(shared_stack)
    invite(site, project["id"], colleague.name)
    return colleague


def act(page: Page, label: str) -> None:
    page.get_by_role("group", name="The selected part").get_by_role("button", name=label, exact=True).click()


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def shows_version(page: Page, version: int) -> None:
    expect(page.locator("[data-version]")).to_have_attribute("data-version", str(version))


# Following


def test_a_change_is_applied_to_what_is_shown_without_loading_the_project(page: Page) -> None:
    loads: list[str] = []
    page.on("request", lambda request: loads.append(request.url))
    page.evaluate(TAKE_DOCUMENT, {"version": 2, "operations": [{"op": "replace", "path": "/title", "value": "Quay"}]})
    expect(part(page, "/title")).to_contain_text('"Quay"')
    expect(part(page, "/title")).to_have_attribute("data-lit", "changed")
    shows_version(page, 2)
    page.evaluate(TAKE_DOCUMENT, {"version": 2, "operations": [{"op": "replace", "path": "/title", "value": "Twice"}]})
    expect(part(page, "/title")).to_contain_text('"Quay"')
    assert [url for url in loads if "/v1/projects/" in url and "document" not in url] == []


@pytest.mark.parametrize("operations", [[{"op": "remove", "path": "/not/there"}], []], ids=["does not apply", "gap"])
def test_a_change_that_does_not_follow_what_is_shown_loads_the_project(
    page: Page, colleague: Colleague, project: dict[str, Any], operations: list[Any]
) -> None:
    colleague.patch(project["id"], {"op": "replace", "path": "/title", "value": "One"})
    if not operations:
        colleague.patch(project["id"], {"op": "replace", "path": "/title", "value": "Two"})
    page.evaluate(TAKE_DOCUMENT, {"version": 2 if operations else 3, "operations": operations})
    expect(part(page, "/title")).to_contain_text('"One"' if operations else '"Two"')


def test_changes_in_one_tick_are_drawn_once(page: Page) -> None:
    drawn = page.evaluate(
        """async () => {
            const { takeDocument } = await import("/static/app/actions/document.js");
            const seen = [];
            const at = () => document.querySelector('[data-pointer="/count"]').textContent;
            new MutationObserver(() => { if (at() !== seen.at(-1)) seen.push(at()); })
                .observe(document.querySelector(".tree"), { subtree: true, childList: true, characterData: true });
            for (let version = 2; version <= 40; version += 1) {
                takeDocument({ version, operations: [{ op: "replace", path: "/count", value: version }] });
            }
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            return seen;
        }"""
    )
    assert len(drawn) == 1
    assert drawn[0].endswith("40")


def test_only_what_changed_is_drawn_anew_in_a_document_of_thousands_of_parts(
    site: Site, watch: Callable[..., Watched]
) -> None:
    document = {f"group{n}": [{"id": f"{n}-{m}", "value": m} for m in range(150)] for n in range(20)}
    large = site.call("POST", "/v1/projects", {"name": "Large", "document": document})
    page = enter(watch(site.origin), site, large)
    choose(page, "")
    act(page, "Open all")
    assert 500 < page.get_by_role("treeitem").count() < 4000
    touched = page.evaluate(
        """async () => {
            const { takeDocument } = await import("/static/app/actions/document.js");
            const touched = new Set();
            new MutationObserver((records) => {
                for (const { target } of records) {
                    const element = target.closest ? target : target.parentElement;
                    touched.add(element.closest("[data-pointer]").dataset.pointer);
                }
            }).observe(document.querySelector(".tree"), { subtree: true, childList: true, characterData: true });
            takeDocument({ version: 2, operations: [{ op: "replace", path: "/group0/0/value", value: -1 }] });
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            return [...touched];
        }"""
    )
    assert "/group0/0" in touched
    assert len(touched) < 10
    act(page, "Close all")
    expect(page.get_by_role("treeitem")).to_have_count(1)


# Finding and moving about


def test_what_is_searched_for_is_counted_unfolded_and_gone_through(page: Page) -> None:
    page.get_by_role("tree").get_by_role("treeitem").first.focus()
    page.keyboard.press("/")
    field = page.get_by_role("searchbox", name="Search the document")
    expect(field).to_be_focused()
    page.keyboard.type("ea")
    count = page.locator(".search-count")
    expect(count).to_have_text("1 of 1")
    expect(part(page, "/boats/1/name").locator("mark")).to_have_text("ea")
    field.fill("name")
    expect(count).to_have_text("1 of 2")
    expect(part(page, "/boats/0/name")).to_have_attribute("data-match", "current")
    page.keyboard.press("Enter")
    expect(part(page, "/boats/1/name")).to_have_attribute("data-match", "current")
    page.keyboard.press("Shift+Enter")
    expect(part(page, "/boats/0/name")).to_have_attribute("data-match", "current")
    page.keyboard.press("Escape")
    expect(field).to_have_value("")


def test_a_match_beyond_the_first_hundred_is_shown(site: Site, watch: Callable[..., Watched]) -> None:
    long = site.call("POST", "/v1/projects", {"name": "Long", "document": {"list": [f"item {n}" for n in range(900)]}})
    page = enter(watch(site.origin), site, long)
    expect(part(page, "/list/99")).to_be_attached()
    expect(part(page, "/list/100")).to_have_count(0)
    page.get_by_role("searchbox").fill("item 777")
    expect(part(page, "/list/777")).to_be_in_viewport()


def test_the_tree_is_one_stop_for_tab_and_arrows_move_in_it(page: Page) -> None:
    choose(page, "/boats")
    page.keyboard.press("ArrowRight")
    expect(part(page, "/boats/0")).to_be_focused()
    expect(part(page, "/boats/0")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    expect(part(page, "/boats/0")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    expect(part(page, "/boats/0/id")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(part(page, "/boats/0")).to_be_focused()
    page.keyboard.press("End")
    expect(part(page, "/tags/1")).to_be_focused()
    page.keyboard.press("Home")
    expect(part(page, "")).to_be_focused()
    assert page.locator('[role="treeitem"][tabindex="0"]').count() == 1


# Changing by hand


def test_values_of_every_type_are_changed_in_place(site: Site, page: Page, project: dict[str, Any]) -> None:
    for pointer, kind, typed in (
        ("/title", "text", "Quay"),
        ("/count", "number", "4.5"),
        ("/isOpen", "false", None),
        ("/nothing", "JSON", '{"a": [1]}'),
        ("/tags", "JSON", '["x", "new", "y"]'),
    ):
        choose(page, pointer)
        act(page, "Edit as JSON" if pointer == "/tags" else "Edit")
        page.get_by_label("Type").select_option(kind)
        if typed is not None:
            page.get_by_label("Value").fill(typed)
        save(page)
        expect(page.locator(".editor")).to_have_count(0)
    assert document_of(site, project) == {
        **DOCUMENT,
        "title": "Quay",
        "count": 4.5,
        "isOpen": False,
        "nothing": {"a": [1]},
        "tags": ["x", "new", "y"],
    }
    newest = site.call("GET", f"/v1/projects/{project['id']}/versions")["items"][0]
    assert newest["operations"] == [{"op": "add", "path": "/tags/1", "value": "new"}] or len(newest["operations"]) == 1


def test_members_are_added_renamed_moved_and_removed(site: Site, page: Page, project: dict[str, Any]) -> None:
    choose(page, "")
    act(page, "Add")
    page.get_by_label("Key").fill("harbour/master")
    page.get_by_label("Value").fill("Cay")
    page.keyboard.press("Enter")
    expect(part(page, "/harbour~1master")).to_be_focused()
    page.keyboard.press("F2")
    page.get_by_label("Key").fill("title")
    save(page)
    expect(page.get_by_role("alert")).to_contain_text("already")
    page.get_by_label("Key").fill("master")
    page.keyboard.press("Enter")
    expect(part(page, "/master")).to_be_focused()
    choose(page, "/tags")
    page.keyboard.press("Insert")
    page.get_by_label("Value").fill("z")
    page.keyboard.press("Enter")
    expect(part(page, "/tags/2")).to_contain_text("z")
    choose(page, "/tags/2")
    page.keyboard.press("Alt+ArrowUp")
    expect(part(page, "/tags/1")).to_be_focused()
    expect(part(page, "/tags/1")).to_contain_text("z")
    choose(page, "/count")
    page.keyboard.press("Delete")
    expect(part(page, "/count")).to_have_count(0)
    left = {key: value for key, value in DOCUMENT.items() if key != "count"}
    assert document_of(site, project) == {**left, "master": "Cay", "tags": ["x", "z", "y"]}


def test_escape_leaves_the_editor_and_changes_nothing(page: Page) -> None:
    choose(page, "/title")
    page.keyboard.press("Enter")
    page.get_by_label("Value").fill("Never")
    page.keyboard.press("Escape")
    expect(part(page, "/title")).to_be_focused()
    expect(part(page, "/title")).to_contain_text("Harbour")
    shows_version(page, 1)


def test_what_is_typed_wrong_or_breaks_the_schema_is_said_at_the_field(page: Page) -> None:
    choose(page, "/title")
    act(page, "Edit")
    field = page.get_by_label("Value")
    field.fill("A title that is much too long")
    save(page)
    problem = page.locator("#edit-problem")
    expect(problem).to_contain_text("/title")
    expect(field).to_have_attribute("aria-describedby", "edit-problem")
    page.get_by_label("Type").select_option("JSON")
    field.fill('{\n "a": }')
    save(page)
    expect(problem).to_contain_text("Line 2, column 7")
    shows_version(page, 1)


def test_a_removal_that_breaks_the_schema_is_said_over_the_document(page: Page) -> None:
    choose(page, "/title")
    page.keyboard.press("Delete")
    expect(page.get_by_role("alert")).to_contain_text("Not stored")
    expect(part(page, "/title")).to_be_visible()


# Two people at once


def test_a_conflict_is_shown_and_mine_is_applied_to_the_new_version(
    site: Site, page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    """The colleague puts a boat in front: mine goes where the boat is now."""
    choose(page, "/boats/1")
    page.keyboard.press("ArrowRight")
    choose(page, "/boats/1/name")
    act(page, "Edit")
    page.get_by_label("Value").fill("Bo")
    colleague.patch(
        project["id"],
        {"op": "replace", "path": "/boats/1/name", "value": "Beatrice"},
        {"op": "add", "path": "/boats/0", "value": {"id": "n", "name": "New"}},
    )
    save(page)
    conflict = page.get_by_role("region", name="Somebody else was faster")
    expect(conflict).to_contain_text("both changed the same place")
    expect(conflict.locator(".sides > div").first).to_contain_text("Beatrice")
    expect(conflict.locator(".sides > div").last).to_contain_text("Bo")
    conflict.get_by_role("button", name="Apply mine to version 2").click()
    expect(conflict).to_have_count(0)
    expect(part(page, "/boats/2/name")).to_contain_text('"Bo"')
    names = [boat["name"] for boat in document_of(site, project)["boats"]]
    assert names == ["New", "Ada", "Bo"]


def test_a_conflict_is_shown_and_theirs_is_kept(
    site: Site, page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    choose(page, "/title")
    act(page, "Edit")
    page.get_by_label("Value").fill("Mine")
    colleague.patch(project["id"], {"op": "replace", "path": "/title", "value": "Theirs"})
    save(page)
    page.get_by_role("button", name="Keep theirs").click()
    expect(page.locator(".editor")).to_have_count(0)
    expect(part(page, "/title")).to_contain_text("Theirs")
    assert document_of(site, project)["title"] == "Theirs"
    shows_version(page, 2)


def test_a_person_goes_on_editing_after_a_conflict_and_stores_then(
    site: Site, page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    choose(page, "/title")
    act(page, "Edit")
    page.get_by_label("Value").fill("Mine")
    colleague.patch(project["id"], {"op": "replace", "path": "/title", "value": "Theirs"})
    save(page)
    page.get_by_role("button", name="Go on editing").click()
    expect(page.get_by_label("Value")).to_have_value("Mine")
    page.get_by_label("Value").fill("Ours")
    save(page)
    expect(page.locator(".editor")).to_have_count(0)
    assert document_of(site, project)["title"] == "Ours"


def test_a_change_whose_place_is_gone_can_not_be_applied(
    page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    choose(page, "/count")
    act(page, "Edit")
    page.get_by_label("Value").fill("5")
    colleague.patch(project["id"], {"op": "remove", "path": "/count"})
    save(page)
    conflict = page.get_by_role("region", name="Somebody else was faster")
    expect(conflict).to_contain_text("not there any more")
    expect(conflict.get_by_role("button", name="Apply mine")).to_be_disabled()
    conflict.get_by_role("button", name="Keep theirs").click()
    expect(part(page, "/count")).to_have_count(0)


def test_a_removal_that_came_too_late_is_asked_about(
    site: Site, page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    """The page has not heard of the change when the person removes: nothing is taken away unseen."""
    choose(page, "/count")
    colleague.patch(project["id"], {"op": "replace", "path": "/nothing", "value": "something"})
    page.keyboard.press("Delete")
    conflict = page.get_by_role("region", name="Somebody else was faster")
    removed = part(page, "/count")
    expect(conflict.or_(page.locator('[data-version="3"]')).first).to_be_visible()
    if conflict.count():
        expect(conflict).to_contain_text("both can be kept")
        conflict.get_by_role("button", name="Apply mine to version 2").click()
    expect(removed).to_have_count(0)
    left = document_of(site, project)
    assert "count" not in left
    assert left["nothing"] == "something"


def test_an_open_editor_keeps_its_text_and_says_what_changed_beneath_it(
    page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    choose(page, "/title")
    act(page, "Edit")
    field = page.get_by_label("Value")
    field.fill("Half writ")
    operations = [{"op": "replace", "path": "/title", "value": "Beneath"}]
    colleague.patch(project["id"], *operations)
    page.evaluate(TAKE_DOCUMENT, {"version": 2, "operations": operations})
    expect(page.locator(".beneath")).to_contain_text("Beneath")
    expect(field).to_have_value("Half writ")
    expect(field).to_be_focused()


def test_a_change_elsewhere_does_not_get_in_the_way_of_an_open_editor(
    site: Site, page: Page, colleague: Colleague, project: dict[str, Any]
) -> None:
    choose(page, "/title")
    act(page, "Edit")
    page.get_by_label("Value").fill("Mine")
    operations = [{"op": "replace", "path": "/count", "value": 7}]
    colleague.patch(project["id"], *operations)
    page.evaluate(TAKE_DOCUMENT, {"version": 2, "operations": operations})
    expect(part(page, "/count")).to_contain_text("7")
    save(page)
    expect(page.locator(".editor")).to_have_count(0)
    assert document_of(site, project) == {**DOCUMENT, "title": "Mine", "count": 7}
