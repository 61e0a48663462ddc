"""`chatrelay prune` and `chatrelay stats`: what goes, what stays, and what the figures say."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from shared.batches import BatchFilter
from shared.errors import NothingToUndo
from shared.lifecycle import BatchStatus, ErrorCode, MessageStatus, OnBusy
from shared.outcomes import Cancelled, Failed, HandedOver, Succeeded
from shared.settings import Settings
from shared.store import StartJob, Store
from shared.store.history import HISTORY_REACH
from shared.store.pruning import ALWAYS, BY_AGE, Prunable
from tests.integration.command_line import PROGRAM, run
from tests.integration.store_parts import PATCH_LIMITS, Scene, call

MONTHS: Final = timedelta(days=90)
YEAR_AGO: Final = "now() - interval '1 year'"


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def age(scene: Scene) -> None:
    """As if all that is there were a year old."""
    for table, columns in {
        "messages": ("created_at", "updated_at", "enqueued_at"),
        "document_versions": ("created_at",),
        "idempotency_keys": ("created_at",),
        "audits": ("began_at", "ended_at"),
    }.items():
        scene.execute(f"UPDATE {table} SET " + ", ".join(f"{column} = {YEAR_AGO}" for column in columns))


def appended(scene: Scene, message_id: UUID) -> UUID:
    scene.execute("UPDATE messages SET ending_appended = true WHERE id = :id", id=message_id)
    return message_id


def built(scene: Scene) -> UUID:
    """An answer whose component a document may show."""
    lease = scene.claimed(scene.message())
    made = call(lease)
    scene.store_round(lease, 0, "a ball", made)
    job = scene.store.commit_effect(lease, 0, 0, made, StartJob(name="Ball", effect_description="red")).job
    assert job is not None
    scene.finalize(lease, HandedOver(content="a ball", job_id=str(job.id)), n=4)
    claim = scene.store.claim_build(lease.message_id, "builder", lease_s=60, max_tries=3)
    assert claim is not None
    scene.execute("UPDATE component_jobs SET status = 'success', source = 'a', bundle = 'b' WHERE id = :id", id=job.id)
    scene.finalize(claim.lease, Succeeded(content="a ball"))
    return appended(scene, lease.message_id)


def pruned(scene: Scene, older_than: timedelta = MONTHS) -> dict[str, int]:
    """What goes of each kind, which is what was counted before."""
    counted = {kind: scene.store.count_prunable(kind, older_than) for kind in Prunable}
    gone: dict[Prunable, int] = dict.fromkeys(Prunable, 0)
    for kind in Prunable:
        if kind is not Prunable.MESSAGES:
            while more := scene.store.prune(kind, older_than):
                gone[kind] += more
            continue
        after = None
        while True:
            more, after = scene.store.prune_messages(older_than, after=after)
            gone[kind] += more
            if after is None:
                break
    assert gone == counted, "a dry run counts what goes"
    return {kind.value: count for kind, count in gone.items() if count}


def there(scene: Scene, message_id: UUID) -> bool:
    with scene.engine.connect() as connection:
        return connection.execute(text("SELECT 1 FROM messages WHERE id = :id"), {"id": message_id}).first() is not None


def test_old_answers_go_with_their_questions_rounds_calls_and_keys(scene: Scene) -> None:
    """Every final status; the document and its versions stay, and can still be taken back."""
    lease = scene.claimed(scene.message(key="k"))
    scene.store_round(lease, 0, "so", call(lease))
    scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease, 7))
    scene.finalize(lease)
    ended = [
        lease.message_id,
        scene.ended(Failed(content="", code=ErrorCode.DEADLINE)),
        scene.ended(Cancelled(content="")),
    ]
    for message_id in ended:
        appended(scene, message_id)
    age(scene)
    young = appended(scene, scene.ended())
    assert pruned(scene) == {"messages": 6, "idempotency_keys": 1}
    assert [there(scene, message_id) for message_id in [*ended, young]] == [False, False, False, True]
    assert (scene.count("rounds"), scene.count("tool_ledger"), scene.count("messages")) == (0, 0, 2)
    assert scene.document() == {"list": [7]}
    scene.store.undo(scene.principal, scene.project_id, PATCH_LIMITS)
    assert scene.document() == {"list": []}


def test_what_is_unfinished_untold_shown_or_alone_stays(scene: Scene) -> None:
    """However old: waiting, held, with an end that nobody told, with a component, and a question without its answer."""
    waiting, held = scene.message(key="waits"), scene.claimed(scene.message(on_busy=OnBusy.PARALLEL)).message_id
    untold, shown = scene.ended(on_busy=OnBusy.PARALLEL), None
    scene.project_id = scene.new_project()
    shown = built(scene)
    alone = scene.submit()
    scene.execute("DELETE FROM messages WHERE id = :id", id=alone.assistant_message.id)
    age(scene)
    assert pruned(scene) == {}
    assert all(there(scene, one) for one in (waiting, held, untold, shown, alone.user_message.id))
    assert scene.count("idempotency_keys") == 1


def test_what_waits_in_a_batch_is_answered_again_and_not_pruned(scene: Scene) -> None:
    """However old it is; once the batch has let go of it, it goes as every other."""
    failed = appended(scene, scene.ended(Failed(content="", code=ErrorCode.DEADLINE)))
    age(scene)
    wanted = BatchFilter(status=MessageStatus.ERROR)
    batch, _ = scene.store.start_batch(wanted, rate=None, asked_by="ops")
    assert pruned(scene) == {}
    scene.store.change_batch(batch.id, BatchStatus.STOPPED)
    assert (pruned(scene), there(scene, failed)) == ({"messages": 2}, False)


def test_a_message_that_somebody_works_on_is_passed_over(scene: Scene) -> None:
    """A project that is locked, a row that is locked: the rest goes, and nobody waits."""
    busy = appended(scene, scene.ended())
    scene.project_id = scene.new_project()
    locked = appended(scene, scene.ended())
    scene.project_id = scene.new_project()
    free = appended(scene, scene.ended())
    age(scene)
    with scene.engine.begin() as connection:
        of = "(SELECT project_id FROM messages WHERE id = :id)"
        connection.execute(text(f"SELECT 1 FROM projects WHERE id = {of} FOR UPDATE"), {"id": busy})
        connection.execute(text("SELECT 1 FROM messages WHERE id = :id FOR UPDATE"), {"id": locked})
        assert scene.store.prune_messages(MONTHS)[0] == 2
    assert [there(scene, one) for one in (busy, locked, free)] == [True, True, False]


def test_versions_beyond_the_reach_of_undo_go_and_history_is_what_it_was(scene: Scene) -> None:
    """The newest stay, all that undo and comparisons look at; younger ones stay however many there are."""
    for value in range(3):
        operation = {"op": "add", "path": "/list/-", "value": value}
        scene.store.patch_document(scene.principal, scene.project_id, [operation], PATCH_LIMITS)
    scene.execute(f"UPDATE document_versions SET version = version + {HISTORY_REACH - 2}")
    scene.execute(f"UPDATE projects SET version = version + {HISTORY_REACH - 2}")
    with scene.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO document_versions (project_id, version, operations, inverse)"
                f" SELECT id, n, '[]', '[]' FROM projects, generate_series(2, {HISTORY_REACH - 1}) n"
            )
        )
    assert pruned(scene) == {}, "they are young"
    age(scene)
    assert pruned(scene) == {"versions": 1}
    for left in ([0, 1], [0], []):
        scene.store.undo(scene.principal, scene.project_id, PATCH_LIMITS)
        assert scene.document() == {"list": left}


def test_nothing_is_left_to_undo_where_the_oldest_versions_are_gone(scene: Scene) -> None:
    """It is told as the end of history, and not as a fault."""
    scene.execute("UPDATE projects SET version = 5")
    with pytest.raises(NothingToUndo):
        scene.store.undo(scene.principal, scene.project_id, PATCH_LIMITS)


def test_spent_tickets_keys_tokens_and_old_audits_go(scene: Scene) -> None:
    """What is good, or was good until lately, stays; so does the newest audit."""
    store, principal = scene.store, scene.principal
    token, _ = store.create_token("anna")
    known = store.authenticate(token)
    assert known is not None
    store.create_ticket(principal, known[1], "/a", single_use=True)
    appended(scene, scene.ended(key="old"))
    began_at = store.database_now()
    for project_id in (None, scene.project_id, None):
        store.keep_audit(
            project_id=project_id, began_at=began_at, looked_at={}, found={}, repaired={}, disagreements_left=0
        )
    age(scene)
    scene.ended(key="young")
    scene.execute("UPDATE tickets SET expires_at = now() - interval '1 s'")
    store.create_ticket(principal, known[1], "/b", single_use=True)
    for months, state in ((2, "revoked_at"), (2, "expires_at"), (0, "revoked_at")):
        made, _ = store.create_token("boris")
        scene.execute(
            f"UPDATE tokens SET {state} = now() - make_interval(months => {months})"
            " WHERE user_id = (SELECT id FROM users WHERE name = 'boris') AND revoked_at IS NULL AND expires_at IS NULL"
        )
        assert store.authenticate(made) is None
    newest = store.last_audit()
    assert scene.count("tickets") == 1, "one that is made sweeps the expired away"
    scene.execute("UPDATE tickets SET expires_at = now() - interval '1 s'")
    assert pruned(scene) == {"tickets": 1, "idempotency_keys": 1, "tokens": 2, "messages": 2, "audits": 2}
    assert store.last_audit() == newest
    assert store.authenticate(token) is not None
    assert [one.state for one in store.tokens(user="boris")] == ["revoked"]


def test_the_command_deletes_conversations_only_where_it_is_told_how_old(
    scene: Scene, database_url: str, tmp_path: Path
) -> None:
    """A dry run deletes nothing; less than a day is refused."""
    appended(scene, scene.ended(key="k"))
    age(scene)

    def told(*arguments: str) -> dict[str, int]:
        done = run("prune", *arguments, "--json", state=tmp_path, DATABASE_URL=database_url)
        assert (done.returncode, done.stderr) == (0, "")
        rows: dict[str, int] = json.loads(done.stdout)["pruned"]
        return rows

    everything = {kind.value: 0 for kind in (*ALWAYS, *BY_AGE)} | {"idempotency_keys": 1, "messages": 2}
    assert told("--older-than", "90d", "--dry-run") == everything
    assert told() == {"tickets": 0, "idempotency_keys": 1, "tokens": 0}
    assert scene.count("messages") == 2
    assert told("--older-than", "90d") == everything | {"idempotency_keys": 0}
    assert scene.count("messages") == 0
    short = run("prune", "--older-than", "23h", state=tmp_path, DATABASE_URL=database_url)
    assert (short.returncode, "--older-than" in short.stderr) == (2, True)


def test_a_person_at_a_terminal_sees_how_far_it_is_and_a_program_does_not(database_url: str, tmp_path: Path) -> None:
    """On the standard error, beside what is printed; nothing of it where the output is no terminal."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [str(PROGRAM), "prune", "--dry-run"],
            env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url, "TERM": "xterm", "COLUMNS": "100"},
            cwd=tmp_path,
            stdout=theirs,
            stderr=theirs,
            timeout=120,
            check=False,
        )
        os.set_blocking(ours, False)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert "\x1b[?25l" in shown, "a cursor is hidden while progress is shown"
    assert "would go" in shown
    piped = run("prune", "--dry-run", state=tmp_path, DATABASE_URL=database_url, TERM="xterm")
    assert (piped.stderr, "\x1b" in piped.stdout) == ("", False)


