"""Built components on the page: from words to a card, a preview, a place in the video; and what hostile ones cannot do."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import FrameLocator, Locator, Page, expect
from sqlalchemy import NullPool, create_engine, text

from shared.engine import sqlalchemy_url
from tests.browser.site import STEP_TIMEOUT_MS, Site, Watched
from tests.stack import Stack
from worker.compiler import REMOTION

expect.set_options(timeout=STEP_TIMEOUT_MS)

COUNTER = """\
import { AbsoluteFill, useCurrentFrame } from "remotion";
export default function Counter() {
  return <AbsoluteFill><p>at {useCurrentFrame()}</p></AbsoluteFill>;
}
"""


@pytest.fixture(scope="module")
def building(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack with a builder, for the whole module."""
    from tests.stack import StackStarter

    databases = (request.getfixturevalue("postgres_databases"), request.getfixturevalue("valkey_databases"))
    with StackStarter(*databases) as starter:
        yield starter(builders=1)


@pytest.fixture
def site(building: Stack) -> Site:
    building.model.reset()
    token, _ = building.store.create_token(f"reader-{uuid4()}")
    return Site(building.urls[0], token, building.model)


@pytest.fixture
def project(site: Site) -> dict[str, Any]:
    made: dict[str, Any] = site.call("POST", "/v1/projects", {"name": "Clip", "template": "video"})
    return made


@pytest.fixture
def open_project(site: Site, watch: Callable[..., Watched], project: dict[str, Any]) -> Callable[..., Watched]:
    def open_it(**options: object) -> Watched:
        watched = watch(site.origin, **{"reduced_motion": "reduce", **options})
        watched.page.goto(f"{watched.origin}/#token={site.token}&project={project['id']}")
        expect(watched.page.locator("[data-version]")).to_be_attached()
        return watched

    return open_it


def ask(page: Page, words: str) -> None:
    page.get_by_role("textbox", name="Message").fill(words)
    page.keyboard.press("Enter")


def build(site: Site, page: Page, source: str | None = None, words: str = "Build a ball component called Ball") -> Locator:
    """Asks for a component, of this source where there is one; its card once it is built."""
    if source is not None:
        site.model.say("Write the component", {"text": f"```tsx\n{source}```\n"})
    ask(page, words)
    card = page.locator(".job-card").last
    expect(card).to_have_attribute("data-status", "success")
    return card


def inside(player: Locator) -> FrameLocator:
    return player.frame_locator("iframe")


def test_a_component_is_built_from_words_previewed_scrubbed_placed_and_plays_in_the_video(
    site: Site, open_project: Callable[..., Watched]
) -> None:
    page = open_project().page
    card = build(site, page, COUNTER)
    card.get_by_role("button", name="Preview").click()
    player = card.locator(".player")
    expect(inside(player).get_by_text("at 0", exact=True)).to_be_visible()
    scrubber = player.get_by_role("slider", name="Frame")
    scrubber.focus()
    page.keyboard.press("ArrowRight")
    expect(inside(player).get_by_text("at 1", exact=True)).to_be_visible()
    scrubber.fill("42")
    expect(inside(player).get_by_text("at 42", exact=True)).to_be_visible()
    card.get_by_role("button", name="Source").click()
    expect(card.locator(".job-source code")).to_have_text(COUNTER)
    card.get_by_role("button", name="Add to the video").click()
    expect(card.locator(".job-placed")).to_be_visible()
    video = page.locator(".preview .player")
    expect(inside(video).get_by_text("Welcome")).to_be_attached()
    video.get_by_role("slider").fill("370")  # it begins after twelve seconds of thirty frames
    expect(inside(video).get_by_text("at 10", exact=True)).to_be_visible()
    video.get_by_role("button", name="Play").click()
    expect(video).to_have_attribute("data-frame", "509")


def test_the_shim_has_what_the_compiler_allows(modules: Page) -> None:
    names = modules.evaluate("async () => Object.keys(await import('/static/preview/remotion.js'))")
    assert sorted(names) == sorted(REMOTION)
