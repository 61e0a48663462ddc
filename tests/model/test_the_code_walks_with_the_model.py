"""Walks through the model, each step of which is also done by the code, on a real Postgres and a real Valkey.

After each step the row, the ledger, the stored ending and the log are what the model says. Who works, sweeps and cancels is
the test; what is called is the store, the log's appender and the closing. The reader's steps are left out: in the model
they are the code's own (`product.py`).
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator
from functools import cache
from itertools import product
from typing import Final

import redis
from sqlalchemy import Engine

from shared import closing, keys
from shared.closing import append_ending, entries_of
from shared.errors import Fenced
from shared.event_log import EventLog
from shared.events import EventId
from shared.outcomes import Cancelled, Failed
from shared.records import Ending, Lease, StoredCall, StoredRound, ToolEffect
from shared.store import Built, CloseReason, Effect, StartJob, Store, ToClose
from tests.contract.appenders import stored
from tests.integration.store_parts import LEASE_S, LIMITS, Scene
from tests.model import faults, sweeper, worker
from tests.model import product as code
from tests.model.append import append
from tests.model.product import entry_of, event_of, newest_attempt
from tests.model.search import ALL, told
from tests.model.state import Bounds, Fault, Label, Rules, State, Story, Worker

_BUILT: Final = Built(source="s", source_sha256="0" * 64, bundle="b", bundle_sha256="0" * 64)
_OF_THE_READER: Final = {Fault.LOST_MESSAGE, Fault.RECONNECT, Fault.SLOW, Fault.NO_ROW}
_KINDS: Final = frozenset(Fault) - _OF_THE_READER
_BOUNDS: Final = (
    Bounds(faults=1, kinds=_KINDS, cancels=1, retries=1),
    Bounds(faults=2, kinds=frozenset({Fault.PROVIDER})),  # until no try is left
)


class Walk:
    """One message and its log, led by the model's steps."""

    def __init__(self, scene: Scene, log: EventLog, client: redis.Redis, rules: Rules) -> None:
        self._scene = scene
        self._store = scene.store
        self._log = log
        self._client = client
        self._rules = rules
        self.message_id = scene.message()
        self._ledger_before = scene.count("tool_ledger")
        self._effects_before = self._effects()
        self._leases: dict[int, Lease] = {}
        self._endings: dict[int, Ending] = {}
        self._jobs: dict[int, str | None] = {}
        self._closing: tuple[ToClose, str, int] | None = None

    def do(self, label: Label, before: State, after: State) -> None:
        """The step, by the code. Whether it was refused is what the model says."""
        own = next((one for one in before.workers if one.name == label.who), None)
        if own is None:
            self._by_nobody(label, before)
            return
        is_refused = own not in before.workers or all(one.name != own.name for one in after.workers)
        try:
            self._by_worker(label, before, own)
        except Fenced:
            assert is_refused, "the code refuses what the model does"

    def check(self, state: State) -> None:
        """The stores say what the model says."""
        row, found = state.row, self._scene.row(self.message_id)
        assert found["status"] == row.status
        assert (found["attempt"], found["run"], found["content"]) == (row.attempt, row.run, row.content)
        assert found["lease_owner"] == (_owner(row.owner) if row.owner else None)
        assert found["last_event_id"] == (None if row.last is None else str(row.last))
        assert found["ending_appended"] is row.appended
        assert tuple(event_of(bytes(payload)) for payload in found["ending"] or ()) == row.ending
        assert (found["job_id"] is not None) is row.has_job
        if not row.is_final:
            assert (found["tries"], found["cancel_requested_at"] is not None) == (row.tries, row.cancel)
        assert self._scene.count("tool_ledger") - self._ledger_before == len(row.ledger)
        assert self._effects() - self._effects_before == row.effects
        entries = tuple(event_of(entry.payload) for entry in stored(self._client, str(self.message_id)))
        assert newest_attempt(entries) == state.log

    def _effects(self) -> int:
        if self._rules.bounds.story is Story.COMPONENT:
            return self._scene.count("component_jobs")
        document = self._scene.document()
        assert isinstance(document, dict)
        return len(document["list"])

    # --- who holds the message --------------------------------------------------------------------------------------

    def _by_worker(self, label: Label, state: State, own: Worker) -> None:
        lease = self._leases[own.name]
        match label.step:
            case worker.OPENED | worker.DELTA | worker.TOOL_STARTED | worker.TOOL_ENDED | worker.SENT_AGAIN:
                if state.redis_is_up and worker.may_append(self._rules, own):
                    said = own if label.step == worker.SENT_AGAIN else worker.said(self._rules, own)
                    answer = self._log.append(self.message_id, [entry_of(event) for event in said.waiting])
                    assert answer.word is append(state.log, said.waiting).word
            case worker.ROUND_STORED:
                self._store.store_round(
                    lease,
                    StoredRound(round=1, text=own.content, calls=(_call(lease),), document_version=1, usage=None),
                    content=own.content,
                    last_event_id=EventId(own.attempt, own.n - 1),
                    first_token_ms=None,
                )
            case worker.EFFECT_COMMITTED:
                effect = self._store.commit_effect(lease, 1, 0, _call(lease), self._effect(lease))
                assert effect.call.state == "succeeded"
                self._jobs[lease.run] = effect.call.job_id
            case worker.RENEWED:
                self._leases[own.name] = self._store.begin_attempt(lease, above=own.above)
            case worker.BEGUN_AGAIN:
                self._leases[own.name] = self._store.begin_attempt(lease, tries=state.row.tries + 1)
            case worker.FINALIZED:
                outcome = code.outcome_of(
                    worker.end_of(self._rules, own), own.content, self._jobs.get(lease.run) or code.JOB
                )
                first = EventId(own.attempt, own.n)
                built = _BUILT if own.status == "building" and not own.outcome else None
                self._endings[own.name] = self._store.finalize(
                    lease, outcome, first=first, usage=None, first_token_ms=None, built=built
                )
            case worker.TOLD:
                self._tell(label, state, self._endings[own.name])
            case worker.HANDED_BACK:
                self._store.hand_back(lease)
            case worker.LEASE_RENEWED | worker.LEASE_LOST:
                held = self._store.renew_leases([lease.owner], lease_s=LEASE_S)
                assert (lease.owner in held) is (label.step == worker.LEASE_RENEWED)
            case worker.CANCEL_HEEDED | worker.GIVEN_UP | "":
                pass
            case _:
                raise AssertionError(label)

    def _effect(self, lease: Lease) -> Effect:
        if self._rules.bounds.story is Story.COMPONENT:
            return StartJob(name="Name", effect_description="an effect")
        return self._scene.append_one(lease)

    def _tell(self, label: Label, state: State, ending: Ending) -> None:
        if not state.redis_is_up:
            return
        if label.fault in (Fault.LOST_REPLY, Fault.KILL):
            self._log.append(self.message_id, entries_of(ending))
        else:
            assert append_ending(self._store, self._log, ending)

    # --- who does not -----------------------------------------------------------------------------------------------

    def _by_nobody(self, label: Label, state: State) -> None:
        max_tries = self._rules.bounds.max_tries
        match label.step:
            case worker.CLAIMED:
                claim = self._store.claim(self.message_id, _owner(label.who), lease_s=LEASE_S, max_tries=max_tries)
                assert claim is not None
                self._claimed(label, state, claim.lease, claim.content, claim.effects)
                assert len(claim.rounds) == (1 if state.row.round_text else 0)
            case worker.BUILD_CLAIMED:
                build = self._store.claim_build(
                    self.message_id, _owner(label.who), lease_s=LEASE_S, max_tries=max_tries
                )
                assert build is not None
                self._claimed(label, state, build.lease, build.content, build.effects)
            case sweeper.LAPSED:
                self._scene.let_lease_run_out(self.message_id)
                assert [lapsed.message_id for lapsed in self._store.take_lapsed(limit=10)] == [self.message_id]
            case sweeper.LOOKED:
                (found,) = self._store.to_close(limit=10, max_tries=max_tries)
                content, above = closing._shown(self._log, found) if state.redis_is_up else (found.content, 0)
                self._closing = found, content, above
            case sweeper.CLOSED:
                assert self._closing is not None
                found, content, above = self._closing
                name = "cancelled" if found.reason is CloseReason.CANCEL else "error"
                outcome = code.outcome_of(name, content)
                assert isinstance(outcome, Failed | Cancelled)
                self._store.close_message(self.message_id, outcome, seen_attempt=found.attempt, above=above)
            case sweeper.SWEPT:
                (ending,) = self._store.endings_to_append(limit=10, older_than_s=0)
                self._tell(label, state, ending)
            case sweeper.CANCELLED:
                self._store.request_cancel(self._scene.principal, self.message_id)
            case sweeper.RETRIED:
                self._store.retry(self._scene.principal, self.message_id, LIMITS)
            case faults.BACK:
                pass
            case _:
                assert label.fault in (Fault.WIPE, Fault.AWAY), label
                if label.fault is Fault.WIPE:
                    self._client.delete(keys.log(self.message_id))

    def _claimed(self, label: Label, state: State, lease: Lease, content: str, effects: tuple[ToolEffect, ...]) -> None:
        self._leases[label.who] = lease
        assert (lease.attempt, lease.run, content) == (label.who, state.row.run, state.row.content)
        assert len(effects) == (1 if state.row.calls else 0)
        for effect in effects:
            self._jobs[lease.run] = effect.call.job_id


