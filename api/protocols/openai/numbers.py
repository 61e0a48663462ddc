"""Sequence numbers of a response's events: what they say and how they are read again. Pure.

A number names what its client has been told up to it, so that any process can go on from it without remembering anything:

- 0 to 4: so many of the opening's events;
- then ``steps + 1`` (8 bits), ``chars`` (19 bits), ``line`` (4 bits): the steps of tool calls, the characters of text, and
  the attempt, of which the last four bits are kept, whose text those characters are the beginning of;
- from 255 * 2**23 on: so many of the end's events.

They rise, with gaps, and stay below 2**31: clients exist that keep them in 32 bits.
"""

from __future__ import annotations

from typing import Final, NamedTuple

OPENING_EVENTS: Final = 5
"""`response.created`, `response.queued`, `response.in_progress`, the text's item and its part."""
_LINE_BITS: Final = 4
_CHARS_BITS: Final = 19
_STEPS_SHIFT: Final = _LINE_BITS + _CHARS_BITS
_END: Final = 255 << _STEPS_SHIFT

MOST_CHARS: Final = (1 << _CHARS_BITS) - 1
"""Longer texts are told up to here as they come, and whole at their end."""
STEPS_OF_A_CALL: Final = 6
MOST_STEPS: Final = 252
"""Of 42 calls; of those behind them the end alone tells."""
LARGEST: Final = (1 << 31) - 1


class Told(NamedTuple):
    """What a client has been told: of the opening and of the end so many events, so many steps, so many characters.

    `line` is the attempt whose text begins with these characters; as read from a number, its last four bits.
    """

    opening: int = 0
    steps: int = 0
    chars: int = 0
    line: int = 0
    end: int = 0


NOTHING: Final = Told()


def of_opening(index: int) -> int:
    return index


def of_body(steps: int, chars: int, line: int) -> int:
    return steps + 1 << _STEPS_SHIFT | chars << _LINE_BITS | line & (1 << _LINE_BITS) - 1


def of_end(index: int) -> int:
    return _END + index


def read(number: int) -> Told:
    """What who had the event of this number has been told; any number from 0 to `LARGEST` says something."""
    if number >= _END:
        return Told(OPENING_EVENTS, MOST_STEPS, MOST_CHARS, 0, number - _END + 1)
    steps = number >> _STEPS_SHIFT
    if steps == 0:
        return Told(opening=min(number + 1, OPENING_EVENTS))
    chars = number >> _LINE_BITS & MOST_CHARS
    return Told(OPENING_EVENTS, steps - 1, chars, number & (1 << _LINE_BITS) - 1)


def attempt_of(line: int, newest: int) -> int:
    """The newest attempt up to `newest` that ends in these bits; 0 where there is none."""
    return max(0, newest - (newest - line) % (1 << _LINE_BITS))
