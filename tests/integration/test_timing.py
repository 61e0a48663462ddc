"""Where a message's time goes: what `timing` says, in the row, in `finalized` and to operators, and what outlives what."""

from __future__ import annotations

import json
from typing import Any

from api import announcing
from shared import events, keys
from shared.closing import close
from shared.events import Stages, Timing
from tests.integration.test_build import GOOD, fenced, handed_over, writes
from tests.integration.test_turn import attempts, edit, rounds
from tests.integration.worker_parts import Bench, Listener, eventually
from worker.build import run_build
from worker.compiler import Compiler
from worker.turn import run_turn

PACE_S = 0.05


def timing_of(bench: Bench, message_id: Any) -> Timing:
    """The row's, which the log's end repeats."""
    row, _ = bench.check(message_id)
    assert row.timing is not None
    return row.timing


def test_every_stage_of_an_answer_is_told_and_they_follow_one_another(bench: Bench) -> None:
    """Moments since the submit in the order in which they happened; durations that fit between them."""
    wait = {"wait": PACE_S}
    bench.model.on("go", rounds([wait, {"text": "Let me."}, {"tool": edit("/title", "X")}], [wait, {"text": "Done."}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    told = timing_of(bench, message_id)
    moments = [told.queued_ms, told.first_append_ms, told.first_byte_ms, told.first_token_ms, told.total_ms]
    assert all(moment is not None for moment in moments), told
    assert moments == sorted(moments, key=lambda moment: moment or 0), told
    assert told.rounds == 2
    assert None not in (told.context_ms, told.connect_ms, told.tools_ms, told.commit_ms), told
    assert told.context_ms is not None
    assert told.connect_ms is not None
    assert told.first_byte_ms is not None
    assert told.queued_ms is not None
    assert told.queued_ms + told.context_ms + told.connect_ms <= told.first_byte_ms + 3, "each is rounded"
    assert told.total_ms >= told.first_byte_ms + PACE_S * 1000 - 3, "the second round waited as well"


def test_operators_and_readers_are_told_what_the_row_says(bench: Bench) -> None:
    operators = Listener(bench.redis_url, keys.OPS)
    bench.model.say("go", {"text": "Hello."})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    told = json.loads(operators.until(lambda line: b'"finalized"' in line and str(message_id).encode() in line))
    operators.close()
    finalized = bench.events(message_id)[-1]
    assert isinstance(finalized, events.Finalized)
    assert finalized.timing == timing_of(bench, message_id)
    assert told["timing"] == json.loads(events.encode(finalized))["timing"]
    assert set(told["timing"]) == {
        *("queuedMs", "contextMs", "connectMs", "firstAppendMs", "firstByteMs", "firstTokenMs", "rounds", "commitMs"),
        "totalMs",
    }, "no tool ran: what did not happen is left out"


def test_after_a_new_attempt_of_the_same_worker_the_first_text_is_still_the_first(bench: Bench) -> None:
    """The provider failed with text shown: readers waited for that text, not for what replaced it."""
    bench.model.on(
        "go", {"rounds": [attempts([{"text": "Hel"}, {"cut": "fin"}], [{"wait": PACE_S}, {"text": "Hello."}])]}
    )
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    told = timing_of(bench, message_id)
    assert bench.row(message_id).attempt == 2
    assert told.first_byte_ms is not None
    assert told.first_token_ms is not None
    assert told.first_byte_ms <= told.first_token_ms <= told.total_ms - PACE_S * 1000 + 3
    assert told.rounds == 1


def test_after_a_worker_was_lost_the_stages_are_the_last_ones_and_rounds_the_runs(bench: Bench) -> None:
    """The first token, which readers have seen, stays the first worker's."""
    bench.model.on(
        "go",
        rounds(
            [{"text": "Let me."}, {"tool": edit("/title", "X")}],
            attempts([{"hold": "h"}, {"text": "Never."}], [{"text": "Done."}]),
        ),
    )
    message_id = bench.ask()
    lost = bench.start(bench.workshop(lease_s=60, heartbeat_s=30), message_id)
    bench.model.wait_held("h")
    bench.lose_lease(message_id)
    run_turn(bench.workshop(), message_id)
    told = timing_of(bench, message_id)
    bench.model.release("h")
    lost.join()
    assert told == timing_of(bench, message_id)
    assert told.rounds == 2
    assert told.tools_ms is None, "the tool ran at the worker that was lost"
    assert told.first_byte_ms is not None
    assert told.first_token_ms is not None
    assert told.first_token_ms < told.first_byte_ms


def test_a_build_keeps_its_turns_stages(bench: Bench) -> None:
    """Its own time is in the total."""
    writes(bench, [fenced(GOOD)])
    workshop = bench.workshop()
    message_id = handed_over(bench, workshop)
    turn = bench.row(message_id).timing
    assert turn is not None
    run_build(workshop, Compiler.installed(), message_id)
    told = timing_of(bench, message_id)
    assert turn.rounds == 1
    assert [getattr(told, name) for name in Stages.__struct_fields__] == [
        getattr(turn, name) for name in Stages.__struct_fields__
    ]
    assert told.total_ms > turn.total_ms


def test_a_message_that_nobody_took_has_no_stages(bench: Bench) -> None:
    message_id = bench.ask()
    announcing.cancel(bench.store, bench.log, bench.doorbell, bench.anna, message_id)
    told = timing_of(bench, message_id)
    assert told == Timing(queued_ms=None, first_token_ms=None, total_ms=told.total_ms)


def test_a_build_that_nobody_ends_keeps_its_turns_stages_when_it_is_closed(bench: Bench) -> None:
    message_id = handed_over(bench, bench.workshop())
    turn = bench.row(message_id).timing
    bench.sql("UPDATE messages SET tries = 3 WHERE id = :id", id=message_id)
    (found,) = bench.store.to_close(limit=10, max_tries=3)
    assert close(bench.store, bench.log, found) is not None
    assert turn is not None
    assert timing_of(bench, message_id).context_ms == turn.context_ms is not None


def test_without_redis_what_readers_waited_for_is_left_out(bench: Bench) -> None:
    """Nothing was appended, so nothing has a time; the provider's has."""
    bench.model.say("go", {"text": "Hello."})
    message_id = bench.ask()
    workshop = bench.workshop()
    workshop.streams.run(workshop.streams.log._link.close())  # the test is the accident
    run_turn(workshop, message_id)
    told = bench.row(message_id).timing
    assert told is not None
    assert (told.first_append_ms, told.first_token_ms) == (None, None)
    assert told.first_byte_ms is not None


def test_a_retry_begins_its_clock_anew(bench: Bench) -> None:
    bench.model.on("go", {"rounds": [attempts([{"text": "One."}], [{"text": "Two."}])]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    bench.sql("UPDATE messages SET enqueued_at = enqueued_at - interval '1 h' WHERE id = :id", id=message_id)
    bench.retry(message_id)
    assert bench.row(message_id).timing is None
    run_turn(bench.workshop(), message_id)
    told = timing_of(bench, message_id)
    assert told.rounds == 1
    assert told.first_byte_ms is not None
    assert told.first_byte_ms < 3_600_000
    eventually(lambda: bench.column(message_id, "ending_appended") is True)
