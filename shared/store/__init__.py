"""Postgres, the queue of record. The only SQL of the product: one method, one transaction.

Rows are locked in one order, a project's before its messages'. No transaction is open across a call of anything else.
"""

from __future__ import annotations

from shared.store.access import TOKEN_ID_DIGITS, AccessStore, RevokedToken, TokenRecord
from shared.store.auditing import AuditRecord, AuditStore
from shared.store.batch_driving import BatchDrivingStore
from shared.store.batches import BatchStore
from shared.store.builds import BuildStore
from shared.store.figures import FigureStore
from shared.store.health import HealthStore
from shared.store.history import HistoryStore
from shared.store.members import MemberStore
from shared.store.messages import Idempotency, MessageStore, SubmitLimits
from shared.store.operators import OperatorStore, Wanted
from shared.store.projects import ProjectStore
from shared.store.pruning import PruneStore
from shared.store.stats import StatsStore
from shared.store.sweeping import CloseReason, Lapsed, SweepStore, ToClose
from shared.store.turns import WITHDRAWN, Built, EditDocument, Effect, StartJob, Told, TurnStore
from shared.store.watching import WatchStore

__all__ = [
    "TOKEN_ID_DIGITS",
    "WITHDRAWN",
    "AuditRecord",
    "Built",
    "CloseReason",
    "EditDocument",
    "Effect",
    "Idempotency",
    "Lapsed",
    "RevokedToken",
    "StartJob",
    "Store",
    "SubmitLimits",
    "ToClose",
    "TokenRecord",
    "Told",
    "Wanted",
]


class Store(
    AccessStore,
    ProjectStore,
    HistoryStore,
    MemberStore,
    MessageStore,
    TurnStore,
    BuildStore,
    SweepStore,
    WatchStore,
    FigureStore,
    BatchStore,
    BatchDrivingStore,
    OperatorStore,
    AuditStore,
    PruneStore,
    StatsStore,
    HealthStore,
):
    """Every question and every write, by what they mean; the mixins are its chapters."""
