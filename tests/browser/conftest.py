"""A headless Chromium, and pages in it that tell when something went wrong in them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.site import Site, Watched
from tests.stack import Stack

STATIC = Path(__file__).parents[2] / "api" / "static"

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens pages at an origin. At the end none may have complained: no error or warning on the console (a violation of
    the content security policy is one), no exception, no request to another origin.
    """
    watched: list[Watched] = []

    def open_page(origin: str, **context_options: object) -> Watched:
        options = {"viewport": {"width": 1280, "height": 800}, **context_options}
        opened = Watched(browser.new_context(**options), origin)  # type: ignore[arg-type]  # options are Playwright's own
        watched.append(opened)
        return opened

    yield open_page
    for one in watched:
        one.context.close()
    assert [complaint for one in watched if not one.is_attacked for complaint in one.complaints] == []


class _StaticFiles(SimpleHTTPRequestHandler):
    """The page's files under /static, without the API."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/static"))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def static_origin() -> Iterator[str]:
    """The origin of a server that has only the page's files: enough to load its modules."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_StaticFiles, directory=str(STATIC)))
    thread = threading.Thread(target=server.serve_forever, name="static files")
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def modules(browser: Browser, static_origin: str) -> Iterator[Page]:
    """A blank page that can import the page's modules from /static/app."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{static_origin}/static/vendor/LICENSE-htm.txt")
    yield page
    context.close()


@pytest.fixture
def site(shared_stack: Stack) -> Site:
    """The running product, with a user who is new to it."""
    token, _ = shared_stack.store.create_token(f"reader-{uuid4()}")
    return Site(shared_stack.urls[0], token, shared_stack.model)
