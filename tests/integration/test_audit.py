"""`chatrelay audit`: each kind of disagreement is found, is mended where that was promised, and a healthy system has none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
import redis
from sqlalchemy import Engine

from ops.audit import Auditor, Report
from shared import keys
from shared.auditing import Disagreement
from shared.batches import BatchFilter
from shared.closing import append_ending, entries_of
from shared.doorbell import Doorbell, make_celery
from shared.event_log import Entry, EventLog
from shared.events import Delta, EventId, Snapshot, Status, ToolResult, ToolStart, encode
from shared.lifecycle import ErrorCode, MessageStatus, OnBusy
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.records import Lease, StoredCall
from shared.settings import Settings
from shared.store import Built, StartJob, Store
from tests.integration.command_line import run
from tests.integration.store_parts import PATCH_LIMITS, Scene, call
from tests.integration.worker_parts import Bench
from worker.build import run_build
from worker.compiler import Compiler
from worker.turn import run_turn

BUILT: Final = Built(
    source="a",
    source_sha256="ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
    bundle="b",
    bundle_sha256="3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
)


class Office(Scene):
    """A system in which everything agrees until somebody breaks it, and an auditor that waits for nobody."""

    def __init__(self, store: Store, engine: Engine, log: EventLog, client: redis.Redis, settings: Settings) -> None:
        super().__init__(store, engine)
        self.log = log
        self.client = client
        self.celery = make_celery(settings.redis_url.get_secret_value())
        self.auditor: Callable[[], Auditor] = lambda: Auditor(
            store, log, Doorbell(self.celery), settings, overdue_s=60.0, pause=lambda _: None
        )

    def audit(self, *, repair: bool = False, project_id: UUID | None = None) -> Report:
        return self.auditor().run(repair=repair, project_id=project_id)

    # --- what is there ----------------------------------------------------------------------------------------------

    def told(self, lease: Lease, *told: Any) -> int:
        """Appends events in order from the attempt's start; how many."""
        entries = []
        for n, make in enumerate(told):
            id_ = EventId(lease.attempt, n)
            entries.append(Entry(id_, encode(make(id=str(id_), message_id=str(lease.message_id), ts=1))))
        assert self.log.append(lease.message_id, entries).word == "ok"
        return len(entries)

    def answer(self, outcome: Outcome | None = None) -> UUID:
        """An answer with a log, from its first event to the ending, in which an edit was made."""
        lease = self.claimed(self.message())
        made = call(lease)
        self.store_round(lease, 0, "so ", made, content="so ")
        self.store.commit_effect(lease, 0, 0, made, self.append_one(lease))
        count = self.told(lease, thinking, delta("so "), *of_call(made))
        return self.end(lease, outcome or Succeeded(content="so it is"), count)

    def end(self, lease: Lease, outcome: Outcome, n: int, built: Built | None = None) -> UUID:
        ending = self.store.finalize(
            lease, outcome, first=EventId(lease.attempt, n), usage=None, first_token_ms=1, built=built
        )
        assert append_ending(self.store, self.log, ending)
        return lease.message_id

    def handed_over(self) -> UUID:
        """An answer whose component is to be built."""
        lease = self.claimed(self.message())
        made = call(lease)
        made = msgspec.structs.replace(made, name="generateRemotionComponent")
        self.store_round(lease, 0, "a ball", made, content="a ball")
        effect = StartJob(name="Ball", effect_description="red")
        job = self.store.commit_effect(lease, 0, 0, made, effect).job
        assert job is not None
        count = self.told(lease, thinking, delta("a ball"), *of_call(made))
        return self.end(lease, HandedOver(content="a ball", job_id=str(job.id)), count)

    def built(self) -> UUID:
        """An answer with its component."""
        message_id = self.handed_over()
        claim = self.store.claim_build(message_id, "builder", lease_s=60, max_tries=3)
        assert claim is not None
        (row,) = self.store.reader_rows([message_id]).values()
        snapshot = snapshot_of(row)
        self.told(claim.lease, snapshot, building)
        return self.end(claim.lease, Succeeded(content="a ball"), 2, built=BUILT)

    def xadd(self, message_id: UUID, id_: str, payload: bytes) -> None:
        """Behind the appender's back."""
        self.client.xadd(keys.log(message_id), {keys.LOG_FIELD: payload}, id=id_)


