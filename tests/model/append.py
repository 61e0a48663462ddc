"""The append rule of `shared/append_event.lua` in Python. A contract test holds the two to the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from shared.event_log import Word
from shared.events import EventId
from shared.transcript import NOWHERE


class Numbered(Protocol):
    """An event, or an encoded one; equal where the bytes are."""

    @property
    def id(self) -> EventId: ...


E = TypeVar("E", bound=Numbered)


class Appended(NamedTuple):
    word: Word
    added: int
    """How many of the batch's last were appended."""


def append(log: Sequence[E], batch: Sequence[E], *, id_fence: bool = True, lost_check: bool = True) -> Appended:
    """What appending `batch` to `log` comes to.

    Without `id_fence` the log knows only of the attempt that is written; without `lost_check` it takes whatever comes
    after its end.
    """
    attempt = batch[0].id.attempt
    known = log if id_fence else [entry for entry in log if entry.id.attempt == attempt]
    last = known[-1].id if known else NOWHERE
    if attempt < last.attempt:
        return Appended(Word.STALE, 0)
    first = 0
    for event in batch:
        if event.id > last:
            break
        if event not in known:
            return Appended(Word.LOST, 0)
        first += 1
    if first == len(batch):
        return Appended(Word.THERE, 0)
    id_ = batch[first].id
    if lost_check and id_.n > 0 and id_ != last.next:
        return Appended(Word.LOST, 0)
    return Appended(Word.OK, len(batch) - first)
