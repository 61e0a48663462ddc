"""A reader's steps: subscribe, read the row, read the log, be live, look whether something is missing.

`api.catch_up` decides itself (see `product.py`); what is written down here is the order of things in `api.channels`.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.catch_up import Verdict
from shared.events import EventId
from tests.model import product, promises
from tests.model.product import Shown
from tests.model.state import Event, Fault, Label, Link, Phase, Reader, Row, RowView, Rules, State

SUBSCRIBED = "Redis acknowledges the reader's subscription"
ROW_READ = "the reader's process reads the row"
LOG_READ = "the reader's process reads the log and sends what is owed"
HEARD = "what was published arrives"
CHECKED = "an idle check finds the reader behind"
DRAINED = "the reader reads again"
WATCHED_AGAIN = "the client watches the message again"

STANDS_FOR = {
    SUBSCRIBED: "api.channels:MessageChannel.on_confirmed",
    ROW_READ: "api.channels:MessageChannel._begin_fetch",
    LOG_READ: "api.channels:MessageChannel._on_decisions",
    HEARD: "api.channels:MessageChannel.on_payload",
    CHECKED: "api.channels:MessageChannel.on_compared",
    DRAINED: "api.channels:MessageChannel.on_resumed",
    WATCHED_AGAIN: "api.hub:Hub.join",
}


def steps(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    """What the reader, or its process, can do next."""
    mechanisms, reader = rules.mechanisms, state.reader
    may_subscribe = reader.phase is not Phase.LEFT if mechanisms.subscribe_first else reader.phase is Phase.LIVE
    if state.redis_is_up and reader.link is not Link.STANDS and may_subscribe:
        yield Label(SUBSCRIBED), state._replace(reader=reader._replace(link=Link.STANDS))
    match reader.phase:
        case Phase.SETTLING:
            if reader.link is not Link.ASKED or not mechanisms.subscribe_first:
                view = view_of(state.row) if mechanisms.row_as_last_resort else None
                reading = reader._replace(phase=Phase.FETCHING, view=view)
                yield Label(ROW_READ), state._replace(reader=reading)
                if reader.is_lacking:
                    yield Label(ROW_READ), state._replace(reader=reading._replace(is_patient=False))
                if view is not None and state.faults and Fault.NO_ROW in rules.bounds.kinds:
                    silent = state._replace(reader=reading._replace(view=None), faults=state.faults - 1)
                    yield Label(ROW_READ, 0, Fault.NO_ROW), silent
        case Phase.FETCHING:
            log = state.log if state.redis_is_up and reader.link is not Link.DOWN else None
            yield Label(LOG_READ), _settled(rules, state, log)
        case Phase.LIVE:
            if reader.backlog:
                first, rest = reader.backlog[0], reader.backlog[1:]
                heard, broken = _offered(rules, reader._replace(backlog=rest), first)
                yield Label(HEARD), state._replace(reader=heard, broken=broken)
            if mechanisms.idle_check and _is_behind(rules, state):
                yield Label(CHECKED), state._replace(reader=reader._replace(phase=Phase.SETTLING))
        case Phase.SLOW:
            yield (
                Label(DRAINED),
                state._replace(reader=reader._replace(phase=Phase.SETTLING, is_compacted=True)),
            )
        case Phase.LEFT:
            row = state.row
            if not row.is_final or (row.last is not None and row.last > reader.position):
                yield Label(WATCHED_AGAIN), state._replace(reader=joined(state))


def joined(state: State) -> Reader:
    """The client comes (again), with `after`: it keeps what it shows, its process knows nothing of it."""
    client = state.reader
    return Reader(
        link=Link.ASKED if state.redis_is_up else Link.DOWN,
        position=client.position,
        content=client.content,
        status=client.status,
        calls=client.calls,
    )


def published(rules: Rules, reader: Reader, events: tuple[Event, ...]) -> tuple[Reader, str]:
    """The reader after these were published, and what that broke."""
    if reader.link is not Link.STANDS:
        return reader, ""
    if reader.phase is Phase.FETCHING or (reader.phase is Phase.LIVE and rules.bounds.has_latency):
        return reader._replace(backlog=reader.backlog + events), ""
    broken = ""
    for event in events:
        if reader.phase is Phase.LIVE and not broken:
            reader, broken = _offered(rules, reader, event)
    return reader, broken


def view_of(row: Row) -> RowView:
    return RowView(row.status, row.last, row.content, row.calls, row.ending)


def _is_behind(rules: Rules, state: State) -> bool:
    reader = state.reader
    view = view_of(state.row) if rules.mechanisms.row_as_last_resort else None
    is_seen = state.log and state.redis_is_up and reader.link is not Link.DOWN
    return product.is_behind(view, state.log[-1].id if is_seen else None, reader.position)


def _settled(rules: Rules, state: State, log: tuple[Event, ...] | None) -> State:
    """`_on_decisions`: what is owed, then what came meanwhile."""
    reader, broken = state.reader, ""
    owed = product.owed(
        reader.view,
        log,
        reader.position,
        reader.is_compacted,
        reader.is_patient,
        whole_beginning=rules.mechanisms.whole_beginning,
    )
    for event in owed.events:
        if not broken:
            reader, broken = _heard(reader, event)
    backlog = reader.backlog
    if owed.verdict is Verdict.DONE:
        return state._replace(reader=_left(reader), broken=broken)
    reader = reader._replace(
        phase=Phase.LIVE,
        position=owed.position,
        is_compacted=False,
        is_lacking=owed.verdict is Verdict.LACKING,
        view=None,
        is_patient=True,
        backlog=(),
    )
    if rules.bounds.has_latency:
        return state._replace(reader=reader._replace(backlog=backlog), broken=broken)
    for event in backlog:
        if reader.phase is Phase.LIVE and not broken:
            reader, broken = _offered(rules, reader, event)
    return state._replace(reader=reader, broken=broken)


def _offered(rules: Rules, reader: Reader, event: Event) -> tuple[Reader, str]:
    """`_offer`, for a reader that is live."""
    id_, at = event.id, reader.position
    is_next = at == EventId(id_.attempt, id_.n - 1) or (id_.n == 0 and at < id_)
    if is_next or (at < id_ and not rules.mechanisms.gap_filling):
        reader, broken = _heard(reader, event)
        return (_left(reader) if product.is_terminal(event) else reader), broken
    if at < id_:
        return reader._replace(phase=Phase.SETTLING), ""
    return reader, ""


def _left(reader: Reader) -> Reader:
    return Reader(Phase.LEFT, Link.ASKED, reader.position, reader.content, reader.status, reader.calls)


def _heard(reader: Reader, event: Event) -> tuple[Reader, str]:
    """The client gets one event."""
    broken = promises.broken_by_hearing(reader.position, reader.content, event)
    shown = product.folded(Shown(reader.content, reader.status, reader.calls), event)
    return (
        reader._replace(position=event.id, content=shown.content, status=shown.status, calls=shown.calls),
        broken,
    )