def thinking(**fields: Any) -> Status:
    return Status(status="thinking", **fields)


def building(**fields: Any) -> Status:
    return Status(status="building", **fields)


def delta(words: str) -> Callable[..., Delta]:
    return lambda **fields: Delta(content=words, **fields)


def of_call(made: StoredCall) -> tuple[Callable[..., Any], ...]:
    """What is told of a call that succeeded."""

    def start(**fields: Any) -> ToolStart:
        return ToolStart(name=made.name, tool_call_id=made.tool_call_id, arguments={}, **fields)

    def calling(**fields: Any) -> Status:
        return Status(status="tool_calling", **fields)

    def result(**fields: Any) -> ToolResult:
        return ToolResult(name=made.name, tool_call_id=made.tool_call_id, success=True, **fields)

    return start, calling, result


def snapshot_of(row: Any) -> Callable[..., Any]:
    return lambda **fields: Snapshot(
        content=row.content, status=row.status.value, tool_calls=row.tool_calls, reason="attempt", **fields
    )


@pytest.fixture
def office(
    store: Store, engine: Engine, log: EventLog, redis_client: redis.Redis, settings: Settings
) -> Iterator[Office]:
    made = Office(store, engine, log, redis_client, settings)
    yield made
    made.celery.close()


@dataclass(frozen=True)
class Fault:
    """`plant` breaks one thing in a sound system."""

    kind: Disagreement
    plant: Callable[[Office], object]

    def __str__(self) -> str:
        return f"{self.kind}, {self.plant.__name__}"


def old(office: Office, message_id: UUID, **columns: str) -> None:
    """As if the row had been left alone for an hour; `columns` are SQL."""
    hour = "now() - interval '1 hour'"
    named = {"updated_at": hour, **columns}
    changes = ", ".join(f"{name} = {value}" for name, value in named.items())
    office.execute(f"UPDATE messages SET {changes} WHERE id = :id", id=message_id)
    office.execute(f"UPDATE messages SET updated_at = {hour} WHERE project_id = :project", project=office.project_id)


def cut_off(office: Office, message_id: UUID, *, events_of_ending: int) -> None:
    """As after a Redis that came back without its newest entries."""
    entries: Any = office.client.xrange(keys.log(message_id))
    office.client.delete(keys.log(message_id))
    for id_, fields in entries[:-events_of_ending]:
        office.xadd(message_id, id_.decode(), fields[keys.LOG_FIELD.encode()])
    office.client.expire(keys.log(message_id), 60)


def an_ending_nobody_appended(office: Office) -> None:
    message_id = office.answer()
    cut_off(office, message_id, events_of_ending=2)
    old(office, message_id, ending_appended="false")


def a_log_that_stops_before_its_end(office: Office) -> None:
    cut_off(office, office.answer(), events_of_ending=2)


def a_log_whose_end_was_deleted(office: Office) -> None:
    message_id = office.answer()
    ending = office.store.ending_of(message_id)
    assert ending is not None
    for entry in entries_of(ending):
        office.client.xdel(keys.log(message_id), str(entry.id))


def a_log_that_goes_on(office: Office) -> None:
    message_id = office.answer()
    last = EventId.parse(office.row(message_id)["last_event_id"])
    office.xadd(
        message_id, str(last.next), delta("more")(id=str(last.next), message_id=str(message_id), ts=1).content.encode()
    )


