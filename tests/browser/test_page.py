"""The page at / keeps its promises: on real processes, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.browser.wire import Wire
from tests.stack import Stack

expect.set_options(timeout=STEP_TIMEOUT_MS)

WORDS = [f"w{number}" for number in range(240)]
FIRST_HALF = " ".join(WORDS[:120]) + " "
SECOND_HALF = " ".join(WORDS[120:])
WHOLE = FIRST_HALF + SECOND_HALF

RECORD_TEXTS = """() => {
    globalThis.seenTexts = [];
    new MutationObserver(() => {
        const text = document.querySelector("li.assistant:last-of-type .markdown")?.textContent;
        if (text !== undefined && text !== seenTexts.at(-1)) seenTexts.push(text);
    }).observe(document, { subtree: true, childList: true, characterData: true });
}"""


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Clip", "template": "video"})
    return made


@pytest.fixture
def open_project(site: Site, watch: Callable[..., Watched], project: dict[str, Any]) -> Callable[..., Watched]:
    """Opens the page, signed in, on the test's project."""

    def open_it(origin: str | None = None, **context_options: object) -> Watched:
        watched = watch(origin or site.origin, **context_options)
        enter(watched, site, project)
        return watched

    return open_it


@pytest.fixture
def wire(site: Site) -> Iterator[Wire]:
    address = urlsplit(site.origin)
    assert address.hostname is not None
    assert address.port is not None
    with Wire((address.hostname, address.port)) as wire:
        yield wire


def enter(watched: Watched, site: Site, project: dict[str, Any]) -> None:
    """Opens the project, signed in; back when it is there."""
    watched.page.goto(f"{watched.origin}/#token={site.token}&project={project['id']}")
    expect(watched.page.get_by_role("heading", name=project["name"])).to_be_visible()
    expect(watched.page.locator("[data-version]")).to_be_attached()


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def newest(page: Page) -> Locator:
    """The newest answer."""
    return page.locator("li.assistant").last


def row_of(site: Site, message: Locator) -> dict[str, Any]:
    message_id = message.get_attribute("data-message-id")
    row: dict[str, Any] = site.call("GET", f"/v1/messages/{message_id}")
    return row


def held_in_the_middle(site: Site, word: str) -> None:
    """Answers what contains `word` by the first half of WHOLE, and the other one once "middle" is released."""
    half = {"chunk_size": 7}
    site.model.say(word, {"text": FIRST_HALF, **half}, {"hold": "middle"}, {"text": SECOND_HALF, **half})


# The narrow path


def test_a_person_asks_sees_text_stream_and_the_document_change_lit(open_project: Callable[..., Watched]) -> None:
    page = open_project().page
    page.get_by_role("button", name="Make the background dark blue").click()
    answer = newest(page)
    changed = page.locator('[data-pointer="/meta/backgroundColor"]')
    expect(changed).to_have_attribute("data-lit", re.compile("added|changed"))
    expect(answer.locator('.tool-call[data-state="succeeded"]')).to_contain_text("applyJsonPatch")
    expect(answer).to_have_attribute("data-status", "success")
    expect(answer.locator(".markdown")).not_to_be_empty()
    expect(page.locator("[data-version]")).to_have_attribute("data-version", "2")
    expect(changed).not_to_have_attribute("data-lit", re.compile(""))


def test_text_is_shown_while_the_model_still_writes(site: Site, open_project: Callable[..., Watched]) -> None:
    held_in_the_middle(site, "in two halves")
    page = open_project().page
    ask(page, "Answer in two halves")
    answer = newest(page)
    expect(answer.locator(".markdown")).to_have_text(FIRST_HALF.strip())
    expect(answer).to_have_attribute("data-status", "pending")
    expect(answer).to_have_attribute("aria-busy", "true")
    site.model.release("middle")
    expect(answer).to_have_attribute("data-status", "success")
    expect(answer.locator(".markdown")).to_have_text(WHOLE)
    expect(answer).to_have_attribute("aria-busy", "false")


