"""Every metric of every process: its name, labels and meaning. docs/metrics.md, the dashboard and the alerts are held to it.

As loggers are, metrics are the process's: whoever knows that something happened says so here, and `shared.exporter` tells
scrapers. Labels are enums, names that were registered, or "other": never an id, never a user's text.

The exporter's library keeps its figures in the process, or, where several processes are scraped as one, in files that they
share (`share`). Nothing is made before it is first used, so that a process can say so first.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final

import prometheus_client
from prometheus_client import CollectorRegistry, values

from shared import events
from shared.lifecycle import FINAL, ErrorCode
from shared.records import Ending

OTHER: Final = "other"
NO_CODE: Final = "none"

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of which nobody asks anything
REGISTRY: Final = CollectorRegistry(auto_describe=False)
"""What this process counts itself."""
_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
_lock: Final = threading.Lock()


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(ABC):
    kind: ClassVar[Kind]

    def __init__(self, name: str, meaning: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.meaning = meaning
        self.labels = labels
        ALL.append(self)

    @property
    def samples(self) -> dict[str, frozenset[str]]:
        """The names under which a query finds it, each with the labels that it has there."""
        return {self.name: frozenset(self.labels)}

    @abstractmethod
    def touch(self) -> None:
        """Have it told as 0 before anything happened, where it has no labels."""


class Counter(Metric):
    kind = Kind.COUNTER
    _made: prometheus_client.Counter | None = None

    def add(self, *labels: str, by: float = 1) -> None:
        made = self._made or self._make()
        (made.labels(*labels) if labels else made).inc(by)

    def touch(self) -> None:
        if not self.labels:
            self._make()

    def _make(self) -> prometheus_client.Counter:
        with _lock:
            if self._made is None:
                self._made = prometheus_client.Counter(self.name, self.meaning, self.labels, registry=REGISTRY)
            return self._made


class Gauge(Metric):
    """Of what a process has now: the sum over the processes that live."""

    kind = Kind.GAUGE
    _made: prometheus_client.Gauge | None = None

    def set(self, value: float, *labels: str) -> None:
        made = self._made or self._make()
        (made.labels(*labels) if labels else made).set(value)

    def touch(self) -> None:
        """Only who sets it has it."""

    def _make(self) -> prometheus_client.Gauge:
        with _lock:
            if self._made is None:
                self._made = prometheus_client.Gauge(
                    self.name, self.meaning, self.labels, registry=REGISTRY, multiprocess_mode="livesum"
                )
            return self._made


class Asked(Gauge):
    """Of what the database says, whichever process is asked: `shared.exporter` tells it. Never to be summed."""


class Histogram(Metric):
    """Of seconds."""

    kind = Kind.HISTOGRAM
    _made: prometheus_client.Histogram | None = None

    @property
    def samples(self) -> dict[str, frozenset[str]]:
        labels = frozenset(self.labels)
        return {
            f"{self.name}_bucket": labels | {"le"},
            f"{self.name}_sum": labels,
            f"{self.name}_count": labels,
        }

    def observe(self, seconds: float, *labels: str) -> None:
        made = self._made or self._make()
        (made.labels(*labels) if labels else made).observe(seconds)

    def touch(self) -> None:
        """What never happened took no time."""

    def _make(self) -> prometheus_client.Histogram:
        with _lock:
            if self._made is None:
                self._made = prometheus_client.Histogram(
                    self.name, self.meaning, self.labels, registry=REGISTRY, buckets=_SECONDS
                )
            return self._made


class Tally:
    """A counter for an event loop's hot path: `count` is added to as a plain number there, and handed on now and then."""

    __slots__ = ("_counter", "_handed", "_labels", "_lock", "count")

    def __init__(self, counter: Counter, *labels: str) -> None:
        self.count = 0
        self._counter = counter
        self._labels = labels
        self._handed = 0
        self._lock = threading.Lock()

    def hand_over(self) -> None:
        """Harmless from any thread."""
        with self._lock:
            more = self.count - self._handed
            if more:
                self._counter.add(*self._labels, by=more)
                self._handed += more


ALL: Final[list[Metric]] = []


class Stage(StrEnum):
    """Where a turn's time goes."""

    QUEUE = "queue"
    CONTEXT = "context"
    CONNECT = "connect"
    FIRST_BYTE = "first_byte"
    APPEND = "append"
    TOOLS = "tools"
    COMMIT = "commit"


class AttemptReason(StrEnum):
    """Why an attempt was begun."""

    CLAIM = "claim"
    BUILD = "build"
    PROVIDER = "provider"
    LOG_LOST = "log_lost"
    CLOSING = "closing"