def a_log_of_an_attempt_that_never_was(office: Office) -> None:
    message_id = office.answer()
    office.xadd(message_id, "9-0", encode(thinking(id="9-0", message_id=str(message_id), ts=1)))


def a_text_that_is_not_the_logs(office: Office) -> None:
    office.execute("UPDATE messages SET content = 'no' WHERE id = :id", id=office.answer())


def a_call_that_the_log_does_not_tell(office: Office) -> None:
    office.execute("UPDATE tool_ledger SET succeeded = false WHERE message_id = :id", id=office.answer())


def an_entry_that_is_nonsense(office: Office) -> None:
    message_id = office.answer()
    entries: Any = office.client.xrange(keys.log(message_id))
    office.client.delete(keys.log(message_id))
    for number, (id_, fields) in enumerate(entries):
        office.xadd(message_id, id_.decode(), b"{}" if number == 1 else fields[keys.LOG_FIELD.encode()])
    office.client.expire(keys.log(message_id), 60)


def an_event_that_is_missing(office: Office) -> None:
    office.client.xdel(keys.log(office.answer()), "1-1")


def a_log_that_never_expires(office: Office) -> None:
    office.client.persist(keys.log(office.answer()))


def an_error_without_a_code(office: Office) -> None:
    message_id = office.answer(Failed(content="so ", code=ErrorCode.DEADLINE))
    office.execute("UPDATE messages SET error_code = NULL WHERE id = :id", id=message_id)


def a_status_that_its_ending_denies(office: Office) -> None:
    message_id = office.answer(Cancelled(content="so "))
    office.client.delete(keys.log(message_id))
    office.execute("UPDATE messages SET status = 'success' WHERE id = :id", id=message_id)


def an_end_that_is_not_stored(office: Office) -> None:
    office.execute("UPDATE messages SET ending = NULL WHERE id = :id", id=office.answer())


def a_question_without_an_answer(office: Office) -> None:
    question = office.submit().user_message.id
    office.execute("DELETE FROM messages WHERE reply_to = :id", id=question)


def an_answer_without_a_question(office: Office) -> None:
    message_id = office.answer()
    asked = office.row(message_id)["reply_to"]
    office.execute("UPDATE messages SET reply_to = NULL WHERE id = :id", id=message_id)
    office.execute("DELETE FROM messages WHERE id = :id", id=asked)


def a_number_that_was_never_given_out(office: Office) -> None:
    office.execute("UPDATE messages SET queue_number = 77 WHERE id = :id", id=office.message())


def a_number_that_two_have(office: Office) -> None:
    first, second = office.message(), office.message()
    office.claimed(first)
    sql = "UPDATE messages SET queue_number = other.queue_number FROM messages other WHERE other.id = :first"
    office.execute(f"{sql} AND messages.id = :second", first=first, second=second)


def a_lease_that_nobody_took(office: Office) -> None:
    lease = office.claimed()
    old(office, lease.message_id, lease_until="now() - interval '10 minutes'")


def a_message_that_nobody_rang_for(office: Office) -> None:
    hour = "now() - interval '1 hour'"
    old(office, office.message(), rung_at=hour, enqueued_at=hour)


def a_component_that_nobody_rang_for(office: Office) -> None:
    hour = "now() - interval '1 hour'"
    old(office, office.handed_over(), rung_at=hour, enqueued_at=hour)


def a_cancel_that_nobody_answered(office: Office) -> None:
    old(office, office.message(), cancel_requested_at="now() - interval '1 hour'")


def a_message_without_a_try(office: Office) -> None:
    old(office, office.message(), tries="3")


def a_build_without_its_job(office: Office) -> None:
    office.execute("UPDATE messages SET job_id = NULL WHERE id = :id", id=office.handed_over())


def a_job_that_outlived_its_message(office: Office) -> None:
    message_id = office.built()
    office.execute("UPDATE component_jobs SET status = 'building' WHERE message_id = :id", id=message_id)


