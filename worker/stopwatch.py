"""Where the time of one turn goes: a claim's figures for its row and for the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared import metrics, traces
from shared.events import Stages
from shared.metrics import Stage
from worker.publisher import Publisher


class Stopwatch:
    """Of one claim. By `time.monotonic`; `enqueued_at` was the database's clock's at the claim."""

    def __init__(self, publisher: Publisher, *, enqueued_at: float) -> None:
        self._publisher = publisher
        self._enqueued_at = enqueued_at
        self._context_s: float | None = None
        self._connect_s: float | None = None
        self._headers_at: float | None = None
        self._tools_s: float | None = None
        self._ended_at: float | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The context is read. Only what led to the first text counts."""
        began = time.monotonic()
        with traces.span("context"):
            yield
        if self._publisher.first_text_at is None:
            self._context_s = time.monotonic() - began

    def connected(self, asked_at: float) -> None:
        """The provider's headers came. Only those before the first text count."""
        if self._publisher.first_text_at is None:
            self._headers_at = time.monotonic()
            self._connect_s = self._headers_at - asked_at

    @contextmanager
    def running_tool(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._tools_s = (self._tools_s or 0.0) + time.monotonic() - began

    def ended(self) -> None:
        """It is known how the turn ends; what is left is to commit it."""
        self._ended_at = time.monotonic()

    def first_token_ms(self) -> int | None:
        return self._since_enqueued(self._publisher.first_token_at)

    def stages(self, *, rounds: int) -> Stages:
        """As the row tells them; to be called when the commit is sent."""
        return Stages(
            context_ms=_ms(self._context_s),
            connect_ms=_ms(self._connect_s),
            first_append_ms=self._since_enqueued(self._publisher.first_append_at),
            first_byte_ms=self._since_enqueued(self._publisher.first_text_at),
            tools_ms=_ms(self._tools_s),
            rounds=rounds,
            commit_ms=_ms(self._commit_s()),
        )

    def observe(self, model: str, *, queued_s: float) -> None:
        """The turn is committed: tell the metrics."""
        publisher = self._publisher
        took = {
            Stage.QUEUE: max(0.0, queued_s),
            Stage.CONTEXT: self._context_s,
            Stage.CONNECT: self._connect_s,
            Stage.FIRST_BYTE: _between(self._headers_at, publisher.first_text_at),
            Stage.APPEND: _between(publisher.first_text_at, publisher.first_token_at),
            Stage.TOOLS: self._tools_s,
            Stage.COMMIT: self._commit_s(),
        }
        label = metrics.model_label(model)
        for stage, seconds in took.items():
            if seconds is not None:
                metrics.STAGE.observe(seconds, stage, label)

    def _commit_s(self) -> float | None:
        return None if self._ended_at is None else time.monotonic() - self._ended_at

    def _since_enqueued(self, at: float | None) -> int | None:
        return None if at is None else max(0, round((at - self._enqueued_at) * 1000))


def _between(first: float | None, then: float | None) -> float | None:
    return None if first is None or then is None else max(0.0, then - first)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1000))