def _owner(name: int) -> str:
    return f"worker-{name}"


def _call(lease: Lease) -> StoredCall:
    """The only one of the run."""
    return StoredCall(tool_call_id=f"{lease.message_id}-{lease.run}", name="tool", arguments="{}")


Step = tuple[Label, State, State]
"""What was done, the state before and after it."""


def _possible(rules: Rules, state: State) -> list[tuple[Label, State]]:
    """All but the reader's steps."""
    return [
        *worker.steps(rules, state),
        *sweeper.steps(rules, state),
        *sweeper.user_steps(state),
        *faults.steps(rules, state),
    ]


@cache
def _walks() -> list[tuple[Rules, list[Step]]]:
    """Shortest ways to every kind of step, each led on to the end at random."""
    walks: list[tuple[Rules, list[Step]]] = []
    done: set[Hashable] = set()
    for story, bounds in product(Story, _BOUNDS):
        rules = Rules(bounds._replace(story=story), ALL)
        came_from: dict[State, Step | None] = {rules.bounds.start(): None}
        first: dict[Hashable, Step] = {}
        border = list(came_from)
        for state in border:  # which grows meanwhile
            for label, after in _possible(rules, state):
                first.setdefault(_kind((label, state, after)), (label, state, after))
                if after not in came_from:
                    came_from[after] = (label, state, after)
                    border.append(after)
        for seed, (kind, step) in enumerate(reversed(first.items())):
            if kind not in done:
                walk = [*_way_to(step, came_from), *_on_from(rules, step[2], random.Random(seed))]
                done.update(map(_kind, walk))
                walks.append((rules, walk))
    return walks