def a_job_that_says_something_else(office: Office) -> None:
    message_id = office.built()
    office.execute("UPDATE component_jobs SET status = 'cancelled' WHERE message_id = :id", id=message_id)


def a_job_that_is_gone(office: Office) -> None:
    message_id = office.built()
    office.execute("DELETE FROM tool_ledger WHERE message_id = :id", id=message_id)
    office.execute("DELETE FROM rounds WHERE message_id = :id", id=message_id)
    office.client.delete(keys.log(message_id))
    office.execute("DELETE FROM component_jobs WHERE message_id = :id", id=message_id)


def a_bundle_that_was_changed(office: Office) -> None:
    office.execute("UPDATE component_jobs SET bundle = 'evil' WHERE message_id = :id", id=office.built())


def a_call_that_no_round_decided(office: Office) -> None:
    office.execute("DELETE FROM rounds WHERE message_id = :id", id=office.answer())


def a_call_that_was_never_made(office: Office) -> None:
    lease = office.claimed(office.message())
    office.store_round(lease, 0, "so ", call(lease), content="so ")
    office.end(lease, Succeeded(content="so"), office.told(lease, thinking, delta("so")))


def a_job_that_no_call_began(office: Office) -> None:
    message_id = office.built()
    office.execute("UPDATE tool_ledger SET job_id = NULL WHERE message_id = :id", id=message_id)


def a_version_that_is_nobodys(office: Office) -> None:
    message_id = office.answer()
    office.execute("UPDATE document_versions SET message_id = NULL WHERE message_id = :id", id=message_id)


def a_version_that_no_call_made(office: Office) -> None:
    message_id = office.answer()
    office.execute("UPDATE tool_ledger SET version = NULL, name = 'other' WHERE message_id = :id", id=message_id)


def a_call_of_an_attempt_to_come(office: Office) -> None:
    office.execute("UPDATE tool_ledger SET attempt = 7 WHERE message_id = :id", id=office.answer())


def a_version_that_is_missing(office: Office) -> None:
    for value in range(3):
        patch(office, value)
    office.execute("DELETE FROM document_versions WHERE version = 3")


def a_project_behind_its_versions(office: Office) -> None:
    patch(office, 1)
    patch(office, 2)
    office.execute("UPDATE projects SET version = 2")


def a_document_that_its_versions_did_not_make(office: Office) -> None:
    patch(office, 1)
    office.execute("""UPDATE projects SET document = '{"list": [2]}'""")


def an_inverse_that_does_not_fit(office: Office) -> None:
    patch(office, 1)
    office.execute("""UPDATE document_versions SET inverse = '[{"op": "remove", "path": "/nowhere"}]'""")


def a_key_of_another_project(office: Office) -> None:
    office.submit(key="k")
    office.execute("UPDATE idempotency_keys SET project_id = :other", other=office.new_project())


def patch(office: Office, value: int) -> None:
    operation = {"op": "add", "path": "/list/-", "value": value}
    office.store.patch_document(office.principal, office.project_id, [operation], PATCH_LIMITS)


