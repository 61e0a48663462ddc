"""What a browser test has in hand: the server with a user on it, and a page that is watched."""

from __future__ import annotations

from typing import Any

import httpx
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

from dev.scripted_model.control import ScriptedModel

STEP_TIMEOUT_MS = 20_000
"""How long a page may take to show what a test waits for; the tests' machines are small and shared."""


class Site:
    """The page's server, a user's token, and the model behind it."""

    def __init__(self, origin: str, token: str, model: ScriptedModel) -> None:
        self.origin = origin
        self.token = token
        self.model = model

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """One call of the API; its answer, None where it has no body."""
        response = httpx.request(
            method,
            self.origin + path,
            headers={"Authorization": f"Bearer {self.token}", **headers},
            json=body,
            timeout=STEP_TIMEOUT_MS / 1000,
        )
        response.raise_for_status()
        return response.json() if response.content else None


class Watched:
    """A page in a context of its own, and everything that it did which a good page does not do."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(STEP_TIMEOUT_MS)
        self.origin = origin
        self.complaints: list[str] = []
        self.is_attacked = False
        """Set by a test that shows a hostile component: the browser tells of each attempt that it refuses."""
        self.allows_failed_loads = False
        """Set by a test that takes the network away: the browser itself reports what it could not load."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error.stack or error}"))
        self.page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        is_of_the_network = message.text.startswith(("Failed to load resource", "WebSocket connection to"))
        if not (is_of_the_network and self.allows_failed_loads):
            self.complaints.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:")):
            self.complaints.append(f"request to another origin: {request.url}")
