"""A batch on real parts: several questions that edit one document are answered again, and none undoes another's edit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from shared.batches import BatchFilter
from shared.doorbell import RUN_BATCH, make_celery
from shared.lifecycle import BatchStatus, MessageStatus
from tests.integration.worker_parts import Bench
from worker import tasks
from worker.batches import BatchDriver
from worker.turn import run_turn

QUESTIONS = 4


@pytest.fixture
def driver(bench: Bench) -> BatchDriver:
    return BatchDriver(bench.store, bench.log, bench.doorbell, bench.settings())


@pytest.fixture
def hear(bench: Bench, driver: BatchDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[UUID], None]]:
    """A bell of a batch, as a worker with some slots for batches hears it."""
    app = make_celery(bench.redis_url)
    tasks.register(app)
    workshop = bench.workshop()
    monkeypatch.setattr(tasks, "workshop", workshop)
    slots = tasks.BatchSlots(free=threading.Semaphore(QUESTIONS), workshop=workshop, driver=driver)
    monkeypatch.setattr(tasks, "batch_slots", slots)
    yield lambda message_id: app.tasks[RUN_BATCH](str(message_id))
    app.close()


def failed(bench: Bench) -> list[UUID]:
    """Questions of one project that failed; the model answers them by now, each with an edit, and takes its time."""
    workshop = bench.workshop()
    ids = []
    for number in range(QUESTIONS):
        bench.model.say(f"Add {number}", {"refusal": "No."})
        ids.append(bench.ask(f"Add {number}"))
        run_turn(workshop, ids[-1])
    bench.model.reset()
    for number in range(QUESTIONS):
        arguments = {"operations": [{"op": "add", "path": "/items/-", "value": number}]}
        edit = {"tool": {"name": "applyJsonPatch", "arguments": arguments}}
        slowly = {"text": "Let me see.", "chunks": 5, "pace": 0.05}
        bench.model.on(f"Add {number}", {"rounds": [{"steps": [slowly, edit]}, {"steps": [{"text": "Done."}]}]})
    return ids


def test_questions_that_edit_one_document_are_answered_in_order_and_no_edit_is_refused(
    bench: Bench, driver: BatchDriver, hear: Callable[[UUID], None]
) -> None:
    """Though each has a slot and a bell, and without a further round of the sweeper's: the worker goes on by itself."""
    ids = failed(bench)
    batch, _ = bench.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
    driver.step()
    threads = [threading.Thread(target=hear, args=(message_id,), name="slot") for message_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [bench.row(message_id) for message_id in ids]
    assert [(row.status, row.content) for row in rows] == [("success", "Let me see.\n\nDone.")] * QUESTIONS
    calls = [[(call.state, call.version) for call in row.tool_calls] for row in rows]
    assert calls == [[("succeeded", number + 2)] for number in range(QUESTIONS)]
    assert bench.document() == {"title": "Spring", "items": list(range(QUESTIONS))}
    driver.step()
    assert bench.store.batch(batch.id).status is BatchStatus.DONE