# --- a message's life ---------------------------------------------------------------------------------------------

SUBMITTED: Final = Counter(
    "chatrelay_messages_submitted_total", "Questions that were taken; one that repeats a key is not counted again."
)
CANCELS: Final = Counter("chatrelay_cancels_total", "Cancels that were asked for and accepted.")
RETRIES: Final = Counter("chatrelay_retries_total", "Final messages that somebody put back in the queue.")
ENDED: Final = Counter(
    "chatrelay_messages_total",
    'Messages that became final, by status and error code ("none" where it is no error), counted by whoever committed.',
    ("status", "code"),
)
FIRST_TOKEN: Final = Histogram(
    "chatrelay_first_token_seconds",
    "From the submit to the first token in the log, of messages that became final with one.",
    ("model",),
)
COMPLETION: Final = Histogram(
    "chatrelay_completion_seconds", "From the submit to the final commit, builds included.", ("model", "status")
)
STAGE: Final = Histogram(
    "chatrelay_stage_seconds",
    "Where turns' time went: queue (submit to first claim), context (reading project and conversation), connect (request "
    "to the provider's headers), first_byte (headers to the first text), append (first text to its acknowledgement), tools "
    "(all of a turn), commit (the answer's end to its commit). Told when a turn ends.",
    ("stage", "model"),
)
TOKENS: Final = Counter(
    "chatrelay_tokens_total",
    "Tokens as the provider counts them, prompt or completion, of every answer that came to its end.",
    ("kind", "model"),
)
PROVIDER_FAILURES: Final = Counter(
    "chatrelay_provider_failures_total",
    "Calls of the model that failed, by error code; most are tried again.",
    ("code", "model"),
)
TOOL_CALLS: Final = Counter(
    "chatrelay_tool_calls_total",
    'Tool calls that were made or refused; a name that no tool has is "other".',
    ("tool", "success"),
)
BUILDS: Final = Counter("chatrelay_builds_total", "Component jobs that ended, by what became of them.", ("outcome",))
BUILD_PHASE: Final = Histogram(
    "chatrelay_build_phase_seconds", "How long a component's sources were in a phase, each try by itself.", ("phase",)
)

# --- attempts and leases ------------------------------------------------------------------------------------------

ATTEMPTS: Final = Counter(
    "chatrelay_attempts_total",
    "Attempts that were begun: claim (a worker took the message), build (a builder did), provider (anew after text was "
    "shown), log_lost (the log was lost), closing (nobody held it and it was ended).",
    ("reason",),
)
ATTEMPTS_LOST: Final = Counter(
    "chatrelay_attempts_lost_total", "Attempts whose lease ran out and was taken away by this sweeper."
)
HANDED_BACK: Final = Counter(
    "chatrelay_attempts_handed_back_total", "Attempts that a stopping process gave back for another to go on."
)
LEASES_LOST: Final = Counter(
    "chatrelay_leases_lost_total", "Messages that this process held until it learned that they are somebody else's."
)
RUNNING: Final = Gauge("chatrelay_messages_running", "Messages that this process holds now: a worker's or a builder's.")
SQL_RETRIES: Final = Counter(
    "chatrelay_sql_retries_total", "Transactions of workers that Postgres did not answer and that were sent again."
)

# --- Redis --------------------------------------------------------------------------------------------------------

LOG_APPENDS: Final = Counter(
    "chatrelay_log_appends_total",
    "Appends to logs by answer: ok, there (repeated), stale (overtaken), lost (the log was emptied), unavailable.",
    ("result",),
)
EVENTS_APPENDED: Final = Counter("chatrelay_events_appended_total", "Events that appends brought into logs.")
PUBLISH_FAILURES: Final = Counter(
    "chatrelay_publish_failures_total", "Notices beside the logs that were not published, since Redis was away."
)
BELLS: Final = Counter(
    "chatrelay_bells_total", "Bells for workers and builders: rung, or lost since the broker was away.", ("result",)
)

# --- readers ------------------------------------------------------------------------------------------------------