def test_every_suggestion_works_without_a_real_model(
    stack: Callable[..., Stack], watch: Callable[..., Watched]
) -> None:
    """Each is clicked in a project of its own. One of them builds a component, so that a builder has to be there."""
    own = stack(builders=1)
    site = Site(own.urls[0], own.token, own.model)
    watched = watch(site.origin)
    page = watched.page
    versions: list[int] = []
    jobs: list[str] = []
    for number in range(5):
        project = site.call("POST", "/v1/projects", {"name": f"Clip {number}", "template": "video"})
        enter(watched, site, project)
        expect(page.locator("button.suggestion")).to_have_count(5)
        page.locator("button.suggestion").nth(number).click()
        expect(newest(page)).to_have_attribute("data-status", "success")
        assert row_of(site, newest(page))["content"].strip()
        expect(page.locator('.tool-call[data-state="failed"]')).to_have_count(0)
        versions.append(site.call("GET", f"/v1/projects/{project['id']}")["version"])
        jobs += [job["status"] for job in site.call("GET", f"/v1/projects/{project['id']}/jobs")["items"]]
    assert versions == [2, 2, 2, 1, 1], "three of the five change the document"
    assert jobs == ["success"], "one of the five builds a component"


def test_a_newcomer_without_a_project_is_offered_what_makes_one(site: Site, watch: Callable[..., Watched]) -> None:
    watched = watch(site.origin)
    watched.page.goto(f"{site.origin}/#token={site.token}")
    expect(watched.page.locator("button.suggestion")).to_have_count(5)
    watched.page.get_by_role("button", name="Make the background dark blue").click()
    expect(watched.page.get_by_role("heading", name="My first video")).to_be_visible()
    expect(newest(watched.page)).to_have_attribute("data-status", "success")
    [project] = site.call("GET", "/v1/projects")["items"]
    assert site.call("GET", f"/v1/projects/{project['id']}")["version"] == 2


