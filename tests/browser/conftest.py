"""A headless Chromium, and pages in it that tell when something went wrong in them."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.site import Site, Watched
from tests.stack import Stack

HERE: Final = Path(__file__).parent
STATIC = HERE.parents[1] / "api" / "static"

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

RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
AXE_INSTALL_TIMEOUT_S: Final = 150.0
CHECK: Final = """async (rules) => {
    // what moves in is not looked at half faded
    await Promise.allSettled(document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity)
        .map((one) => one.finished));
    const found = await axe.run(document, { runOnly: rules, resultTypes: ["violations"], iframes: false });
    // an open item of a tree is named by its row, of which the items in it are no part: axe compares it with all of them
    const isExempt = (id, node) => id === "label-content-name-mismatch" && node.html.startsWith('<li role="treeitem"');
    return found.violations.flatMap(({ id, help, nodes }) =>
        nodes.filter((node) => !isExempt(id, node)).map((node) =>
            `${id} (${help}): ${node.html.slice(0, 160)} ${node.failureSummary}`));
}"""


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


@pytest.fixture
def operator(shared_stack: Stack) -> Site:
    """The running product, with somebody who may see how all of it is doing."""
    token, _ = shared_stack.store.create_token(f"operator-{uuid4()}", scopes=frozenset({"ops"}))
    return Site(shared_stack.urls[0], token, shared_stack.model)


# --- what axe-core says -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program text of axe-core, from npm."""
    directory = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, directory)
    subprocess.run(["npm", "ci", "--silent"], cwd=directory, check=True, timeout=AXE_INSTALL_TIMEOUT_S)
    return (directory / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(params=["wide, light", "wide, dark", "narrow, light", "narrow, dark"])
def look(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A browser context's size and theme."""
    size, theme = request.param.split(", ")
    viewport = {"width": 1280, "height": 800} if size == "wide" else {"width": 390, "height": 800}
    return {"viewport": viewport, "color_scheme": theme, "reduced_motion": "reduce"}


@pytest.fixture
def check(axe: str) -> Callable[[Page, str], None]:
    """Fails with what axe-core has to say of the page as it is now."""

    def check_it(page: Page, state: str) -> None:
        page.evaluate(axe)
        assert page.evaluate(CHECK, list(RULES)) == [], state

    return check_it
