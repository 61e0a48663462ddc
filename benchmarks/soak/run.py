"""The story of a soak: start everything, let people work and things fail, heal all, wait for the ends, judge."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.soak import verdict
from benchmarks.soak.faults import KINDS, Conductor, memory_mb
from benchmarks.soak.load import Load, follow_on, rows
from benchmarks.soak.plan import Plan, make_plan
from benchmarks.soak.recording import SavedRecording
from benchmarks.soak.report import FoundViolation, Recovery, Report
from benchmarks.soak.verdict import Row, Violation
from tests.stack import Stack, StackStarter

ARTIFACTS: Final = Path("test-artifacts/soak")

SHORT_LEASES: Final[dict[str, object]] = {
    "CHATRELAY_LEASE_S": 2,
    "CHATRELAY_HEARTBEAT_S": 0.5,
    "CHATRELAY_SWEEP_S": 0.5,
    "CHATRELAY_RING_AGAIN_S": 1,
}
_SETTINGS: Final[dict[str, object]] = {
    "CHATRELAY_PROVIDER_SILENCE_S": 4,
    "CHATRELAY_RETRY_FIRST_S": 0.1,
    "CHATRELAY_DRAIN_S": 5,
    "CHATRELAY_CONTEXT_TOKENS": 1500,
}
"""Stalls of the provider end in seconds; contexts are short, since it is not the model that is to be kept busy."""
_SHORT_LEASE_S: Final = 2.0
_DEFAULT_LEASE_S: Final = 10.0
_LOOK_S: Final = 0.1
_WARM_S: Final = 5.0
"""After so long the first look at a process's memory is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    messages: int
    seed: int
    minutes: float
    """Nothing is sent after so long."""
    readers: int = 4
    people: int = 40
    """At a time; each has a project and a message or a few."""
    chunks: int = 36
    """Pieces of a usual answer."""
    kinds: Sequence[str] = tuple(KINDS)
    short_leases: bool = True
    builders: int = 0
    pause_s: tuple[float, float] = (0.5, 3.0)
    """Between two faults, at random."""
    patience_s: float = 90.0
    """After all was healed: so long without an event, an answer or an end means that the rest is stuck."""
    artifacts: Path = ARTIFACTS

    @property
    def lease_s(self) -> float:
        return _SHORT_LEASE_S if self.short_leases else _DEFAULT_LEASE_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a person who waits is shown."""

    doing: str
    done: int
    of: int
    note: str = ""


Watch = Callable[[Step], object]


def soak(options: Options, *, watch: Watch = lambda step: None) -> Report:
    """Runs it all on this machine, with servers of its own, which are gone afterwards. Call it on a thread that stays."""
    with StackStarter() as starter:
        watch(Step(doing="starting", done=0, of=options.messages))
        stack = starter(
            webs=2,
            workers=2,
            builders=options.builders,
            sweepers=2,
            settings=_SETTINGS | (SHORT_LEASES if options.short_leases else {}),
            own_postgres=True,
            own_valkey=True,
        )
        return _Soak(stack, options, watch).run()


class _Soak:
    def __init__(self, stack: Stack, options: Options, watch: Watch) -> None:
        self._stack = stack
        self._options = options
        self._watch = watch
        self._conductor = Conductor(
            stack, options.kinds, seed=options.seed, lease_s=options.lease_s, pause_s=options.pause_s
        )
        tokens = [stack.store.create_token(f"person-{number}")[0] for number in range(options.people)]
        self._load = Load(stack.urls, tokens, messages=options.messages, make_plan=self._plan)
        self._memory: dict[str, tuple[float, float]] = {}

    def run(self) -> Report:
        self._load.start()
        try:
            self._while_things_fail()
            self._conductor.heal_all()
            self._load.end_sending()
            self._until_nothing_moves()
        except BaseException:
            self._load.end_sending()
            self._load.give_up()
            self._conductor.wake_all()
            raise
        finally:
            self._load.join()
        self._until_rows_are_final()
        return self._judge()

    def _plan(self, number: int) -> Plan:
        options = self._options
        return make_plan(
            options.seed,
            number,
            readers=options.readers,
            chunks=options.chunks,
            webs=len(self._stack.urls),
            builds=options.builders > 0,
        )

    # --- the chapters, in order ----------------------------------------------------------------------------------

    def _while_things_fail(self) -> None:
        """Until everything was sent, or the time is over; every kind of fault has happened by then."""
        load, conductor = self._load, self._conductor
        ends_at_s = time.monotonic() + self._options.minutes * 60
        looks_at_s = time.monotonic() + _WARM_S
        while load.is_running and (not load.sent_all_at_s or not conductor.is_through):
            if time.monotonic() > ends_at_s:
                load.end_sending()
            conductor.turn()
            if time.monotonic() > looks_at_s:
                looks_at_s += _WARM_S
                self._look_at_memory()
            self._show("sending")
            conductor.wait()

    def _until_nothing_moves(self) -> None:
        """Every reader comes to its end; those that do not, while nothing else does either, are left."""
        seen, moved_at_s = self._load.movement, time.monotonic()
        while self._load.is_running:
            if self._load.movement != seen:
                seen, moved_at_s = self._load.movement, time.monotonic()
            if time.monotonic() - moved_at_s > self._options.patience_s:
                self._load.give_up()
                return
            self._show("healed; following to the end")
            time.sleep(_LOOK_S)

    def _until_rows_are_final(self) -> None:
        """Also of what nobody reads: a retry or a submit that a stopped process carried out when it woke."""
        deadline_s = time.monotonic() + self._options.patience_s
        while list(verdict.check_nothing_is_left(self._stack)) and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)

    def _judge(self) -> Report:
        stack, load, options = self._stack, self._load, self._options
        self._look_at_memory()
        found = uvloop.run(rows(stack.urls[0], load.projects))
        uvloop.run(
            follow_on(
                load.sent, {message_id: row["attempt"] for message_id, row in found.items()}, most_s=options.patience_s
            )
        )
        checked = 0

        def progress(count: int) -> None:
            nonlocal checked
            checked += count
            self._watch(Step(doing="checking", done=checked, of=len(load.sent)))

        violations = [*verdict.check_messages(load.sent, found), *verdict.check_nothing_is_left(stack)]
        violations += verdict.check_readers(load.sent, found, progress=progress)
        effects, wrong_effects = verdict.check_effects(stack)
        violations += wrong_effects
        violations += [Violation(kind="answer", what=problem) for problem in load.problems]
        violations += [Violation(kind="process", what=problem) for problem in self._conductor.arena.problems]
        violations += verdict.check_leaks(stack)
        return self._report(found, effects, violations)

    # --- figures -------------------------------------------------------------------------------------------------

    def _report(self, found: dict[str, Row], effects: verdict.Effects, violations: list[Violation]) -> Report:
        load, sent = self._load, self._load.sent
        kinds = Counter(violation.kind for violation in violations)
        recoveries = verdict.recoveries_s(self._conductor.arena.kills, sent)
        ours = [found[one.message_id] for one in sent if one.message_id in found]
        seconds = max(load.ended_at_s - load.began_at_s, 0.001)
        (counted,) = self._stack.sql("SELECT coalesce(sum(run), 0) AS runs FROM messages WHERE role = 'assistant'")
        return Report(
            seed=self._options.seed,
            lease_s=self._options.lease_s,
            seconds=seconds,
            messages=len(sent),
            statuses=dict(Counter(row["status"] for row in ours)),
            runs=int(counted.runs),
            attempts=sum(row["attempt"] for row in ours),
            faults=dict(self._conductor.done),
            lost=kinds["lost"],
            stuck=kinds["stuck"],
            doubled=kinds["doubled"],
            trace_violations=kinds["trace"],
            other_violations=kinds["answer"] + kinds["effect"] + kinds["leak"] + kinds["process"],
            effects=effects.ledger,
            document_versions=effects.versions,
            document_items=effects.items,
            readers=sum(len(one.readers) for one in sent),
            reader_events=load.tally.events,
            reconnects=load.tally.reconnects,
            recovery=Recovery(
                count=len(recoveries),
                p50_s=verdict.percentile(recoveries, 0.5),
                p99_s=verdict.percentile(recoveries, 0.99),
                most_s=recoveries[-1] if recoveries else None,
            ),
            messages_per_s=len(sent) / seconds,
            events_per_s=load.tally.events / seconds,
            rss_mb=self._memory,
            restarts=dict(self._conductor.ended_by_themselves),
            answers=dict(load.answers),
            violations=[self._saved(number, violation) for number, violation in enumerate(violations)],
        )

    def _saved(self, number: int, violation: Violation) -> FoundViolation:
        if violation.recording is None or violation.row is None:
            return FoundViolation(kind=violation.kind, what=violation.what)
        path = self._options.artifacts / f"seed-{self._options.seed}-{number}.json"
        SavedRecording.of(violation.recording, violation.row, seed=self._options.seed, violation=violation.what).save(
            path
        )
        return FoundViolation(kind=violation.kind, what=violation.what, saved=str(path))

    def _look_at_memory(self) -> None:
        for name in self._stack.names:
            if name != "model" and self._stack.is_running(name):
                now_mb = memory_mb(self._stack.pid(name))
                self._memory[name] = (self._memory.get(name, (now_mb, 0.0))[0], now_mb)

    def _show(self, doing: str) -> None:
        load, done = self._load, self._conductor.done
        note = f"{len(load.sent)} sent, {load.tally.events} events, {sum(done.values())} faults"
        self._watch(Step(doing=doing, done=load.tally.lives, of=self._options.messages, note=note))