def _kind(step: Step) -> Hashable:
    """What is done, what goes wrong, and what it comes to."""
    label, before, after = step
    worked = next((one for one in after.workers if one.name == label.who), None)
    return (
        label.step,
        label.fault,
        label.who > 0 and worked is None,  # it is done, or was refused
        worked is not None and worked.above >= 0,
        len(after.log) > len(before.log),
        after.closing is not None and after.closing.content != after.row.content,
    )


def _way_to(step: Step, came_from: dict[State, Step | None]) -> list[Step]:
    way = [step]
    while (before := came_from[way[-1][1]]) is not None:
        way.append(before)
    return way[::-1]


def _on_from(rules: Rules, state: State, seeded: random.Random) -> Iterator[Step]:
    """Until nobody has anything to do; users and faults keep out of it."""
    while possible := [
        (label, after) for label, after in _possible(rules, state) if label.fault is None and not label.by_user
    ]:
        label, after = seeded.choice(possible)
        yield label, state, after
        state = after


def test_the_stores_are_what_the_model_says_after_every_step(
    store: Store, engine: Engine, log: EventLog, redis_client: redis.Redis
) -> None:
    for rules, steps in _walks():
        walk = Walk(Scene(store, engine), log, redis_client, rules)
        print(rules.bounds.story)
        for number, (label, before, after) in enumerate(steps, 1):
            print(f"{number:3}. {told(label)}")
            walk.do(label, before, after)
            walk.check(after)


def test_the_walks_come_by_every_step_and_every_fault() -> None:
    """But for the one that exists only where effect and ledger are apart, and the reader's."""
    labels = {label for _, walk in _walks() for label, _, _ in walk}
    every = {*worker.STANDS_FOR, *sweeper.STANDS_FOR, faults.BACK} - {worker.LEDGER_WRITTEN}
    assert {label.step for label in labels} - {""} == every
    assert {label.fault for label in labels} - {None} == _KINDS
