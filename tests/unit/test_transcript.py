"""The fold: what a reader shows after some events, and the law of replay."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.event_log import MERGED_MOST_BYTES, Entry, merge
from shared.events import Delta, EventId, StreamEvent
from shared.transcript import NOWHERE, Transcript, fold
from tests.strategies import MESSAGE_ID, LegalLog, legal_logs

_CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "cases" / "fold.json").read_text())


@pytest.mark.parametrize("case", _CASES, ids=[case["name"] for case in _CASES])
def test_the_fold_gives_what_the_page_s_fold_gives(case: dict[str, Any]) -> None:
    """The same cases hold the page's fold, in JavaScript."""
    made = [events.decode(json.dumps(event)) for event in case["events"]]
    folded = fold(Transcript(), made)
    expected = case["expected"]
    assert folded.content == expected["content"]
    assert folded.status == expected["status"]
    assert folded.position == (NOWHERE if expected["position"] is None else EventId.parse(expected["position"]))
    shown = msgspec.to_builtins(folded.tool_calls)
    assert len(shown) == len(expected["toolCalls"])
    for call, wanted in zip(shown, expected["toolCalls"], strict=True):
        assert {name: call.get(name) for name in wanted} == wanted


@given(legal_logs(), st.data())
def test_the_law_of_replay(log: LegalLog, data: st.DataObject) -> None:
    """Who folds a log again from anywhere shows the same: fold(fold(start, log[:n]), log) == fold(start, log)."""
    n = data.draw(st.integers(0, len(log.events)))
    start = Transcript()
    assert fold(fold(start, log.events[:n]), log.events) == fold(start, log.events)


@given(legal_logs(), st.data())
def test_the_law_of_replay_holds_from_every_start(log: LegalLog, data: st.DataObject) -> None:
    n, m = sorted(data.draw(st.tuples(*[st.integers(0, len(log.events))] * 2)))
    start = fold(Transcript(), log.events[:n])
    assert fold(fold(start, log.events[:m]), log.events) == fold(start, log.events)


@given(legal_logs(), st.lists(st.integers(0, 200), max_size=20))
def test_events_that_come_again_change_nothing(log: LegalLog, again: list[int]) -> None:
    """At whatever place older events are repeated, the fold is that of the log."""
    noisy: list[StreamEvent] = []
    for index, event in enumerate(log.events):
        noisy.append(event)
        noisy += [log.events[place] for place in again if place <= index]
    assert fold(Transcript(), noisy) == fold(Transcript(), log.events)


@given(legal_logs())
def test_a_late_reader_shows_what_the_first_one_shows(log: LegalLog) -> None:
    """The newest attempt alone, with neighbouring deltas merged, folds to the same."""
    newest = EventId.parse(log.events[-1].id).attempt
    replay = [entry for entry in _entries(log.events) if entry.id.attempt == newest]
    merged = [events.decode(entry.payload) for entry in merge(replay)]
    assert fold(Transcript(), merged) == fold(Transcript(), log.events)


@given(legal_logs(), st.data())
def test_a_reader_that_comes_back_shows_what_it_would_have_shown(log: LegalLog, data: st.DataObject) -> None:
    """What it missed, merged, on top of what it had."""
    had = data.draw(st.integers(0, len(log.events)))
    before = fold(Transcript(), log.events[:had])
    missed = [events.decode(entry.payload) for entry in merge(_entries(log.events[had:]))]
    assert fold(before, missed) == fold(Transcript(), log.events)


@given(legal_logs(), st.data())
def test_merging_can_be_repeated_and_done_in_parts(log: LegalLog, data: st.DataObject) -> None:
    entries = _entries(log.events)
    cut = data.draw(st.integers(0, len(entries)))
    assert merge(merge(entries)) == merge(entries)
    assert merge([*merge(entries[:cut]), *entries[cut:]]) == merge(entries)


@given(legal_logs())
def test_no_two_neighbours_of_a_merged_replay_are_deltas_of_one_attempt(log: LegalLog) -> None:
    merged = merge(_entries(log.events))
    for entry, following in itertools.pairwise(merged):
        assert (entry.kind, following.kind) != ("delta", "delta") or entry.id.attempt != following.id.attempt


def test_a_merged_delta_bears_the_last_one_s_id_and_the_first_one_s_in_from() -> None:
    deltas = [Delta(id=f"1-{n}", message_id=MESSAGE_ID, ts=n, content=f"{n} ") for n in range(3, 6)]
    (entry,) = merge(_entries(deltas))
    merged = events.decode(entry.payload)
    assert merged == Delta(id="1-5", message_id=MESSAGE_ID, ts=5, content="3 4 5 ", from_="1-3")
    assert entry.id == EventId(1, 5)


def test_a_delta_alone_keeps_its_bytes() -> None:
    entries = _entries([Delta(id="1-3", message_id=MESSAGE_ID, ts=1, content="a")])
    assert merge(entries) == entries


def test_a_merged_delta_has_a_greatest_length() -> None:
    """The pieces follow one another without a gap."""
    piece = "x" * 8000
    deltas = [Delta(id=f"1-{n}", message_id=MESSAGE_ID, ts=n, content=piece) for n in range(100)]
    merged = [events.decode(entry.payload) for entry in merge(_entries(deltas))]
    assert len(merged) > 1
    expected = "1-0"
    for event in merged:
        assert isinstance(event, Delta)
        assert event.from_ == expected
        assert len(event.content.encode()) <= MERGED_MOST_BYTES
        expected = str(EventId.parse(event.id).next)
    assert "".join(event.content for event in merged if isinstance(event, Delta)) == piece * 100


def _entries(made: list[StreamEvent] | tuple[StreamEvent, ...] | list[Delta]) -> list[Entry]:
    return [Entry(EventId.parse(event.id), events.encode(event)) for event in made]


def test_what_another_version_wrote_is_passed_on_as_it_is() -> None:
    """Between deltas, which are merged on both sides of it."""
    deltas = [Delta(id=f"1-{n}", message_id=MESSAGE_ID, ts=n, content=f"{n}") for n in range(5)]
    entries = _entries(deltas)
    entries[2] = Entry(EventId(1, 2), b'{"type":"applause","id":"1-2","loudness":11}')
    first, unknown, last = merge(entries)
    assert unknown == entries[2]
    assert [events.decode(entry.payload).id for entry in (first, last)] == ["1-1", "1-4"]
