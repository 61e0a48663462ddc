"""Postgres, the queue of record. The only SQL of the product: one method, one transaction.

Rows are locked in one order, a project's before its messages'. No transaction is open across a call of anything else.
"""

from __future__ import annotations

from shared.store.access import AccessStore
from shared.store.batch_driving import BatchDrivingStore
from shared.store.batches import BatchStore
from shared.store.builds import BuildStore
from shared.store.history import HistoryStore
from shared.store.members import MemberStore
from shared.store.messages import Idempotency, MessageStore, SubmitLimits
from shared.store.operators import OperatorStore, Wanted
from shared.store.projects import ProjectStore
from shared.store.sweeping import CloseReason, Lapsed, SweepStore, ToClose
from shared.store.turns import Built, EditDocument, Effect, StartJob, Told, TurnStore
from shared.store.watching import WatchStore

__all__ = [
    "Built",
    "CloseReason",
    "EditDocument",
    "Effect",
    "Idempotency",
    "Lapsed",
    "StartJob",
    "Store",
    "SubmitLimits",
    "ToClose",
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
    BatchStore,
    BatchDrivingStore,
    WatchStore,
    OperatorStore,
):
    """Every question and every write, by what they mean; the mixins are its chapters."""