def test_a_tool_call_unfolds_to_what_was_asked_and_what_it_did(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    operations = [{"op": "replace", "path": "/meta/title", "value": "Harbour"}]
    call = {"tool": {"name": "applyJsonPatch", "arguments": {"operations": operations, "explanation": "A new title."}}}
    site.model.on("new title", {"rounds": [{"steps": [call]}, {"steps": [{"text": "There it is."}]}]})
    page = open_project().page
    ask(page, "Give it a new title")
    tool_call = newest(page).locator(".tool-call")
    expect(newest(page)).to_have_attribute("data-status", "success")
    tool_call.locator("summary").click()
    expect(tool_call.locator(".operations")).to_contain_text("/meta/title")
    expect(tool_call.locator(".operations")).to_contain_text('"Harbour"')
    stored = row_of(site, newest(page))["toolCalls"][0]
    expect(tool_call.locator(".tool-result")).to_have_text(stored["finalContent"])
    expect(page.locator('[data-pointer="/meta/title"]')).to_contain_text('"Harbour"')


def test_a_refused_tool_call_is_shown_as_failed_and_does_not_end_the_answer(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    call = {"tool": {"name": "applyJsonPatch", "arguments": {"operations": [{"op": "remove", "path": "/nothing"}]}}}
    site.model.on("take away", {"rounds": [{"steps": [call]}, {"steps": [{"text": "That was not to be."}]}]})
    page = open_project().page
    ask(page, "take away what is not there")
    expect(newest(page)).to_have_attribute("data-status", "success")
    expect(newest(page).locator('.tool-call[data-state="failed"] .tool-effect')).not_to_be_empty()
    expect(page.locator("[data-version]")).to_have_attribute("data-version", "1")


# Stopping and trying again


@pytest.mark.parametrize("how", ["the button", "Escape"])
def test_stop_ends_the_answer_and_keeps_its_text(site: Site, open_project: Callable[..., Watched], how: str) -> None:
    held_in_the_middle(site, "for ever")
    page = open_project().page
    ask(page, "Write for ever")
    answer = newest(page)
    expect(answer.locator(".markdown")).to_have_text(FIRST_HALF.strip())
    if how == "Escape":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Stop").click()
    expect(answer).to_have_attribute("data-status", "cancelled")
    expect(answer.locator(".markdown")).to_have_text(FIRST_HALF.strip())
    assert row_of(site, answer)["status"] == "cancelled"
    assert row_of(site, answer)["content"] == FIRST_HALF
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_a_failed_answer_says_what_to_do_and_goes_on_when_told_to(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    refusal = {
        "status": 401,
        "error": {"message": "wrong key", "type": "invalid_request_error", "code": "invalid_api_key"},
    }
    site.model.on("stumble", {"rounds": [{"attempts": [refusal, {"steps": [{"text": "Up again."}]}]}]})
    page = open_project().page
    ask(page, "stumble once")
    answer = newest(page)
    failure = answer.locator('[data-outcome="error"]')
    expect(failure).to_contain_text("provider_auth")
    expect(failure).to_contain_text(row_of(site, answer)["error"]["detail"])
    failure.get_by_role("button", name="Try again").click()
    expect(answer).to_have_attribute("data-status", "success")
    expect(answer.locator(".markdown")).to_have_text("Up again.")
    expect(failure).to_have_count(0)


def test_a_failed_answer_can_be_tried_again_after_a_reload(site: Site, open_project: Callable[..., Watched]) -> None:
    """The page then knows only the row, and the replay begins with the attempt that failed."""
    refusal = {"status": 401, "error": {"message": "wrong key", "code": "invalid_api_key"}}
    site.model.on("stumble", {"rounds": [{"attempts": [refusal, {"steps": [{"text": "Up again."}]}]}]})
    page = open_project().page
    ask(page, "stumble once")
    expect(newest(page)).to_have_attribute("data-status", "error")
    page.reload()
    newest(page).get_by_role("button", name="Try again").click()
    expect(newest(page)).to_have_attribute("data-status", "success")
    expect(newest(page).locator(".markdown")).to_have_text("Up again.")


def test_a_successful_answer_can_be_asked_for_again(site: Site, open_project: Callable[..., Watched]) -> None:
    site.model.say("a number", {"text": "One."}, times=1)
    page = open_project().page
    ask(page, "Say a number")
    expect(newest(page)).to_have_attribute("data-status", "success")
    expect(newest(page).locator(".markdown")).to_have_text("One.")
    site.model.say("a number", {"text": "Two."})
    newest(page).get_by_role("button", name="Ask again").click()
    expect(newest(page).locator(".markdown")).to_have_text("Two.")
    expect(newest(page)).to_have_attribute("data-status", "success")


def test_a_message_sent_while_another_runs_is_queued_and_then_answered(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    held_in_the_middle(site, "first of all")
    site.model.say("and then", {"text": "Second."})
    page = open_project().page
    ask(page, "first of all")
    expect(newest(page).locator(".markdown")).to_have_text(FIRST_HALF.strip())
    ask(page, "and then")
    expect(page.locator("li.assistant")).to_have_count(2)
    expect(newest(page).locator('[data-activity="queued"]')).to_be_visible()
    site.model.release("middle")
    expect(newest(page).locator(".markdown")).to_have_text("Second.")
    expect(page.locator("li.assistant").first.locator(".markdown")).to_have_text(WHOLE)


def test_a_queued_message_can_be_cancelled_before_its_turn(site: Site, open_project: Callable[..., Watched]) -> None:
    held_in_the_middle(site, "first of all")
    page = open_project().page
    ask(page, "first of all")
    expect(newest(page).locator(".markdown")).to_have_text(FIRST_HALF.strip())
    ask(page, "never mind")
    newest(page).get_by_role("button", name="Cancel").click()
    expect(newest(page)).to_have_attribute("data-status", "cancelled")
    site.model.release("middle")
    expect(page.locator("li.assistant").first).to_have_attribute("data-status", "success")


# Losing the connection


def test_a_reload_in_mid_stream_loses_and_doubles_nothing(site: Site, open_project: Callable[..., Watched]) -> None:
    held_in_the_middle(site, "through a reload")
    page = open_project().page
    ask(page, "Write through a reload")
    expect(newest(page).locator(".markdown")).to_have_text(FIRST_HALF.strip())
    page.reload()
    expect(newest(page).locator(".markdown")).to_have_text(FIRST_HALF.strip())
    site.model.release("middle")
    expect(newest(page)).to_have_attribute("data-status", "success")
    assert row_of(site, newest(page))["content"] == WHOLE
    expect(newest(page).locator(".markdown")).to_have_text(WHOLE)


def test_a_cut_socket_goes_on_where_it_was_without_a_doubled_character(
    site: Site, open_project: Callable[..., Watched], wire: Wire
) -> None:
    """The rest of the answer is written while the page can't be reached; every text on the way is a beginning of it."""
    held_in_the_middle(site, "through a cut")
    watched = open_project(wire.origin)
    watched.allows_failed_loads = True
    page = watched.page
    page.evaluate(RECORD_TEXTS)
    ask(page, "Write through a cut")
    answer = newest(page)
    expect(answer.locator(".markdown")).to_have_text(FIRST_HALF.strip())
    wire.cut()
    expect(page.locator('[data-connection="lost"]')).to_be_visible()
    site.model.release("middle")
    site.model.wait_ended(0)
    expect(answer.locator(".markdown")).to_have_text(FIRST_HALF.strip())
    wire.mend()
    expect(page.locator('[data-connection="back"]')).to_be_visible()
    expect(answer).to_have_attribute("data-status", "success")
    assert row_of(site, answer)["content"] == WHOLE
    seen = page.evaluate("seenTexts")
    assert seen[-1] == WHOLE
    assert [text for text in seen if not WHOLE.startswith(text)] == []
    expect(page.locator("[data-connection]")).to_have_count(0)


def test_a_socket_cut_again_and_again_still_gives_the_whole_text_once(
    site: Site, open_project: Callable[..., Watched], wire: Wire
) -> None:
    holds: list[dict[str, Any]] = []
    for number in range(0, 240, 40):
        holds += [{"text": " ".join(WORDS[number : number + 40]) + " ", "chunk_size": 5}, {"hold": f"at {number}"}]
    site.model.say("many cuts", *holds)
    watched = open_project(wire.origin)
    watched.allows_failed_loads = True
    page = watched.page
    page.evaluate(RECORD_TEXTS)
    ask(page, "Write through many cuts")
    answer = newest(page)
    for number in range(0, 240, 40):
        expect(answer.locator(".markdown")).to_have_text(" ".join(WORDS[: number + 40]))
        wire.cut()
        site.model.release(f"at {number}")
        wire.mend()
    expect(answer).to_have_attribute("data-status", "success")
    assert [text for text in page.evaluate("seenTexts") if not (WHOLE + " ").startswith(text)] == []
    assert row_of(site, answer)["content"] == WHOLE + " "


def test_what_is_sent_while_the_server_is_away_is_stored_once(
    site: Site, open_project: Callable[..., Watched], wire: Wire, project: dict[str, Any]
) -> None:
    """The page repeats it under the same key until it is answered."""
    site.model.say("hold on", {"text": "Here I am."})
    watched = open_project(wire.origin)
    watched.allows_failed_loads = True
    page = watched.page
    wire.cut()
    ask(page, "hold on")
    expect(page.locator("li.user").last).to_contain_text("trying again")
    wire.mend()
    expect(newest(page).locator(".markdown")).to_have_text("Here I am.")
    rows = site.call("GET", f"/v1/projects/{project['id']}/messages")["items"]
    assert [row["role"] for row in rows] == ["assistant", "user"]
    expect(page.locator("li.user")).to_have_count(1)


def test_an_answer_lost_on_the_way_back_makes_no_second_message(
    site: Site, open_project: Callable[..., Watched], project: dict[str, Any]
) -> None:
    site.model.say("once only", {"text": "Once."})
    watched = open_project()
    watched.allows_failed_loads = True
    page = watched.page
    lost: list[str] = []

    def lose_the_first_answer(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.request.headers["idempotency-key"])
            route.fetch()
            route.fulfill(status=503, body="{}")

    page.route(f"**/v1/projects/{project['id']}/messages", lose_the_first_answer)
    ask(page, "once only")
    expect(newest(page).locator(".markdown")).to_have_text("Once.")
    assert len(lost) == 1
    rows = site.call("GET", f"/v1/projects/{project['id']}/messages")["items"]
    assert [row["role"] for row in rows] == ["assistant", "user"]


def test_an_answer_survives_a_restart_of_the_server_and_the_death_of_its_worker(
    stack: Callable[..., Stack], watch: Callable[..., Watched]
) -> None:
    """The server closes the page's socket when it restarts; the worker's successor begins with a snapshot."""
    own = stack(settings={"CHATRELAY_LEASE_S": 2, "CHATRELAY_HEARTBEAT_S": 0.5})
    site = Site(own.urls[0], own.token, own.model)
    held_in_the_middle(site, "through it all")
    project = site.call("POST", "/v1/projects", {"name": "Clip", "template": "video"})
    watched = watch(site.origin)
    watched.allows_failed_loads = True
    enter(watched, site, project)
    page = watched.page
    ask(page, "Write through it all")
    answer = newest(page)
    expect(answer.locator(".markdown")).to_have_text(FIRST_HALF.strip())
    own.restart("web-1")
    expect(page.locator("[data-connection]")).to_have_count(0)
    own.kill("worker-1")
    own.restart("worker-1")
    own.model.release("middle")
    expect(answer).to_have_attribute("data-status", "success")
    row = row_of(site, answer)
    assert row["content"] == WHOLE
    assert row["attempt"] > 1
    expect(answer.locator(".markdown")).to_have_text(WHOLE)


# Reading


def test_the_page_follows_the_text_only_for_a_reader_at_the_bottom(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    lines = "".join(f"Line {number}.\n\n" for number in range(60))
    site.model.say("many lines", {"text": lines}, {"hold": "middle"}, {"text": lines}, {"hold": "end"})
    page = open_project().page
    ask(page, "Write many lines")
    last = page.get_by_text("Line 59.")
    expect(last).to_be_in_viewport()
    scroller = page.get_by_role("region", name="Messages")
    scroller.hover()
    page.mouse.wheel(0, -400)
    expect(page.get_by_role("button", name="To the newest message")).to_be_visible()
    before = scroller.evaluate("(element) => element.scrollTop")
    site.model.release("middle")
    expect(last).to_have_count(2)
    assert scroller.evaluate("(element) => element.scrollTop") == before
    page.get_by_role("button", name="To the newest message").click()
    expect(last.last).to_be_in_viewport()
    site.model.release("end")


def test_a_reader_at_the_bottom_stays_there_while_parts_of_an_answer_give_way_to_larger_ones(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    """The browser lowers the position when something goes away below: that is no reader who scrolls up."""
    site.model.say("many lines", {"text": "".join(f"Line {number}.\n\n" for number in range(60))})
    page = open_project().page
    ask(page, "Write many lines")
    expect(newest(page)).to_have_attribute("data-status", "success")
    left = page.evaluate(
        """async () => {
            const frame = () => new Promise(requestAnimationFrame);
            const scroller = document.querySelector(".messages");
            const add = (height) => {
                const part = document.createElement("p");
                part.style.height = `${height}px`;
                scroller.firstElementChild.append(part);
                return part;
            };
            const first = add(200);
            await frame();
            await frame();
            first.remove();
            await frame();
            await new Promise((resolve) => setTimeout(resolve)); // between two frames, as what a socket brings
            add(600);
            await frame();
            await frame();
            await frame();
            return scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
        }"""
    )
    assert left < 1
    expect(page.get_by_role("button", name="To the newest message")).to_have_count(0)


def test_who_sends_is_taken_to_the_end_also_while_something_is_unsent(
    site: Site, wire: Wire, open_project: Callable[..., Watched]
) -> None:
    site.model.say("many lines", {"text": "".join(f"Line {number}.\n\n" for number in range(60))})
    watched = open_project(wire.origin)
    watched.allows_failed_loads = True
    page = watched.page
    ask(page, "Write many lines")
    expect(newest(page)).to_have_attribute("data-status", "success")
    wire.cut()
    ask(page, "The first unsent one")
    expect(page.get_by_text("trying again").first).to_be_visible()
    page.get_by_role("region", name="Messages").hover()
    page.mouse.wheel(0, -1500)
    expect(page.get_by_text("The first unsent one")).not_to_be_in_viewport()
    ask(page, "The second unsent one")
    expect(page.get_by_text("The second unsent one")).to_be_in_viewport()
    wire.mend()
    expect(page.locator('li.assistant[data-status="success"]')).to_have_count(3)


def test_older_messages_come_in_above_without_moving_what_is_read(
    site: Site, open_project: Callable[..., Watched], project: dict[str, Any]
) -> None:
    site.model.say("question", {"text": "An answer.\n\nOf three\n\nparagraphs."})
    for number in range(20):
        site.call("POST", f"/v1/projects/{project['id']}/messages", {"content": f"question {number}"}, Prefer="wait=30")
    page = open_project().page
    expect(page.get_by_text("question 19", exact=True)).to_be_in_viewport()
    expect(page.locator("li.message")).to_have_count(30)
    oldest = page.get_by_text("question 5", exact=True)
    scroller = page.get_by_role("region", name="Messages")
    scroller.hover()
    with page.expect_response(lambda response: "before=" in response.url):
        page.mouse.wheel(0, -100_000)
        before = oldest.bounding_box()
    expect(page.locator("li.message")).to_have_count(40)
    after = oldest.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(after["y"] - before["y"]) < 1
    expect(page.get_by_role("button", name="Older messages")).to_have_count(0)


def test_on_a_narrow_screen_the_document_is_behind_a_tab_that_tells_of_changes(
    open_project: Callable[..., Watched],
) -> None:
    page = open_project(viewport={"width": 390, "height": 780}).page
    document = page.get_by_role("region", name="The document's content")
    expect(document).not_to_be_visible()
    untold = page.get_by_role("button", name="Document", exact=True).bounding_box()
    page.get_by_role("button", name="Make the background dark blue").click()
    tab = page.get_by_role("button", name="Document (changed)")
    expect(tab).to_be_visible()
    assert tab.bounding_box() == untold
    tab.click()
    expect(document.locator('[data-pointer="/meta/backgroundColor"]')).to_be_visible()
    expect(page.get_by_role("button", name="Document", exact=True)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_screen_reader_is_told_of_states_and_not_of_every_word(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    held_in_the_middle(site, "read aloud")
    page = open_project().page
    page.evaluate(
        """() => {
            globalThis.announced = [];
            const status = document.querySelector('[role="status"]');
            new MutationObserver(() => announced.push(status.textContent))
                .observe(status, { subtree: true, childList: true, characterData: true });
        }"""
    )
    ask(page, "read aloud")
    expect(newest(page).locator(".markdown")).to_have_text(FIRST_HALF.strip())
    site.model.release("middle")
    expect(newest(page)).to_have_attribute("data-status", "success")
    announced = page.evaluate("announced")
    assert announced[-1] == "The answer is complete."
    assert not any("w1" in text for text in announced)
    assert len(announced) <= 4
    assert page.locator("[aria-live]").count() == 1


def test_text_written_from_right_to_left_is_shown_so(site: Site, open_project: Callable[..., Watched]) -> None:
    site.model.say("שלום", {"text": "שלום וברכה"})
    page = open_project().page
    ask(page, "שלום")
    paragraph = newest(page).locator(".markdown p")
    expect(paragraph).to_have_text("שלום וברכה")
    expect(paragraph).to_have_css("direction", "rtl")


def test_a_name_written_from_right_to_left_stands_where_all_names_do(site: Site, watch: Callable[..., Watched]) -> None:
    latin, hebrew = (site.call("POST", "/v1/projects", {"name": name}) for name in ("Harbour", "נמל"))
    watched = watch(site.origin)
    enter(watched, site, hebrew)
    page = watched.page
    starts = {
        page.locator(".project bdi", has_text=project["name"]).evaluate("(name) => name.getBoundingClientRect().left")
        for project in (latin, hebrew)
    }
    assert len(starts) == 1
    head = page.get_by_role("heading", level=1)
    edges = head.evaluate("(it) => [it, it.firstElementChild].map((one) => one.getBoundingClientRect().left)")
    assert edges[0] == edges[1]


# Signing in, projects, keys


def test_the_token_in_the_address_is_taken_out_of_it_and_kept(site: Site, open_project: Callable[..., Watched]) -> None:
    page = open_project().page
    assert site.token not in page.url
    page.reload()
    expect(page.get_by_role("heading", name="Clip")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_wrong_token_is_refused_in_words_and_a_right_one_let_in(
    site: Site, watch: Callable[..., Watched], project: dict[str, Any]
) -> None:
    watched = watch(site.origin)
    watched.allows_failed_loads = True
    page = watched.page
    page.goto(site.origin)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("Token").fill(site.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=project["name"])).to_be_visible()


def test_projects_are_made_renamed_and_deleted(site: Site, watch: Callable[..., Watched]) -> None:
    page = watch(site.origin).page
    page.goto(f"{site.origin}/#token={site.token}")
    page.get_by_role("navigation").get_by_role("button", name="New").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Harbour")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Harbour")).to_be_visible()
    expect(page.locator('[data-pointer="/scenes"]')).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.get_by_role("button", name="Settings").click()
    dialog.get_by_label("Name").fill("Harbour at night")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Harbour at night")).to_be_visible()
    for verb in ("Cancel", "Delete"):
        page.get_by_role("button", name="Settings").click()
        dialog.get_by_role("button", name="Delete this project…").click()
        expect(dialog.get_by_role("button", name="Delete", exact=True)).to_be_disabled()
        dialog.get_by_label("Type the project's name").fill("Harbour at night")
        expect(page.get_by_role("heading", name="Harbour at night")).to_be_visible()
        dialog.get_by_role("button", name=verb, exact=True).click()
    expect(page.get_by_role("button", name="Harbour at night")).to_have_count(0)
    assert "Harbour at night" not in json.dumps(site.call("GET", "/v1/projects"))


def test_the_first_key_leads_past_a_long_list_of_projects(open_project: Callable[..., Watched]) -> None:
    page = open_project().page
    field = page.get_by_role("textbox", name="Message")
    expect(field).to_be_focused()
    page.get_by_role("button", name="New", exact=True).focus()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="To the message field")).to_be_focused()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()


def test_shift_and_enter_makes_a_new_line_and_enter_sends(site: Site, open_project: Callable[..., Watched]) -> None:
    site.model.say("two lines", {"text": "Seen."})
    page = open_project().page
    field = page.get_by_role("textbox", name="Message")
    field.press_sequentially("two lines")
    page.keyboard.press("Shift+Enter")
    field.press_sequentially("indeed")
    expect(field).to_have_value("two lines\nindeed")
    page.keyboard.press("Enter")
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    expect(page.locator("li.user .bubble")).to_have_text("two lines\nindeed")
    expect(newest(page)).to_have_attribute("data-status", "success")


def test_a_message_that_is_too_long_can_not_be_sent(open_project: Callable[..., Watched]) -> None:
    page = open_project().page
    page.get_by_role("textbox", name="Message").fill("x" * 32_001)
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.get_by_text("32,001 of 32,000 characters")).to_be_visible()


def test_the_page_says_that_the_model_is_scripted(stack: Callable[..., Stack], watch: Callable[..., Watched]) -> None:
    scripted = stack(workers=0, sweepers=0, settings={"CHATRELAY_SCRIPTED_MODEL": "true"})
    page = watch(scripted.urls[0]).page
    page.goto(f"{scripted.urls[0]}/#token={scripted.token}")
    page.get_by_role("main").get_by_role("button", name="New project").click()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("built-in scripted model")).to_be_visible()


def test_the_page_names_the_model_that_answers(site: Site, open_project: Callable[..., Watched]) -> None:
    facts = site.call("GET", "/page.json")
    expect(open_project().page.get_by_text(facts["model"])).to_be_visible()


# What the page is allowed


def test_the_page_runs_under_a_policy_without_inline_code_and_other_origins(site: Site) -> None:
    policy = httpx.get(f"{site.origin}/").headers["Content-Security-Policy"]
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert directives["script-src"] == ["'self'"]
    assert directives["style-src"] == ["'self'"]
    assert directives["connect-src"] == ["'self'"]
    assert directives["default-src"] == ["'self'"]
    assert directives["base-uri"] == ["'none'"]


def test_what_a_model_writes_loads_nothing_from_elsewhere(site: Site, open_project: Callable[..., Watched]) -> None:
    text = "![pixel](https://example.com/p.png) <img src=https://example.com/q.png> [x](javascript:alert(1)) end"
    site.model.say("something bad", {"text": text})
    page = open_project().page
    ask(page, "Write something bad")
    expect(newest(page)).to_have_attribute("data-status", "success")
    assert newest(page).locator("img").count() == 0
    links = newest(page).locator("a[href]")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.com/p.png"]


def test_the_highlighter_is_asked_for_when_there_is_code_and_not_before(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    site.model.say("in words", {"text": "No code, but `a word` of it."})
    site.model.say("in code", {"text": "```python\nwhile True:\n    pass\n```\n"})
    page = open_project().page
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(urlsplit(request.url).path))
    ask(page, "in words")
    expect(newest(page)).to_have_attribute("data-status", "success")
    assert "/static/vendor/highlight.js" not in asked_for
    ask(page, "in code")
    expect(newest(page).locator(".hljs-keyword").first).to_have_text("while")
    assert asked_for.count("/static/vendor/highlight.js") == 1
