"""Claims are kept alive by whoever really works on them, and by nobody else."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid

import msgspec
import pytest

from shared.records import Lease, StoredCall
from shared.store import Effect, Store
from tests.integration.worker_parts import Bench, eventually
from worker.leases import LeaseKeeper, Stop
from worker.tools import Registry, Situation


class Broken(Registry):
    """Tools of which every call breaks the turn."""

    def prepare(self, call: StoredCall, situation: Situation) -> Effect:
        raise RuntimeError("a fault")


def test_a_lease_is_renewed_while_its_turn_lasts(bench: Bench) -> None:
    bench.model.say("go", {"stall": True})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(lease_s=2, heartbeat_s=0.1), message_id)
    eventually(lambda: bench.column(message_id, "lease_until") is not None)
    first = bench.column(message_id, "lease_until")
    eventually(lambda: bool(bench.column(message_id, "lease_until") > first))
    bench.cancel(message_id)
    turn.join()
    assert bench.check(message_id)[0].status == "cancelled"


def test_a_turn_that_broke_costs_a_try_and_its_message_is_there_for_others_at_once(bench: Bench) -> None:
    """Its lease is not waited for, and the same worker goes on with its other message."""
    bench.model.say("broken", {"tool": {"name": "broken", "arguments": {}}})
    bench.model.say("held", {"stall": True})
    broken = bench.ask("broken")
    held = bench.ask("held", project_id=bench.new_project())
    workshop = msgspec.structs.replace(bench.workshop(), tools=Broken([]))
    holding = bench.start(workshop, held)
    bench.model.wait_requests(1)
    with pytest.raises(RuntimeError, match="a fault"):
        bench.start(workshop, broken).join()
    assert [bench.column(broken, name) for name in ("status", "lease_owner", "tries")] == ["pending", None, 1]
    assert bench.store.ring_for(limit=10, again_s=3600) == [broken]
    assert not holding.is_over
    bench.cancel(held)
    holding.join()


def test_leases_outlive_a_connection_that_is_not_answered_any_more(bench: Bench) -> None:
    """Its other end stands still, as behind a router that forgot it: another one is opened while the lease lasts."""
    bench.model.say("go", {"stall": True})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_requests(1)
    theirs = "SELECT pid FROM pg_stat_activity WHERE application_name = 'chatrelay-leases'"
    stays = f"SELECT lease_until > now() FROM messages WHERE id = '{message_id}'"
    eventually(lambda: bench.sql(theirs) is not None)
    stopped = bench.sql(theirs)
    os.kill(stopped, signal.SIGSTOP)
    try:
        eventually(lambda: not bench.sql(stays) or bench.sql(f"{theirs} AND pid <> :pid", pid=stopped) is not None)
        assert bench.sql(stays), "it ran out meanwhile"
        before = bench.column(message_id, "lease_until")
        eventually(lambda: bool(bench.column(message_id, "lease_until") > before) or not bench.sql(stays))
        assert bench.sql(stays), "it ran out meanwhile"
    finally:
        os.kill(stopped, signal.SIGCONT)
    bench.cancel(message_id)
    turn.join()


def test_leases_are_not_renewed_while_the_streams_stand_still(bench: Bench) -> None:
    """A worker that can't stream must not hold messages."""
    message_id = bench.ask()
    claim = bench.store.claim(message_id, "worker", lease_s=60, max_tries=3)
    assert claim is not None
    looked = threading.Semaphore(0)

    def silent_s() -> float:
        looked.release()
        return 1.0

    keeper = LeaseKeeper(bench.store, "worker", lease_s=1, heartbeat_s=0.02, loop_silent_s=silent_s)
    before = bench.column(message_id, "lease_until")
    with keeper.hold(claim.lease, claimed_at=time.monotonic()):
        keeper.start()
        for _ in range(10):
            assert looked.acquire(timeout=30)
        keeper.stop()
    assert bench.column(message_id, "lease_until") == before


def test_a_process_that_takes_its_own_lapsed_message_again_ends_the_turn_before(store: Store) -> None:
    """At once, not only when its claim is found to be gone."""
    keeper = LeaseKeeper(store, "worker", lease_s=10, heartbeat_s=3, loop_silent_s=lambda: 0.0)
    lease = Lease(message_id=uuid.uuid4(), project_id=uuid.uuid4(), owner="worker-1", attempt=1, run=1)
    with keeper.hold(lease, claimed_at=time.monotonic()) as older:
        again = msgspec.structs.replace(lease, owner="worker-2", attempt=2)
        with keeper.hold(again, claimed_at=time.monotonic()) as newer:
            assert (older.stop_reason, newer.stop_reason) == (Stop.LOST, None)
        assert keeper.count == 1
    assert keeper.count == 0