REQUESTS_REFUSED: Final = Counter(
    "chatrelay_requests_refused_total",
    "Requests that were refused since there were too many: of one user, of one address, of bad tokens from one address.",
    ("limit",),
)
SOCKETS: Final = Gauge(
    "chatrelay_sockets_open",
    "Readers now: ws (WebSockets), sse (event streams), protocol (those of docs/protocols.md), thread (requests that wait).",
    ("kind",),
)
SOCKETS_CLOSED: Final = Counter(
    "chatrelay_sockets_closed_total",
    'Readers that went, by close code: 4008 too slow, 1008 flood, 1012 restart…; "gone" where the client left by itself.',
    ("code",),
)
READERS_SLOW: Final = Counter(
    "chatrelay_readers_slow_total", "Times that a reader's buffer was full and writing to it stopped."
)
READERS_COMPACTED: Final = Counter(
    "chatrelay_readers_compacted_total", "Times that a slow reader was owed one snapshot in place of deltas."
)
EVENTS_WRITTEN: Final = Counter(
    "chatrelay_events_written_total", "Messages' events that were handed to readers, each reader counted."
)
RELAY: Final = Histogram(
    "chatrelay_relay_seconds",
    "From a lifecycle event's ts, by the clock of who appended it, to its write to the sockets of this process; deltas are "
    "not looked at. Below 0 counts as 0.",
    ("event",),
)
RELAY_BEFORE: Final = Counter(
    "chatrelay_relay_clock_skew_total", "Lifecycle events whose ts lay in the future of this process's clock."
)
SUBSCRIBED: Final = Gauge(
    "chatrelay_subscriptions_up", "API processes whose subscription connection to Redis stands now."
)

# --- asked of the database ----------------------------------------------------------------------------------------

UNFINISHED: Final = Asked("chatrelay_messages_unfinished", "Messages that are not final, by status.", ("status",))
QUEUE_DEPTH: Final = Asked(
    "chatrelay_queue_depth",
    "Messages whose turn it is and that nobody has taken: interactive, builds, batch.",
    ("queue",),
)
QUEUE_OLDEST: Final = Asked(
    "chatrelay_queue_oldest_seconds", "How long the oldest of these has waited; 0 where none waits.", ("queue",)
)
SWEEPER_SILENT: Final = Asked("chatrelay_sweeper_silent_seconds", "Since any sweeper last came round.")
AUDIT: Final = Asked(
    "chatrelay_audit_disagreements",
    "What the last audit of everything found to disagree, and did not mend; absent before one.",
)


# --- labels that are names ----------------------------------------------------------------------------------------

_models: set[str] = set()
_tools: set[str] = set()
_EVENTS: Final = frozenset(events.KINDS)


def know(*, models: Iterable[str] = (), tools: Iterable[str] = ()) -> None:
    """The models and tools that this process serves: every other name is "other"."""
    _models.update(models)
    _tools.update(tools)


def model_label(name: str | None) -> str:
    return name if name is not None and name in _models else OTHER


def tool_label(name: str) -> str:
    return name if name in _tools else OTHER


def event_label(kind: str) -> str:
    return kind if kind in _EVENTS else OTHER


# --- what several places tell in one way --------------------------------------------------------------------------


def message_ended(ending: Ending, model: str | None) -> None:
    """A message's end was committed by this process. A hand-over to a builder is none."""
    if ending.job is not None and ending.job.status not in ("pending", "building"):
        BUILDS.add(ending.job.status.value)
    if ending.status not in FINAL:
        return
    told = [events.decode(payload) for payload in ending.events]
    code = next((event.code for event in told if isinstance(event, events.Error)), NO_CODE)
    ENDED.add(ending.status.value, code)
    finalized, label = told[-1], model_label(model)
    if isinstance(finalized, events.Finalized) and (timing := finalized.timing) is not None:
        COMPLETION.observe(timing.total_ms / 1000, label, ending.status.value)
        if timing.first_token_ms is not None:
            FIRST_TOKEN.observe(timing.first_token_ms / 1000, label)


def provider_failed(code: ErrorCode, model: str) -> None:
    PROVIDER_FAILURES.add(code.value, model_label(model))


def tool_called(call: events.ToolCall) -> None:
    """A call has its result."""
    TOOL_CALLS.add(tool_label(call.name), "true" if call.state == "succeeded" else "false")


def tokens_used(usage: events.Usage | None, model: str) -> None:
    """Of one answer of the provider."""
    if usage is not None:
        label = model_label(model)
        TOKENS.add("prompt", label, by=usage.prompt_tokens)
        TOKENS.add("completion", label, by=usage.completion_tokens)


# --- several processes, scraped as one ----------------------------------------------------------------------------

_directory: Path | None = None


def share(directory: Path) -> None:
    """Keep figures in files of `directory` from now on: for a process before it forks those that count, and for these.

    To be called before anything is counted. Harmless a second time.
    """
    global _directory
    if _directory is None:
        _directory = directory
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)  # where the library looks for it
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def shared_directory() -> Path | None:
    return _directory