FAULTS: Final = [
    Fault(Disagreement.ENDING_NOT_APPENDED, an_ending_nobody_appended),
    Fault(Disagreement.END_MISSING_IN_LOG, a_log_that_stops_before_its_end),
    Fault(Disagreement.END_MISSING_IN_LOG, a_log_whose_end_was_deleted),
    Fault(Disagreement.LOG_BEYOND_END, a_log_that_goes_on),
    Fault(Disagreement.LOG_BEYOND_END, a_log_of_an_attempt_that_never_was),
    Fault(Disagreement.LOG_CONTRADICTS_ROW, a_text_that_is_not_the_logs),
    Fault(Disagreement.LOG_CONTRADICTS_ROW, a_call_that_the_log_does_not_tell),
    Fault(Disagreement.LOG_UNREADABLE, an_entry_that_is_nonsense),
    Fault(Disagreement.LOG_UNREADABLE, an_event_that_is_missing),
    Fault(Disagreement.LOG_UNREADABLE, a_log_that_never_expires),
    Fault(Disagreement.ROW_CONTRADICTS_ITSELF, an_error_without_a_code),
    Fault(Disagreement.ROW_CONTRADICTS_ITSELF, a_status_that_its_ending_denies),
    Fault(Disagreement.ROW_CONTRADICTS_ITSELF, an_end_that_is_not_stored),
    Fault(Disagreement.QUESTION_WITHOUT_ANSWER, a_question_without_an_answer),
    Fault(Disagreement.ANSWER_WITHOUT_QUESTION, an_answer_without_a_question),
    Fault(Disagreement.QUEUE_NUMBER_WRONG, a_number_that_was_never_given_out),
    Fault(Disagreement.QUEUE_NUMBER_WRONG, a_number_that_two_have),
    Fault(Disagreement.LEASE_LAPSED, a_lease_that_nobody_took),
    Fault(Disagreement.NOT_RUNG, a_message_that_nobody_rang_for),
    Fault(Disagreement.NOT_RUNG, a_component_that_nobody_rang_for),
    Fault(Disagreement.CANCEL_UNANSWERED, a_cancel_that_nobody_answered),
    Fault(Disagreement.TRIES_SPENT, a_message_without_a_try),
    Fault(Disagreement.BUILDING_WITHOUT_JOB, a_build_without_its_job),
    Fault(Disagreement.JOB_OPEN, a_job_that_outlived_its_message),
    Fault(Disagreement.JOB_CONTRADICTS_MESSAGE, a_job_that_says_something_else),
    Fault(Disagreement.JOB_MISSING, a_job_that_is_gone),
    Fault(Disagreement.BUNDLE_DAMAGED, a_bundle_that_was_changed),
    Fault(Disagreement.CALL_WITHOUT_ROUND, a_call_that_no_round_decided),
    Fault(Disagreement.CALL_NOT_MADE, a_call_that_was_never_made),
    Fault(Disagreement.CALL_WITHOUT_JOB, a_job_that_no_call_began),
    Fault(Disagreement.CALL_WITHOUT_VERSION, a_version_that_is_nobodys),
    Fault(Disagreement.VERSION_WITHOUT_CALL, a_version_that_no_call_made),
    Fault(Disagreement.ATTEMPT_AHEAD, a_call_of_an_attempt_to_come),
    Fault(Disagreement.VERSION_MISSING, a_version_that_is_missing),
    Fault(Disagreement.VERSION_MISSING, a_project_behind_its_versions),
    Fault(Disagreement.VERSION_CONTRADICTS_DOCUMENT, a_document_that_its_versions_did_not_make),
    Fault(Disagreement.VERSION_CONTRADICTS_DOCUMENT, an_inverse_that_does_not_fit),
    Fault(Disagreement.KEY_ELSEWHERE, a_key_of_another_project),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_and_mended_where_that_is_promised(office: Office, fault: Fault) -> None:
    """Beside sound rows of every kind exactly the planted kind is found; what is mendable is gone after one repair."""
    office.answer()
    office.built()
    assert office.audit().disagreements == {}
    fault.plant(office)
    assert office.audit().disagreements == {fault.kind: 1}
    repaired = office.audit(repair=True)
    after = office.audit()
    if fault.kind.is_mendable:
        assert (repaired.repaired, repaired.left) == ({fault.kind: 1}, {})
        assert after.disagreements == {}
    else:
        assert (repaired.repaired, repaired.left) == ({}, {fault.kind: 1})
        assert after.disagreements == {fault.kind: 1}


def test_every_kind_is_planted_by_some_test() -> None:
    """A kind that no fault shows could be a check that finds nothing."""
    assert {fault.kind for fault in FAULTS} == set(Disagreement)


# --- a system that is well ----------------------------------------------------------------------------------------


def edit(path: str, value: object, op: str = "replace") -> dict[str, Any]:
    return {"name": "applyJsonPatch", "arguments": {"operations": [{"op": op, "path": path, "value": value}]}}


def script(bench: Bench) -> None:
    """What the model answers, by what is asked."""
    add = {"tool": edit("/items/-", 1, op="add")}
    bench.model.say("talk", {"text": "Hello, wörld.", "chunks": 4})
    bench.model.on("edit", {"rounds": [{"steps": [{"text": "Let me."}, add]}, {"steps": [{"text": "Done."}]}]})
    misfit = {"tool": edit("/nowhere/at/all", 1)}
    bench.model.on("misfit", {"rounds": [{"steps": [misfit]}, {"steps": [{"text": "Sorry."}]}]})
    bench.model.say("cut short", {"text": "Well"}, {"finish": "length"})
    bench.model.on("broken", {"rounds": [{"status": 400}]})
    again = [{"steps": [{"text": "Half an ans"}, {"cut": "rst"}]}, {"steps": [{"text": "Whole."}]}]
    bench.model.on("again", {"rounds": [{"attempts": again}]})
    component = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball", "name": "Ball"}}
    bench.model.on("component", {"rounds": [{"steps": [{"text": "I build it."}, {"tools": [component]}]}]})


def auditor_of(bench: Bench) -> Auditor:
    return Auditor(bench.store, bench.log, bench.doorbell, bench.settings())


def test_after_messages_of_every_kind_nothing_disagrees(bench: Bench) -> None:
    """Texts, edits, also refused ones, failures, cancels, retries, components, undo: all looked at, none wrong."""
    script(bench)
    workshop, compiler = bench.workshop(), Compiler.installed()
    words = ("talk", "edit", "misfit", "cut short", "broken", "again", "component", "another component")
    asked = {one: bench.ask(one) for one in words}
    for message_id in asked.values():
        run_turn(workshop, message_id)
    built, unbuilt = asked["component"], asked["another component"]
    run_build(workshop, compiler, built)
    bench.cancel(unbuilt)
    for one in ("talk", "edit", "cut short", "broken"):
        bench.retry(asked[one])
        run_turn(workshop, asked[one])
    statuses = {bench.row(message_id).status.value for message_id in asked.values()}
    assert statuses == {"success", "error", "cancelled"}
    bench.retry(unbuilt)
    bench.cancel(bench.ask("talk"))
    bench.edit({"op": "add", "path": "/items/-", "value": {"by": "hand"}})
    bench.store.undo(bench.anna, bench.project_id, PATCH_LIMITS)
    bench.ask("talk")
    report = auditor_of(bench).run()
    assert (report.disagreements, report.not_judged) == ({}, 0)
    counted = {name: bench.sql(f"SELECT count(*) FROM {table}") for name, table in TABLES.items()}
    assert {name: report.looked_at[name] for name in counted} == counted
    assert report.looked_at["logs"] == len(bench.client.keys(keys.log("*")))
    assert report.looked_at["versionsReplayed"] == counted["versions"]


TABLES: Final = {
    "messages": "messages",
    "rounds": "rounds",
    "calls": "tool_ledger",
    "jobs": "component_jobs",
    "versions": "document_versions",
    "projects": "projects",
}


def test_while_everything_moves_nothing_is_found(bench: Bench) -> None:
    """Audits one after the other, as long as turns are written, edits made, messages retried and cancelled."""
    script(bench)
    workshop, done = bench.workshop(), threading.Event()
    turns = 40

    def people() -> None:
        try:
            for number in range(turns):
                message_id = bench.ask(("talk", "edit", "again", "misfit")[number % 4])
                if number % 5 == 4:
                    bench.cancel(message_id)
                else:
                    run_turn(workshop, message_id)
                if number % 3 == 2:
                    bench.retry(message_id)
                    run_turn(workshop, message_id)
        finally:
            done.set()

    thread = threading.Thread(target=people, name="people")
    thread.start()
    audits = 0
    while not done.is_set() or not audits:
        auditor = Auditor(bench.store, bench.log, bench.doorbell, bench.settings(), overdue_s=5.0)
        report = auditor.run()
        assert report.disagreements == {}, report.findings
        audits += 1
    thread.join()
    report = auditor_of(bench).run()
    assert (report.disagreements, report.looked_at["messages"]) == ({}, 2 * turns)


def test_a_batch_that_goes_its_own_pace_is_no_disagreement(office: Office) -> None:
    """Its items are rung for as it is their turn in it, and stand in no line: who goes first there may get their number."""
    failed = office.answer(Failed(content="so it", code=ErrorCode.STREAM_BROKEN))
    office.claimed()
    office.message()
    wanted = BatchFilter(status=MessageStatus.ERROR)
    office.store.start_batch(wanted, rate=None, asked_by="ops")
    sent = office.store.send_batch_items(limit=10, window=10)
    assert sent is not None
    assert [message.id for message in sent.again] == [failed]
    office.message(on_busy=OnBusy.INTERRUPT)
    old(office, failed, enqueued_at="now() - interval '1 hour'")
    office.execute("UPDATE messages SET rung_at = now() WHERE id <> :id", id=failed)
    assert office.audit(repair=True).disagreements == {}


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_tells_what_it_looked_at_and_ends_with_3_while_something_is_left(
    office: Office, settings: Settings, tmp_path: Path
) -> None:
    """0, 3, 0: a sound system, one with two faults of which one cannot be mended, and once they are gone."""
    servers = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
    }
    mendable, other = office.answer(), office.answer()
    fine = run("audit", state=tmp_path, **servers)
    assert (fine.returncode, fine.stderr) == (0, "")
    assert "looked at: 4 messages, 2 logs" in fine.stdout
    assert "disagreements: 0" in fine.stdout
    office.client.persist(keys.log(mendable))
    office.execute("UPDATE tool_ledger SET attempt = 7 WHERE message_id = :id", id=other)
    found = run("audit", state=tmp_path, **servers)
    assert (found.returncode, found.stderr) == (3, "")
    assert f"attempt_ahead {other}: " in found.stdout
    assert "1 can be mended: chatrelay audit --repair" in found.stdout
    repaired = run("audit", "--repair", "--json", state=tmp_path, **servers)
    told = json.loads(repaired.stdout)
    assert repaired.returncode == 3
    assert told["disagreements"] == {"log_unreadable": 1, "attempt_ahead": 1}
    assert (told["repaired"], told["left"]) == ({"log_unreadable": 1}, {"attempt_ahead": 1})
    last = office.store.last_audit()
    assert last is not None
    assert (last.disagreements_left, last.found) == (1, told["disagreements"])
    assert last.looked_at == told["lookedAt"]
    elsewhere = run("audit", "--project", str(office.new_project()), "--json", state=tmp_path, **servers)
    assert (elsewhere.returncode, json.loads(elsewhere.stdout)["lookedAt"]["projects"]) == (0, 1)
    assert office.store.last_audit() == last, "an audit of one project is not the system's"


def test_an_audit_claims_nothing_where_it_could_not_look(settings: Settings, tmp_path: Path) -> None:
    """Redis is away: no zero is told, and the code is 1."""
    database_url = settings.database_url.get_secret_value()
    done = run("audit", state=tmp_path, DATABASE_URL=database_url, REDIS_URL="redis://127.0.0.1:1/0")
    empty = run("audit", state=tmp_path, DATABASE_URL=database_url)
    assert (empty.returncode, "REDIS_URL" in empty.stderr) == (2, True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Redis cannot be reached" in done.stderr
