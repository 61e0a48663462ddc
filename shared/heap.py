"""Python's collector of cycles, told about processes that live long."""

from __future__ import annotations

import gc
from typing import Final

_YOUNG_OBJECTS: Final = 10_000
"""So many new ones until it looks at them; Python's own 700 are there again after a few events."""


def settle() -> None:
    """To be called once a process has started: what stands by then stays, and is never looked through again."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
