"""Every row of the table, in its order."""

from __future__ import annotations

from typing import Final

from benchmarks.row import Row
from benchmarks.rows.append import APPEND
from benchmarks.rows.idle_sockets import IDLE_SOCKETS
from benchmarks.rows.relay import RELAY, RELAY_100
from benchmarks.rows.replay import REPLAY

ROWS: Final[dict[str, Row]] = {row.name: row for row in (RELAY, RELAY_100, IDLE_SOCKETS, APPEND, REPLAY)}
