"""Postgres is away, silent, full, read only or out of connections: what was acknowledged becomes final, once it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final

import psycopg2
import pytest
from sqlalchemy import create_engine, text

from dev.embedded import EmbeddedPostgres
from shared.engine import sqlalchemy_url
from shared.events import Delta
from tests.fault_proxy import down, up
from tests.faults.scenes import (
    COMMIT,
    END,
    HALVES,
    HOLD,
    SUBMIT,
    WHOLE,
    check_patched_once,
    finished,
    holder_of,
    play_patch,
    refused_by_postgres,
    standing_still,
    tries_of,
)
from tests.followers import is_snapshot
from tests.people import Person, eventually
from tests.stack import Stack

Fault = Callable[[Stack], AbstractContextManager[object]]


@contextmanager
def _unreachable(stack: Stack) -> Iterator[None]:
    """Every process's connections are reset and new ones refused."""
    links = stack.links("postgres")
    for link in links:
        link.refuse()
        link.reset()
    try:
        yield
    finally:
        for link in links:
            link.undo()


@contextmanager
def _read_only(stack: Stack) -> Iterator[None]:
    """As a primary that became a standby: every write is refused, 25006."""
    assert stack.postgres is not None
    stack.postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    stack.postgres.sql("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        stack.postgres.sql("ALTER SYSTEM RESET default_transaction_read_only")
        stack.postgres.sql("SELECT pg_reload_conf()")


@contextmanager
def _out_of_connections(stack: Stack) -> Iterator[None]:
    """The server has as many clients as it takes, and none of them is the product's."""
    hoard: list[Any] = []
    with ExitStack() as exits:
        while True:
            try:
                hoard.append(psycopg2.connect(stack.database_url, application_name="hoard"))
            except psycopg2.OperationalError:
                with hoard[0].cursor() as cursor:
                    cursor.execute(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                        " WHERE backend_type = 'client backend' AND application_name <> 'hoard'"
                    )
                    (others,) = cursor.fetchone()
                    hoard[0].rollback()
                if not others:
                    break
            else:
                exits.callback(hoard[-1].close)
        yield


def _disk_full(stack: Stack) -> AbstractContextManager[None]:
    return refused_by_postgres(stack, "messages", "INSERT OR UPDATE", "53100")


FAULTS: Final[dict[str, Fault]] = {
    "unreachable": _unreachable,
    "read only": _read_only,
    "out of connections": _out_of_connections,
    "disk full": _disk_full,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_postgres_refuses_in_the_middle_of_an_answer(fragile: Stack, person: Person, fault: Fault) -> None:
    """The model is read on; a submit is answered 503 and changes nothing; the end is committed when Postgres is back."""
    fragile.model.say("refused", *HALVES)
    project_id = person.project()
    message_id = person.submit(project_id, "refused meanwhile")
    body, key = {"content": "refused at submit"}, {"Idempotency-Key": "the-same"}
    path = f"/v1/projects/{project_id}/messages"
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        with fault(fragile):
            fragile.model.release(HOLD)
            fragile.model.wait_ended(0)
            refused = person.client.post(path, json=body, headers=key)
            assert (refused.status_code, refused.json()["code"]) == (503, "outcome_unknown")
        again = eventually(
            lambda: answer if (answer := person.client.post(path, json=body, headers=key)).is_success else None
        )
        row = finished(person, audience, message_id)
    assert (row["status"], row["content"]) == ("success", WHOLE)
    _check_submitted_once(fragile, person, project_id, again.json(), messages=4)


def _check_submitted_once(stack: Stack, person: Person, project_id: str, answer: Any, *, messages: int) -> None:
    """No half of a pair is there, and no pair twice; the answer comes."""
    stored = stack.sql("SELECT role, reply_to FROM messages WHERE project_id = :id ORDER BY id", id=project_id)
    assert [str(row.role) for row in stored] == ["user", "assistant"] * (messages // 2)
    message_id = answer["assistantMessage"]["id"]
    with person.audience(message_id) as audience:
        assert finished(person, audience, message_id)["status"] == "success"


@pytest.mark.parametrize("step", [down(COMMIT), up(COMMIT)], ids=["answer lost", "request lost"])
def test_the_commit_of_a_submit_is_not_answered(fragile: Stack, person: Person, step: Any) -> None:
    """503, outcome unknown: the same key makes one pair of it, whether it was committed or not."""
    fragile.model.say("submitted", *HALVES)
    fragile.model.release(HOLD)
    project_id = person.project()
    path, body, key = f"/v1/projects/{project_id}/messages", {"content": "submitted"}, {"Idempotency-Key": "mine"}
    lost = fragile.link("web-1", "postgres").cut(SUBMIT, step)
    refused = person.client.post(path, json=body, headers=key)
    assert (refused.status_code, refused.json()["code"], lost.struck) == (503, "outcome_unknown", 1)
    answers = [client.post(path, json=body, headers=key) for client in (*person.clients, person.client)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["assistantMessage"]["id"] for answer in answers}) == 1
    _check_submitted_once(fragile, person, project_id, answers[0].json(), messages=2)


def test_postgres_stands_still_in_the_middle_of_an_answer(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres
) -> None:
    """All its processes are stopped until the worker could not renew its lease."""
    fragile.model.say("stands still", *HALVES)
    message_id = person.submit(person.project(), "it stands still")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        holder = holder_of(fragile, message_id)
        with standing_still(postgres_server):
            fragile.model.release(HOLD)
            fragile.model.wait_ended(0)
            eventually(lambda: "leases not renewed" in fragile.output(holder))
        row = finished(person, audience, message_id)
    assert (row["status"], row["content"]) == ("success", WHOLE)


def test_postgres_stands_still_at_the_final_commit_which_comes_late(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres
) -> None:
    """The worker gave the commit up when its time was over; the server, awake again, makes it all the same."""
    play_patch(fragile, "late commit")
    fragile.model.release(HOLD)
    project_id = person.project(document={"list": []})
    links = {name: fragile.link(name, "postgres") for name in ("worker-1", "worker-2")}
    traps = {name: link.hold(END, up(COMMIT)) for name, link in links.items()}
    message_id = person.submit(project_id, "late commit")
    with person.audience(message_id) as audience:
        holder = eventually(lambda: next((name for name, trap in traps.items() if trap.struck), None))
        with standing_still(postgres_server):
            before = links[holder].opened
            for trap in traps.values():
                trap.release()
            links[holder].wait_opened(before + 1)
        row = finished(person, audience, message_id)
    check_patched_once(fragile, person, row)


@pytest.mark.parametrize("manner", ["silent", "refusing"])
def test_postgres_is_gone_for_one_worker_the_other_takes_over(fragile: Stack, person: Person, manner: str) -> None:
    """What still streams to the one without a lease is not appended: the other's answer stands."""
    attempts = [
        {"steps": [{"text": "Half of a "}, {"hold": "it goes on"}, {"text": "zombie."}]},
        {"steps": [{"text": "The living "}, {"hold": HOLD}, {"text": "answer."}]},
    ]
    fragile.model.on("gone for one", {"rounds": [{"attempts": attempts}]})
    message_id = person.submit(person.project(), "gone for one")
    with person.audience(message_id) as audience:
        audience.wait_text("Half of a ")
        lost = holder_of(fragile, message_id)
        link = fragile.link(lost, "postgres")
        if manner == "silent":
            link.blackhole()
        else:
            link.refuse()
            link.reset()
        audience.wait_for(is_snapshot("attempt", attempt=2))
        fragile.model.release("it goes on")
        fragile.model.wait_ended(0)
        audience.wait_text("The living ")
        assert fragile.holder(message_id) not in (None, lost)
        link.undo()
        fragile.model.release(HOLD)
        row = finished(person, audience, message_id)
        for story in audience.check(row):
            assert "zombie." not in "".join(event.content for event in story if isinstance(event, Delta))
    assert (row["status"], row["content"], row["attempt"]) == ("success", "The living answer.", 2)


def test_connections_that_are_ended_again_and_again_cost_nobody_a_try(fragile: Stack, person: Person) -> None:
    """pg_terminate_backend of every connection of the product's, as text comes and as it ends."""
    fragile.model.say("ended", {"text": "word " * 12, "chunks": 12, "pace": 0.1}, {"hold": HOLD}, {"text": "end."})
    message_id = person.submit(person.project(), "to be ended")
    end_all = (
        "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity"
        " WHERE application_name LIKE 'chatrelay-%' AND application_name <> 'chatrelay-test'"
    )
    with person.audience(message_id) as audience:
        ended = 0
        for count in (2, 6, 10):
            fragile.model.wait_chunks(0, count)
            ended += fragile.sql(end_all)[0].ended
        fragile.model.wait_held(HOLD)
        ended += fragile.sql(end_all)[0].ended
        fragile.model.release(HOLD)
        row = finished(person, audience, message_id)
    assert ended
    assert (row["status"], row["content"], row["attempt"]) == ("success", "word " * 12 + "end.", 1)
    assert tries_of(fragile, message_id) == 0


FULL_AT: Final = {
    "the stored round": ("rounds", "INSERT", "true"),
    "the tool's commit": ("tool_ledger", "INSERT", "true"),
    "the final commit": ("messages", "UPDATE", "OLD.ending_appended AND NOT NEW.ending_appended"),
}


@pytest.mark.parametrize(("table", "event", "when"), FULL_AT.values(), ids=list(FULL_AT))
def test_the_disk_is_full_in_the_middle_of_a_turn(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres, table: str, event: str, when: str
) -> None:
    """The worker keeps what it has and tries again: one effect, in the same attempt, once there is room."""
    play_patch(fragile, "full disk")
    message_id = person.submit(person.project(document={"list": []}), "full disk")
    with person.audience(message_id) as audience:
        audience.wait_text("I patch.")
        with refused_by_postgres(fragile, table, event, "53100", when=when):
            refused_before = postgres_server.output.count("refused for a test")
            fragile.model.release(HOLD)
            eventually(lambda: postgres_server.output.count("refused for a test") > refused_before + 1)
        row = finished(person, audience, message_id)
    check_patched_once(fragile, person, row)
    assert (row["attempt"], tries_of(fragile, message_id)) == (1, 0)


def test_a_locked_row_keeps_no_other_lease_from_being_renewed(fragile: Stack, person: Person) -> None:
    """Two messages of one worker, one of them locked until its lease is over: the other's stays, and both are answered."""
    fragile.kill("worker-2")
    fragile.model.say("locked", *HALVES)
    locked, free = [person.submit(person.project(), "one is locked") for _ in range(2)]
    engine = create_engine(sqlalchemy_url(fragile.database_url))
    try:
        with person.audience(locked) as one, person.audience(free) as other:
            one.wait_text("The first half, ")
            other.wait_text("The first half, ")
            with engine.begin() as connection:
                connection.execute(text("SELECT 1 FROM messages WHERE id = :id FOR UPDATE"), {"id": locked})
                lapsed = "SELECT 1 FROM messages WHERE id = :id AND lease_until < clock_timestamp()"
                eventually(lambda: fragile.sql(lapsed, id=locked))
                assert not fragile.sql(lapsed, id=free)
            fragile.model.release(HOLD)
            row = finished(person, one, locked)
            unhurt = finished(person, other, free)
    finally:
        engine.dispose()
    assert (row["status"], row["content"]) == ("success", WHOLE)
    assert (unhurt["status"], unhurt["content"], unhurt["attempt"]) == ("success", WHOLE, 1)


def test_a_web_process_that_lost_postgres_goes_on_telling_what_comes(fragile: Stack, person: Person) -> None:
    """Its readers come to the end over Redis; its requests answer 503, and the other process's as ever."""
    fragile.model.say("deaf web", *HALVES)
    message_id = person.submit(person.project(), "deaf web")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        link = fragile.link("web-1", "postgres")
        link.refuse()
        link.reset()
        fragile.model.release(HOLD)
        audience.wait_text(WHOLE)
        assert person.client.get("/v1/projects").status_code == 503
        assert person.clients[1].get("/v1/projects").status_code == 200
        link.undo()
        row = finished(person, audience, message_id, web=1)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 1)


def test_postgres_answers_slowly(fragile: Stack, person: Person) -> None:
    """Every statement of every process takes longer: nothing is lost, and nobody gives up."""
    play_patch(fragile, "slowly")
    fragile.model.release(HOLD)
    for link in fragile.links("postgres"):
        link.slow(0.05)
    message_id = person.submit(person.project(document={"list": []}), "slowly")
    with person.audience(message_id) as audience:
        row = finished(person, audience, message_id)
    check_patched_once(fragile, person, row)
    assert (row["attempt"], tries_of(fragile, message_id)) == (1, 0)
