"""How one message is told to one reader in the words of a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from api.close_codes import CloseCode
from api.wire import Frame


class ComeBack(Exception):
    """The reader cannot be told this event: it is cut off, and comes back to be told everything anew.

    What a telling to an event stream that `breaks_off` may raise from `tell`.
    """


class Telling(Protocol):
    """Pure, and one reader's alone, so that it may remember what it told.

    It answers in units: blocks of an event stream, each with its blank line, or texts of frames, as the transport is that it
    was made for. The events come in order, without a gap and each once; where the reader was slow, a snapshot comes in place
    of some. It is told of nothing after `is_over`.
    """

    def is_over(self) -> bool:
        """Whether the reader has all that it wants, though the message may go on."""
        ...

    def begin(self) -> Sequence[bytes]:
        """What comes before the events."""
        ...

    def tell(self, frame: Frame) -> Sequence[bytes]:
        """One event."""
        ...

    def end(self, code: CloseCode) -> Sequence[bytes]:
        """What comes after them: `FINISHED` where it is over or the message is, else why it is cut off."""
        ...


@runtime_checkable
class TellsJobs(Protocol):
    """A telling that also tells of its message's component job."""

    def job(self) -> UUID | None:
        """The job that it wants to be told of from now on."""
        ...

    def tell_job(self, payload: bytes) -> Sequence[bytes]:
        """The job has come further: `payload` is an encoded `JobNotice`."""
        ...
