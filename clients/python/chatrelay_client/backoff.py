"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.25
MOST_S: Final = 10.0


def backoff_s(failures: int, chance: Callable[[], float] = random.random) -> float:
    """After so many failures in a row: exponential, between half and all of it, so that clients spread."""
    longest = min(MOST_S, FIRST_S * float(2 ** min(max(0, failures - 1), 10)))
    return longest * (0.5 + chance() / 2)
