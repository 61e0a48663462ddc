"""What one client has been shown of an answer whose words cannot be taken back, and what it may be shown now. Pure.

Our events may replace a text (`snapshot`, `complete`); OpenAI's protocols only append. So a story keeps what its client was
shown beside the text as it is:

- while the text begins with what was shown, the rest of it is owed, character by character;
- a text that is shorter, but the beginning of what was shown, may yet come to it: nothing is owed until it goes beyond;
- a text that differs is never shown in pieces: the end tells it whole.

A client that comes back may have been shown the text of an attempt that is not the newest. `shown` is that text where the
log still has it. Where it has not, the text of the same attempt begins with it, and that of the next one where this is a
renewal (`restored`) or has as many characters in its stored rounds; any other is taken to differ.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from shared import transcript
from shared.events import Complete, Delta, Error, EventId, Snapshot, StreamEvent, ToolCall
from shared.transcript import Transcript

_MOST_PIECES: Final = 512
"""A text in so many pieces is put together: small ones take ten times the room of their characters."""


class Story:
    def __init__(self, *, chars: int = 0, line: int = 0, shown: str | None = "", most_chars: int) -> None:
        """A client that was shown the first `chars` characters of attempt `line`: `shown`, None where they are not known.

        No more than `most_chars` are ever owed.
        """
        self.chars = chars
        """So many characters were shown."""
        self.line = line
        """The attempt whose text begins with them."""
        self.error: Error | None = None
        """The failure that the newest attempt ends in."""
        self._most_chars = most_chars
        self._shown = shown
        self._pieces: list[str] = []
        self._length = 0
        self._agrees = shown == ""
        self._differs = False
        self._attempt = 0
        self._calls = Transcript()

    @property
    def text(self) -> str:
        """As the newest attempt has it."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return self._calls.tool_calls

    @property
    def differs(self) -> bool:
        """Whether the text is, or has to be taken for, another than what was shown."""
        return self._differs

    @property
    def is_whole(self) -> bool:
        """Whether all of the text was shown, and nothing else."""
        return self._agrees and self.chars == self._length

    def hear(self, event: StreamEvent) -> None:
        """The next event; the first of an attempt opens it, but for the very first turn with a snapshot."""
        attempt = EventId.parse(event.id).attempt
        if attempt != self._attempt:
            self._open(attempt, event)
        match event:
            case Delta():
                self._append(event.content)
                return
            case Snapshot():
                self.error = None
                self._replace(event.content)
            case Complete():
                self._replace(event.final_content)
            case Error():
                self.error = event
                if event.final_content is not None:
                    self._replace(event.final_content)
            case _:
                pass
        self._calls = transcript.fold(self._calls, (event,))

    def owed(self) -> str:
        """What is to be shown now; from now on it was."""
        if not self._agrees and not self._differs and self._length >= self.chars:
            self._agrees = True
            self._shown = ""  # the text says it now
        end = min(self._length, self._most_chars)
        if not self._agrees or end <= self.chars:
            return ""
        last = self._pieces[-1]
        rest = last if self._length - self.chars == len(last) and end == self._length else self.text[self.chars : end]
        self.chars = end
        self.line = self._attempt
        return rest

    def _open(self, attempt: int, event: StreamEvent) -> None:
        self._attempt = attempt
        if self._shown is None:
            self._differs = not (attempt == self.line or (attempt == self.line + 1 and continues(event, self.chars)))

    def _append(self, piece: str) -> None:
        if not self._agrees and self._shown is not None and not self._differs:
            self._differs = not self._shown.startswith(piece[: max(0, self.chars - self._length)], self._length)
        if len(self._pieces) >= _MOST_PIECES:
            self._pieces = [self.text]
        self._pieces.append(piece)
        self._length += len(piece)

    def _replace(self, text: str) -> None:
        if self._agrees:
            self._shown = self.text[: self.chars]
            self._agrees = False
        if self._shown is not None:
            self._differs = text[: self.chars] != self._shown[: len(text)]
        self._pieces = [text]
        self._length = len(text)


def continues(opening: StreamEvent, chars: int) -> TypeGuard[Snapshot]:
    """Whether the attempt that begins so has all that the one before had shown as far as `chars`."""
    if not isinstance(opening, Snapshot) or EventId.parse(opening.id).n:
        return False
    return opening.reason == "restored" or len(opening.content) >= chars
