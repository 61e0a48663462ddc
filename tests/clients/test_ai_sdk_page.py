"""`useChat` in a page in Chromium, with React's StrictMode: what a person sees is what the row says."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.clients.chat import Chat
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Programs
from tests.stack import Stack

PAGE: Final = "ai_page.jsx"
CLIENTS: Final = {
    "7": {"version": 7, "transport": "http", "sdk": 7},
    "7 over a socket": {"version": 7, "transport": "ws"},
    "6": {"version": 6, "transport": "http", "sdk": 6},
}
EVERY_CLIENT = pytest.mark.parametrize("client", CLIENTS)
WAIT_MS: Final = 30_000
HTML: Final = (
    '<!doctype html><meta charset="utf-8"><div id="root"></div><script type="module" src="/ai-page.js"></script>'
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # a page that the test serves counts as one of another network, which may open no socket to this one
        arguments = [*CHROMIUM_ARGUMENTS, "--disable-features=LocalNetworkAccessChecks"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def bundles(programs: Programs) -> dict[int, str]:
    """The page, with everything that it imports, for each version."""
    return {
        7: programs.bundle(PAGE),
        6: programs.bundle(PAGE, {"ai": "ai6", "@ai-sdk/react": "@ai-sdk/react6"}),
    }


class Shown:
    """A page of one client."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def answer(self) -> Locator:
        """The newest answer."""
        return self.page.locator("article[data-role=assistant]").last

    def send(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.click("Send")

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def expect_text(self, text: str) -> None:
        expect(self.answer).to_have_text(text, timeout=WAIT_MS)

    def expect_status(self, status: str) -> None:
        expect(self.page.locator("main")).to_have_attribute("data-status", status, timeout=WAIT_MS)

    def come_into_sight(self) -> None:
        """As a page that somebody looks at again: `useChat` then resumes what a lost connection broke off."""
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.fixture
def show(chromium: Browser, bundles: dict[int, str], chat: Chat) -> Iterator[Callable[..., Shown]]:
    """Opens the page of a client, at an origin where the API is too."""
    opened = []

    def show(client: str, chat: Chat = chat, origin: str | None = None) -> Shown:
        task: dict[str, Any] = {**CLIENTS[client], "projectId": chat.project_id, "token": chat.token}
        context = chromium.new_context()
        opened.append(context)
        page = context.new_page()
        page.add_init_script(f"window.task = {json.dumps(task)}")
        source = bundles[task["version"]]

        def serve(route: Route) -> None:
            is_script = route.request.url.endswith(".js")
            kind = "text/javascript" if is_script else "text/html"
            route.fulfill(content_type=kind, body=source if is_script else HTML)

        page.route(re.compile(r"/ai-page(\.js)?$"), serve)
        page.goto(f"{origin or chat.url}/ai-page")
        shown = Shown(page)
        shown.expect_status("ready")
        return shown

    yield show
    for context in opened:
        context.close()


def newest(chat: Chat) -> dict[str, Any]:
    items = chat.stack.client(-1).get(f"/v1/projects/{chat.project_id}/messages").raise_for_status().json()["items"]
    found: dict[str, Any] = next(item for item in items if item["role"] == "assistant")
    return found


@EVERY_CLIENT
def test_an_answer_is_seen_as_it_is_written_and_outlives_a_reload(
    show: Callable[..., Shown], chat: Chat, client: str
) -> None:
    """The page that is opened in the middle shows it from its start, once, and no answer is cancelled by looking away."""
    gate = f"reloaded {client}"
    patch = {"operations": [{"op": "add", "path": "/colour", "value": "green"}], "explanation": "Grass"}
    content = chat.script(
        [{"text": "I paint it. "}, {"tool": {"name": "applyJsonPatch", "arguments": patch}}],
        [{"text": "Half"}, {"hold": gate}, {"text": " and half."}],
    )
    shown = show(client)
    shown.send(content)
    expect(shown.answer.locator(".text").last).to_contain_text("Half", timeout=WAIT_MS)
    expect(shown.answer.locator("code")).to_have_attribute("data-state", "output-available")
    shown.expect_status("streaming")
    shown.page.reload()
    expect(shown.answer.locator(".text").last).to_contain_text("Half", timeout=WAIT_MS)
    chat.stack.model.release(gate)
    shown.expect_status("ready")
    row = newest(chat)
    assert (row["status"], row["content"]) == ("success", "I paint it. \n\nHalf and half.")
    assert "".join(shown.answer.locator(".text").all_text_contents()) == row["content"]
    expect(shown.answer).to_have_attribute("data-id", row["id"])
    expect(shown.page.locator("article[data-role=assistant]")).to_have_count(1)


@EVERY_CLIENT
def test_an_answer_that_is_stopped_stays_as_far_as_it_came(show: Callable[..., Shown], chat: Chat, client: str) -> None:
    content = chat.script([{"text": "As far as this"}, {"hold": "for ever"}])
    shown = show(client)
    shown.send(content)
    shown.expect_text("As far as this")
    with shown.page.expect_response(re.compile("/stop$")):
        shown.click("Stop")
    shown.expect_status("ready")
    shown.expect_text("As far as this")
    chat.stack.model.wait_disconnected(0)
    shown.page.reload()
    shown.expect_status("ready")


@EVERY_CLIENT
def test_an_answer_that_begins_anew_is_seen_as_the_row_says(
    show: Callable[..., Shown], chat: Chat, client: str
) -> None:
    """Version 7 takes it back in place; 6 resumes when the page is looked at again. Regenerated, it is replaced."""
    content = chat.script([])
    gates = [f"{content} {number}" for number in range(2)]
    broken = {"steps": [{"text": "It was a dark and st"}, {"hold": gates[0]}, {"cut": "rst"}]}
    whole = {"steps": [{"text": "It was a bright "}, {"hold": gates[1]}, {"text": "morning."}]}
    chat.stack.model.on(content, {"rounds": [{"attempts": [broken, whole]}]})
    shown = show(client)
    shown.send(content)
    shown.expect_text("It was a dark and st")
    chat.stack.model.release(gates[0])
    if client == "6":
        shown.expect_status("error")
        shown.come_into_sight()
    shown.expect_text("It was a bright ")
    chat.stack.model.release(gates[1])
    shown.expect_status("ready")
    shown.expect_text("It was a bright morning.")
    chat.stack.model.on(content, {"rounds": [{"steps": [{"text": "It was noon."}]}]})
    shown.click("Regenerate")
    shown.expect_text("It was noon.")
    expect(shown.page.locator("article[data-role=assistant]")).to_have_count(1)
    assert newest(chat)["content"] == "It was noon."


@EVERY_CLIENT
def test_a_connection_that_is_cut_is_taken_up_when_the_page_is_looked_at(
    show: Callable[..., Shown], chat: Chat, client: str
) -> None:
    """No character is lost, none is seen twice."""
    text = "".join(f"{number} 🦀 ähm … " for number in range(60))
    gate = f"cut {client}"
    content = chat.script([{"text": text, "chunk_size": 11, "pace": 0.003}, {"hold": gate}, {"text": "The end."}])
    with cut_streams(chat.url, [2500]) as proxy:
        shown = show(client, origin=proxy.url)
        shown.send(content)
        shown.expect_status("error")
        assert proxy.made == 1
        shown.come_into_sight()
        shown.expect_text(text)
        chat.stack.model.release(gate)
        shown.expect_status("ready")
        shown.expect_text(text + "The end.")


@EVERY_CLIENT
def test_a_refusal_is_seen(show: Callable[..., Shown], chat: Chat, client: str) -> None:
    shown = show(client)
    shown.send("x" * 32_001)
    shown.expect_status("error")
    expect(shown.page.locator("main")).to_have_attribute("data-error", re.compile("1 to 32000 characters"))


def test_a_server_that_is_drained_and_a_component_that_is_built(
    show: Callable[..., Shown], stack: Callable[..., Stack]
) -> None:
    """The page takes the answer up where the server was; the job is seen through its phases. Each client in its turn."""
    chat = Chat(stack(webs=1, workers=1, builders=1))
    call = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "confetti", "name": "Confetti"}}
    for client in CLIENTS:
        print(f"client {client}")
        gate = f"drained {client}"
        shown = show(client, chat)
        shown.send(chat.script([{"text": "Before, "}, {"hold": gate}, {"text": "and after."}, {"tool": call}]))
        shown.expect_text("Before, ")
        chat.stack.kill("web-1", signal.SIGTERM)
        shown.expect_status("error")
        chat.stack.wait_ended("web-1", timeout_s=30)
        chat.stack.restart("web-1")
        shown.come_into_sight()
        shown.expect_status("streaming")
        chat.stack.model.release(gate)
        expect(shown.answer.locator("output")).to_contain_text("Confetti building", timeout=WAIT_MS)
        shown.expect_status("ready")
        expect(shown.answer.locator("output")).to_contain_text("Confetti success")
        assert "".join(shown.answer.locator(".text").all_text_contents()) == newest(chat)["content"]
