"""Every row of the table, in its order."""

from __future__ import annotations

from typing import Final

from benchmarks.row import Row
from benchmarks.rows.agent_servers import AGNO, LANGGRAPH
from benchmarks.rows.append import APPEND
from benchmarks.rows.first_token import FIRST_TOKEN
from benchmarks.rows.idle_sockets import IDLE_SOCKETS
from benchmarks.rows.recovery import RECOVERY
from benchmarks.rows.relay import RELAY, RELAY_100
from benchmarks.rows.replay import REPLAY
from benchmarks.rows.start_rate import START_RATE
from benchmarks.rows.whole_path import WHOLE_PATH, WHOLE_PATH_RESUMED
from benchmarks.rows.worker import WORKER, WORKER_OVERLOADED

ROWS: Final[dict[str, Row]] = {
    row.name: row
    for row in (
        WORKER,
        WORKER_OVERLOADED,
        RELAY,
        RELAY_100,
        IDLE_SOCKETS,
        FIRST_TOKEN,
        WHOLE_PATH,
        WHOLE_PATH_RESUMED,
        AGNO,
        LANGGRAPH,
        START_RATE,
        APPEND,
        REPLAY,
        RECOVERY,
    )
}