def test_stats_count_time_and_add_up_what_was_asked_for_lately(
    scene: Scene, settings: Settings, tmp_path: Path
) -> None:
    """By status and code, percentiles, tokens by model, the busiest projects; what is older is not counted."""
    scene.ended()
    age(scene)
    scene.ended()
    scene.ended(Failed(content="", code=ErrorCode.DEADLINE))
    quiet, scene.project_id = scene.project_id, scene.new_project()
    for _ in range(3):
        scene.ended()
    scene.message()
    scene.execute("UPDATE projects SET name = '[bold]' || chr(27) || '[31mred' WHERE id = :id", id=scene.project_id)
    times = '{"queuedMs": 10, "firstTokenMs": %s, "totalMs": 12000}'
    scene.execute(f"UPDATE messages SET timing = '{times % 100}' WHERE timing IS NOT NULL AND status = 'success'")
    scene.execute(f"UPDATE messages SET timing = '{times % 'null'}' WHERE status = 'error'")
    url = settings.database_url.get_secret_value()
    done = run("stats", "--since", "1h", "--json", state=tmp_path, DATABASE_URL=url)
    told = json.loads(done.stdout)
    assert told["messages"] == 6
    assert [(one["status"], one["code"], one["count"]) for one in told["byStatus"]] == [
        ("success", None, 4),
        ("pending", None, 1),
        ("error", "deadline", 1),
    ]
    assert told["firstToken"] == {"count": 4, "p50Ms": 100, "p95Ms": 100, "p99Ms": 100}
    assert (told["queued"]["count"], told["total"]["p95Ms"]) == (5, 12000)
    assert told["byModel"] == [{"model": "scripted", "messages": 6, "tokens": 60}]
    assert [(one["id"], one["messages"]) for one in told["projects"]] == [(str(scene.project_id), 4), (str(quiet), 2)]
    shown = run("stats", state=tmp_path, DATABASE_URL=url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "12.0 s" in shown.stdout
    assert "[bold]\ufffd[31mred" in shown.stdout, "a name is shown as it is, and moves no cursor"
    assert "\x1b" not in shown.stdout
    none = run("stats", "--since", "1s", state=tmp_path, DATABASE_URL=url)
    assert none.returncode == 0
