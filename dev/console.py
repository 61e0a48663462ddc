"""What a person sees of many processes: every line under its process's name, in its colour on a terminal."""

import os
import sys
import threading
from collections.abc import Mapping
from typing import TextIO

# Names are told apart by these, in the order in which they first speak; red is left to what went wrong.
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Console:
    """Writes whole lines, from any thread. A reader who closed the other end is no reason to stop."""

    def __init__(self, stream: TextIO | None = None, *, width: int = 10, environment: Mapping[str, str] = os.environ):
        self._stream = stream or sys.stdout
        self._width = width
        self._colours: dict[str, int] = {}
        self._coloured = self._stream.isatty() and not environment.get("NO_COLOR")
        self._lock = threading.Lock()
        self._closed = False

    def line(self, name: str, text: str) -> None:
        """One line of the process `name`."""
        prefix = f"{name:<{self._width}} | "
        with self._lock:
            if self._coloured:
                colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
                prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
            self._write(prefix + text)

    def say(self, text: str) -> None:
        """A line of our own, without a prefix."""
        with self._lock:
            self._write(text)

    def _write(self, line: str) -> None:
        if self._closed:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._closed = True
