"""The calls of operators: figures, the lifecycle of everything as it happens, anybody's messages without their text.

Each needs a token with the scope `ops`.
"""

from __future__ import annotations

from typing import Final

from api.calls import Call
from api.operators import live, messages

calls: Final[tuple[Call, ...]] = (*live.calls, *messages.calls)
