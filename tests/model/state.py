"""What the model's world is made of: one message's row, its log, two workers, the sweeper, one reader. All of it is values.

A state is a tuple of tuples, so that it can be compared, hashed and kept by the million. Statuses, words and ids are the
product's own (`MessageStatus`, `Word`, `EventId`).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from shared.events import EventId
from shared.lifecycle import MessageStatus
from shared.transcript import NOWHERE


class Event(NamedTuple):
    """One StreamEvent, as far as it matters here. `calls` is the state of the run's only tool call, "" while it has none."""

    id: EventId
    kind: str
    text: str = ""
    status: str = ""
    calls: str = ""
    from_n: int = -1
    """Of a merged delta: the n of its first one."""


class Row(NamedTuple):
    """The message in Postgres, with its rounds, its ledger and the document that its tool changes."""

    status: MessageStatus = MessageStatus.PENDING
    attempt: int = 0
    run: int = 1
    owner: int = 0
    """`Worker.name` of who holds the lease; 0: nobody."""
    tries: int = 0
    content: str = ""
    round_text: str = ""
    """The text of the run's stored round; "" while none is stored."""
    last: EventId | None = None
    ending: tuple[Event, ...] = ()
    appended: bool = True
    cancel: bool = False
    has_job: bool = False
    effects: int = 0
    """How often the tool took effect: the document's version, or how many jobs were started."""
    ledger: tuple[int, ...] = ()
    """The runs whose call is in the ledger."""
    ends: tuple[Event, ...] = ()
    """For the checks alone: every `finalized` that was ever committed, with the content it stood for."""

    @property
    def is_final(self) -> bool:
        return self.status not in (MessageStatus.PENDING, MessageStatus.BUILDING)

    @property
    def calls(self) -> str:
        """The run's tool call as the ledger has it."""
        return "succeeded" if self.run in self.ledger else ""


class Chapter(IntEnum):
    """What a worker does next."""

    OPEN = 1
    DELTA_A = 2
    STORE_ROUND = 3
    TOOL_START = 4
    EFFECT = 5
    LEDGER = 6
    """Only where effect and ledger are apart."""
    TOOL_RESULT = 7
    DELTA_B = 8
    FINALIZE = 9
    TELL = 10


class Worker(NamedTuple):
    """Somebody who claimed the message and is not gone. `name`: the attempt of the claim."""

    name: int
    attempt: int
    n: int
    """Of its next event."""
    chapter: Chapter
    after_open: Chapter
    """OPEN once it has opened its attempt."""
    run: int
    content: str
    calls: str
    status: str
    """The row's, while it is held: `pending`, or `building` for a builder."""
    waiting: tuple[Event, ...] = ()
    """Numbered, not acknowledged."""
    above: int = -1
    """The log was lost: an attempt above this one is to be taken. -1: it was not."""
    outcome: str = ""
    """The status that it will end the message with, where that is not the story's."""
    ending: tuple[Event, ...] = ()
    is_repeating: bool = False
    """The reply to its last write was lost; until it is written, nothing else is done."""
    is_expired: bool = False
    """It was paused beyond its lease."""
    is_past_check: bool = False
    """It was paused after it had looked at its lease and before the append left."""


class Closing(NamedTuple):
    """What somebody who closes an abandoned message has read."""

    seen_attempt: int
    content: str
    above: int
    is_cancel: bool


class Link(IntEnum):
    """A reader's subscription."""

    ASKED = 0
    STANDS = 1
    DOWN = 2


class Phase(IntEnum):
    """`api.readers.State`."""

    SETTLING = 0
    FETCHING = 1
    LIVE = 2
    SLOW = 3
    LEFT = 4


class RowView(NamedTuple):
    """What a reader takes from the row: `shared.records.ReaderRow`."""

    status: MessageStatus
    last: EventId | None
    content: str
    calls: str
    ending: tuple[Event, ...]


class Reader(NamedTuple):
    """A client that shows the message, and its place in an API process."""

    phase: Phase = Phase.SETTLING
    link: Link = Link.ASKED
    position: EventId = NOWHERE
    content: str = ""
    status: str = "pending"
    calls: str = ""
    is_compacted: bool = False
    is_lacking: bool = False
    view: RowView | None = None
    """The row as it was read, while the log has yet to be."""
    is_patient: bool = True
    backlog: tuple[Event, ...] = ()
    """Published and not handled yet."""


class State(NamedTuple):
    row: Row
    log: tuple[Event, ...]
    redis_is_up: bool
    workers: tuple[Worker, ...]
    closing: Closing | None
    reader: Reader
    faults: int
    """Faults that may still happen; as `cancels` and `retries`."""
    cancels: int
    retries: int
    log_is_whole: bool = True
    """For the checks alone: nothing has happened that may cost the log an event."""
    broken: str = ""
    """The promise that the step to here has broken."""


class Story(StrEnum):
    """What the message is about."""

    TEXT = "text"
    """Two deltas."""
    TOOL = "tool"
    """A round with a tool call, then a round of text."""
    COMPONENT = "component"
    """A round whose call starts a component job; then a builder's attempt."""


class Fault(StrEnum):
    KILL = "the worker is killed"
    PAUSE = "the worker is paused beyond its lease"
    WIPE = "Redis is emptied"
    AWAY = "Redis goes away"
    LOST_MESSAGE = "what was published does not reach the reader"
    LOST_REPLY = "the reply is lost"
    RECONNECT = "the reader's connection is reset"
    SLOW = "the reader does not keep up"
    DRAIN = "the worker is told to stop"
    PROVIDER = "the model's stream breaks after text was shown"
    NO_ROW = "Postgres does not answer the reader"


class Bounds(NamedTuple):
    """How much may happen."""

    story: Story = Story.TOOL
    faults: int = 2
    kinds: frozenset[Fault] = frozenset(Fault)
    cancels: int = 0
    retries: int = 0
    max_tries: int = 2
    has_heartbeat: bool = True
    """Whether a worker may look at its lease before its next step."""
    has_latency: bool = False
    """Whether a published event may reach a live reader later than the next step."""

    def start(self) -> State:
        return State(Row(), (), True, (), None, Reader(), self.faults, self.cancels, self.retries)


class Mechanisms(NamedTuple):
    """What the promises stand on. Each can be left out, to see what breaks."""

    sweeper: bool = True
    swept_endings: bool = True
    """The sweeper appends endings that nobody acknowledged."""
    row_as_last_resort: bool = True
    """A reader whom the log cannot serve is served from the row."""
    sql_fence: bool = True
    tool_transaction: bool = True
    gap_filling: bool = True
    idle_check: bool = True
    snapshot: bool = True
    """A new attempt opens with one."""
    id_fence: bool = True
    lost_check: bool = True
    """The log takes only what stands after its last event."""
    whole_beginning: bool = True
    """A log whose first event is not an attempt's first shows nothing to who begins there."""
    subscribe_first: bool = True
    stored_ending: bool = True
    lease_check: bool = True
    """A worker looks at its lease before it appends."""
    repeatable_finalize: bool = True

    def without(self, *names: str) -> Mechanisms:
        return self._replace(**dict.fromkeys(names, False))


class Rules(NamedTuple):
    bounds: Bounds
    mechanisms: Mechanisms


class Label(NamedTuple):
    """A step that was taken: by whom (a worker's name, 0 for anybody else), and the fault in it."""

    step: str
    who: int = 0
    fault: Fault | None = None
    by_user: bool = False
