"""What an operator asks of the database server itself, and of who lives off it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import func, literal_column, select, text

from shared.lifecycle import UNFINISHED
from shared.models import Base, Message
from shared.store.transactions import Transactions

PRIVILEGES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
STUCK_S: Final = 60
"""So long an idle transaction is no pause any more: it holds locks and keeps rows from being cleaned up."""


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    """As Postgres numbers itself: 180001."""
    max_connections: int
    """That an ordinary user may open."""
    used_connections: int
    clock: datetime
    is_read_only: bool
    """A standby, or one that was set so."""
    stuck_transactions: int
    """Of this database, idle for more than `STUCK_S`."""
    refused: tuple[str, ...]
    """What this user may not do, as ``UPDATE on messages``; of tables that are there."""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    held: int
    """Messages that workers and builders hold now."""
    unheld: int
    """Unfinished ones that nobody holds, those that wait for their turn included."""


class HealthStore(Transactions):
    def server_health(self) -> ServerHealth:
        """Asks nothing of our tables, which need not be there."""
        with self._statement() as connection:
            row = connection.execute(_SERVER, {"stuck_s": STUCK_S}).one()
            tables = sorted(Base.metadata.tables)
            rights = connection.execute(_RIGHTS, {"tables": tables, "rights": list(PRIVILEGES)})
            refused = tuple(f"{right.privilege} on {right.name}" for right in rights)
        return ServerHealth(
            version=row.version,
            max_connections=row.max_connections,
            used_connections=row.used,
            clock=row.clock,
            is_read_only=row.is_read_only,
            stuck_transactions=row.stuck,
            refused=refused,
        )

    def activity(self) -> Activity:
        """Who works now."""
        held: Any = func.count(Message.lease_owner)
        with self._statement() as connection:
            row = connection.execute(
                select(held.label("held"), func.count(literal_column("*")).label("unfinished")).where(
                    Message.status.in_(UNFINISHED)
                )
            ).one()
        return Activity(held=row.held, unheld=row.unfinished - row.held)


_SERVER: Final = text(
    """
    SELECT current_setting('server_version_num')::int AS version,
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
             - current_setting('reserved_connections')::int AS max_connections,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS used,
           clock_timestamp() AS clock,
           pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS is_read_only,
           (SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'
               AND state_change < now() - make_interval(secs => :stuck_s))::int AS stuck
    """
)
_RIGHTS: Final = text(
    """
    SELECT name, privilege
      FROM unnest(CAST(:tables AS text[])) AS name, unnest(CAST(:rights AS text[])) AS privilege
     WHERE NOT has_table_privilege(to_regclass(name), privilege)
     ORDER BY 1, 2
    """
)
