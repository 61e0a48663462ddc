"""The life of one assistant message on real parts: what its readers, its row and its model get to see."""

from __future__ import annotations

import json
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from dev.embedded import EmbeddedValkey, free_port
from dev.scripted_model.control import ScriptedModel
from shared import events
from shared.events import Delta, EventId, Snapshot, ToolResult
from shared.lifecycle import MessageKind
from shared.patching import PatchLimits
from shared.records import StoredCall, StoredRound
from shared.store import Effect, Told
from tests.integration.worker_parts import Bench, eventually, opened_bench
from tests.trace_checker import check_trace
from worker.tools import Registry, Situation
from worker.turn import run_turn


def edit(path: str, value: object, *, op: str = "replace", **fields: object) -> dict[str, Any]:
    """A scripted call that edits the document."""
    return {
        "name": "applyJsonPatch",
        "arguments": {"operations": [{"op": op, "path": path, "value": value}], **fields},
    }


def rounds(*made: list[dict[str, Any]] | dict[str, Any]) -> dict[str, Any]:
    return {"rounds": [{"steps": one} if isinstance(one, list) else one for one in made]}


def attempts(*made: list[dict[str, Any]] | dict[str, Any]) -> dict[str, Any]:
    return {"attempts": [{"steps": one} if isinstance(one, list) else one for one in made]}


def deltas(log: list[events.StreamEvent]) -> str:
    return "".join(event.content for event in log if isinstance(event, Delta))


def snapshots(log: list[events.StreamEvent]) -> list[tuple[str, str, str]]:
    return [(event.id, event.reason, event.content) for event in log if isinstance(event, Snapshot)]


def told(bench: Bench, number: int) -> list[dict[str, Any]]:
    """What request `number` told the model of the tools' results."""
    messages = bench.model.requests()[number]["messages"]
    return [json.loads(message["content"]) for message in messages if message["role"] == "tool"]


# --- answers ----------------------------------------------------------------------------------------------------


def test_an_answer_is_streamed_and_committed(bench: Bench) -> None:
    """Status, deltas, complete, finalized; the row says the same, with what it cost and how long it took."""
    bench.model.say("go", {"text": "Hello, wörld 😀!", "chunks": 5, "pace": 0.02})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.kind, row.content, row.attempt) == ("success", MessageKind.TEXT, "Hello, wörld 😀!", 1)
    assert kinds == ["status", *["delta"] * (len(kinds) - 3), "complete", "finalized"]
    assert deltas(bench.events(message_id)) == row.content
    assert row.usage is not None
    assert row.timing is not None
    assert row.timing.first_token_ms is not None
    assert bench.column(message_id, "ending_appended")
    request = bench.model.requests()[0]
    assert request["request"]["stream_options"] == {"include_usage": True}
    assert request["headers"]["accept-encoding"] == "identity"


def test_what_cannot_be_stored_is_left_out_and_halves_are_joined(bench: Bench) -> None:
    pieces = ["a\0b\ud800c ", "\ud83d", "\ude00"]
    lines = [f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n" for piece in pieces]
    bench.model.say("go", *({"raw": line} for line in lines), {"finish": "stop"})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    assert bench.check(message_id)[0].content == "abc 😀"


def test_a_tool_call_takes_effect_and_the_model_goes_on(bench: Bench) -> None:
    """Two rounds of text with a blank line between, one new version, and a notice for the project's watchers."""
    bench.model.on("go", rounds([{"text": "Let me."}, {"tool": edit("/title", "Summer")}], [{"text": "Done it."}]))
    message_id = bench.ask()
    watching = bench.listen_to_project()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert row.content == "Let me.\n\nDone it."
    assert [(call.name, call.state, call.version) for call in row.tool_calls] == [("applyJsonPatch", "succeeded", 2)]
    assert [kind for kind in kinds if kind != "delta"] == [
        "status", "tool_start", "status", "tool_result", "complete", "finalized"
    ]  # fmt: skip
    assert bench.document() == {"title": "Summer", "items": []}
    notice = json.loads(watching.until(lambda payload: b'"type":"document"' in payload))
    assert (notice["version"], notice["messageId"]) == (2, str(message_id))
    assert told(bench, 1) == [{"applied": True, "version": 2}]


def test_the_calls_of_one_round_are_made_in_order_each_on_what_the_one_before_left(bench: Bench) -> None:
    calls = [edit("/items/-", number, op="add") for number in range(3)]
    bench.model.on("go", rounds([{"tools": calls}], [{"text": "Three."}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert bench.document() == {"title": "Spring", "items": [0, 1, 2]}
    assert [call.version for call in row.tool_calls] == [2, 3, 4]
    assert len({call.tool_call_id for call in row.tool_calls}) == 3


def test_calls_whose_fragments_come_in_turn_are_put_together(bench: Bench) -> None:
    calls = [{**edit("/items/-", f"größe {number} 😀", op="add"), "every_byte": True} for number in range(2)]
    bench.model.on("go", rounds([{"tools": calls, "interleave": True}], [{"text": "Both."}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    bench.check(message_id)
    assert bench.document() == {"title": "Spring", "items": ["größe 0 😀", "größe 1 😀"]}


def test_bad_calls_are_told_to_the_model_and_do_not_end_the_message(bench: Bench) -> None:
    """An unknown tool, arguments that are no JSON, that break the schema, that Postgres can't hold, a patch that fails."""
    bad = [
        {"name": "fly", "arguments": {}},
        {"name": "applyJsonPatch", "arguments": '{"operations": ['},
        {"name": "applyJsonPatch", "arguments": {"operations": "none"}},
        edit("/title", "a\0b"),
        edit("/nowhere/deep", 1),
    ]
    bench.model.on("go", rounds([{"tools": bad}], [{"text": "Sorry."}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.content) == ("success", "Sorry.")
    assert [call.state for call in row.tool_calls] == ["failed"] * 5
    results = [event for event in bench.events(message_id) if isinstance(event, ToolResult)]
    assert [result.success for result in results] == [False] * 5
    assert [result["error"] for result in told(bench, 1)] == [result.error for result in results]
    assert bench.versions() == 1


def test_a_call_whose_arguments_are_too_long_is_not_made(bench: Bench) -> None:
    """Not even one that needs no arguments."""
    bench.model.on(
        "go", rounds([{"tool": {"name": "free", "arguments": '{"a": "' + "x" * 100 + '"}'}}], [{"text": "No."}])
    )
    workshop = msgspec.structs.replace(bench.workshop(max_tool_arguments_bytes=50), tools=Registry([Free()]))
    message_id = bench.ask()
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert [call.state for call in row.tool_calls] == ["failed"]
    assert "cut: too long" in row.tool_calls[0].arguments


class Free:
    name = "free"
    description = "Needs nothing."
    parameters: ClassVar[dict[str, Any]] = {"type": "object"}

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        return Told(succeeded=True, result="{}")


def test_a_document_that_others_changed_is_not_edited_and_the_model_is_shown_it(bench: Bench) -> None:
    bench.model.on(
        "go", rounds([{"text": "Hm."}, {"hold": "h"}, {"tool": edit("/title", "Autumn")}], [{"text": "Oh."}])
    )
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("h")
    bench.edit({"op": "replace", "path": "/title", "value": "Winter"})
    bench.model.release("h")
    turn.join()
    row, _ = bench.check(message_id)
    assert [call.state for call in row.tool_calls] == ["failed"]
    (result,) = told(bench, 1)
    assert (result["applied"], result["document"]) == (False, {"title": "Winter", "items": []})
    assert bench.document() == {"title": "Winter", "items": []}


def test_a_patch_that_breaks_the_projects_schema_is_told_to_the_model(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    bench.project_id = bench.new_project({"title": "Spring"}, schema)
    bench.model.on("go", rounds([{"tool": edit("/title", 7)}], [{"text": "A title is text."}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert [call.state for call in row.tool_calls] == ["failed"]
    assert "/title" in told(bench, 1)[0]["error"]
    assert bench.versions() == 1


def test_the_next_message_in_line_is_rung_for(bench: Bench) -> None:
    bench.model.say("go", {"text": "One."})
    first, second = bench.ask(), bench.ask()
    workshop = bench.workshop()
    run_turn(workshop, second)
    assert bench.row(second).status == "pending"  # it was not its turn
    run_turn(workshop, first)
    assert bench.bells() == 1
    run_turn(workshop, second)
    bench.check(first)
    bench.check(second)


# --- ends that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "code", "content"),
    [
        ([{"text": "Half an ans"}, {"finish": "length"}], "length", "Half an ans"),
        ([{"text": "Half"}, {"finish": "content_filter"}], "content_filter", "Half"),
        ([{"finish": "content_filter"}], "content_filter", ""),
        ([{"refusal": "I'd rather not."}], "refusal", "I'd rather not."),
    ],
)
def test_an_answer_that_was_stopped_is_an_error_with_its_text(
    bench: Bench, steps: list[dict[str, Any]], code: str, content: str
) -> None:
    """It isn't tried again: the provider would say the same."""
    bench.model.say("go", *steps)
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert row.error is not None
    assert (row.status, row.error.code, row.content) == ("error", code, content)
    assert len(bench.model.requests()) == 1
    assert kinds[-2:] == ["error", "finalized"]


def test_an_answer_above_the_most_bytes_is_cut_as_length(bench: Bench) -> None:
    bench.model.say("go", {"repeat": {"text": "äö", "count": 1000, "pace": 0}}, {"stall": True})
    message_id = bench.ask()
    run_turn(bench.workshop(max_answer_bytes=11), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content) == ("length", "äöäöä")
    bench.model.wait_disconnected(0)


def test_an_empty_answer_is_tried_again_and_then_an_error(bench: Bench) -> None:
    bench.model.say("go", {"finish": "stop"})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.attempt) == ("empty_answer", 1)
    assert kinds == ["status", "error", "finalized"]
    assert len(bench.model.requests()) == 3


def test_an_empty_answer_after_nothing_but_failed_calls_is_an_error_too(bench: Bench) -> None:
    """Text of an earlier round is kept, and is no answer."""
    bench.model.on("go", rounds([{"text": "Let me."}, {"tool": {"name": "fly"}}], [{"finish": "stop"}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content) == ("empty_answer", "Let me.")


def test_an_empty_answer_after_an_effect_is_the_effect_in_words(bench: Bench) -> None:
    call = edit("/title", "Summer", explanation="It is summer now.")
    bench.model.on("go", rounds([{"tool": call}], [{"finish": "stop"}]))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.kind, row.content) == ("success", MessageKind.TOOL_RESULT, "It is summer now.")


def test_a_silent_tools_effect_has_words_too(bench: Bench) -> None:
    bench.model.on("go", rounds([{"tool": {"name": "free", "arguments": {}}}], [{"finish": "stop"}]))
    message_id = bench.ask()
    run_turn(msgspec.structs.replace(bench.workshop(), tools=Registry([Free()])), message_id)
    assert bench.check(message_id)[0].content == "Done: free."


def test_a_model_that_only_calls_tools_is_stopped(bench: Bench) -> None:
    """It is called once, and then as often with results as is allowed; all its calls were made."""
    bench.model.on("go", rounds(*([{"tool": edit("/items/-", n, op="add")}] for n in range(9))))
    message_id = bench.ask()
    run_turn(bench.workshop(max_rounds=2), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code == "too_many_rounds"
    assert len(bench.model.requests()) == len(row.tool_calls) == 3


def test_a_run_ends_at_its_deadline_with_its_text(bench: Bench) -> None:
    bench.model.say("go", {"text": "Well"}, {"stall": True})
    message_id = bench.ask()
    run_turn(bench.workshop(run_deadline_s=1), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content) == ("deadline", "Well")
    bench.model.wait_disconnected(0)


# --- the provider fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 408, 409, 429])
def test_a_failure_before_any_text_is_tried_again_unseen(bench: Bench, status: int) -> None:
    """The same attempt, no snapshot."""
    bench.model.on("go", {"rounds": [attempts({"status": status}, [{"text": "Here."}])]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.attempt) == ("success", 1)
    assert "snapshot" not in kinds
    assert [request["status"] for request in bench.model.requests()] == [status, 200]
    assert bench.column(message_id, "tries") == 1


def test_the_pause_that_a_provider_asks_for_is_kept(bench: Bench) -> None:
    """Though the own one would be much shorter."""
    refused = {"status": 429, "headers": {"Retry-After": "0.4"}}
    bench.model.on("go", {"rounds": [attempts(refused, [{"text": "Here."}])]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    bench.check(message_id)
    first, second = bench.model.requests()
    assert second["received_ms"] - first["received_ms"] >= 400


def test_a_pause_beyond_the_deadline_is_not_begun(bench: Bench) -> None:
    bench.model.on("go", {"rounds": [{"status": 429, "headers": {"Retry-After": "3600"}}]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code == "provider_rate_limited"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"status": 401}, "provider_auth"),
        ({"status": 403}, "provider_auth"),
        ({"status": 404}, "provider_rejected"),
        ({"status": 400, "error": {"code": "context_length_exceeded"}}, "context_too_long"),
        ({"status": 429, "error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, "provider_quota"),
        ([{"raw": 'data: {"error":{"type":"insufficient_quota","message":"no"}}\n\n'}], "provider_quota"),
        ([{"raw": 'data: {"error":{"type":"invalid_request_error","message":"no"}}\n\n'}], "provider_rejected"),
    ],
)
def test_a_failure_that_would_come_again_ends_the_message_at_once(
    bench: Bench, answer: list[dict[str, Any]] | dict[str, Any], code: str
) -> None:
    bench.model.on("go", rounds(answer))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, kinds) == (code, ["status", "error", "finalized"])
    assert len(bench.model.requests()) == 1


BROKEN: dict[str, list[dict[str, Any]]] = {
    "closed": [{"cut": "fin"}],
    "inside a character": [{"cut": "fin", "inside_character": True}, {"text": "ü"}],
    "an error line": [{"raw": 'data: {"error":{"type":"server_error","message":"no"}}\n\n'}],
    "no JSON": [{"raw": "data: {nonsense\n\n"}],
    "no UTF-8": [{"raw": 'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'}],
    "no finish reason": [{"finish": None}],
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_stream_that_breaks_after_text_begins_a_new_attempt(bench: Bench, how: str) -> None:
    """Its snapshot takes the text back, so that nothing is shown twice."""
    whole = [{"text": "Hello, world!", "chunks": 3}]
    bench.model.on("go", {"rounds": [attempts([{"text": "Hello, wo"}, *BROKEN[how]], whole)]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "Hello, world!", 2)
    assert snapshots(bench.events(message_id)) == [("2-0", "attempt", "")]
    assert kinds.count("complete") == 1
    assert bench.column(message_id, "tries") == 1


def test_a_stream_that_breaks_in_the_second_round_keeps_the_first(bench: Bench) -> None:
    """The tool is not called again."""
    second = attempts([{"text": "It is d"}, {"cut": "fin"}], [{"text": "It is done."}])
    bench.model.on("go", rounds([{"text": "Let me."}, {"tool": edit("/items/-", 1, op="add")}], second))
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert row.content == "Let me.\n\nIt is done."
    assert snapshots(bench.events(message_id)) == [("2-0", "attempt", "Let me.")]
    assert bench.document() == {"title": "Spring", "items": [1]}


@pytest.mark.parametrize(
    ("end", "code"), [([{"cut": "fin"}], "stream_broken"), ([{"finish": None}], "stream_incomplete")]
)
def test_after_three_tries_the_error_keeps_the_text_of_the_last(
    bench: Bench, end: list[dict[str, Any]], code: str
) -> None:
    tries = [[{"text": f"Try {n}"}, *end] for n in range(1, 5)]
    bench.model.on("go", {"rounds": [attempts(*tries)]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content, row.attempt) == (code, "Try 3", 3)
    assert kinds.count("snapshot") == 2
    assert len(bench.model.requests()) == 3


def test_a_silent_provider_is_given_up(bench: Bench) -> None:
    bench.model.say("go", {"text": "Well"}, {"stall": True})
    message_id = bench.ask()
    run_turn(bench.workshop(provider_silence_s=0.3, max_tries=2), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content, row.attempt) == ("provider_timeout", "Well", 2)
    bench.model.wait_disconnected(0)
    bench.model.wait_disconnected(1)


def test_a_provider_that_closes_before_it_answers_is_unavailable(bench: Bench) -> None:
    bench.model.say("go", {"cut": "rst"})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code == "provider_unavailable"
    assert len(bench.model.requests()) == 3


def test_a_provider_that_is_not_there_is_unavailable(bench: Bench) -> None:
    message_id = bench.ask()
    run_turn(bench.workshop(model_url=f"http://127.0.0.1:{free_port()}/v1"), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code == "provider_unavailable"


def test_a_provider_that_does_not_answer_at_all_times_out(bench: Bench) -> None:
    bench.model.say("go", {"stall": True})
    message_id = bench.ask()
    run_turn(bench.workshop(provider_silence_s=0.3, max_tries=1), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code == "provider_timeout"


def test_a_connection_that_is_reset_in_mid_stream_is_a_broken_stream(bench: Bench) -> None:
    bench.model.say("go", {"text": "Hel"}, {"hold": "h"}, {"cut": "rst"})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(max_tries=1), message_id)
    eventually(lambda: deltas(bench.events(message_id)) == "Hel")
    bench.model.release("h")
    turn.join()
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content) == ("stream_broken", "Hel")


# --- cancelled, drained, rung twice -----------------------------------------------------------------------------


def test_a_cancel_while_the_model_thinks_closes_its_stream(bench: Bench) -> None:
    bench.model.say("go", {"hold": "h"}, {"text": "Never."})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("h")
    bench.cancel(message_id)
    bench.model.wait_disconnected(0)
    turn.join()
    row, kinds = bench.check(message_id)
    assert (row.status, row.content, kinds) == ("cancelled", "", ["status", "finalized"])


def test_a_cancel_in_the_middle_keeps_the_text(bench: Bench) -> None:
    bench.model.say("go", {"text": "Once upon", "chunks": 3}, {"hold": "h"}, {"text": "Never."})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("h")
    eventually(lambda: deltas(bench.events(message_id)) == "Once upon")
    bench.cancel(message_id)
    bench.model.wait_disconnected(0)
    turn.join()
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.kind) == ("cancelled", "Once upon", MessageKind.TEXT)


def test_a_cancel_during_a_pause_before_the_next_try_ends_it(bench: Bench) -> None:
    bench.model.on("go", {"rounds": [{"status": 429, "headers": {"Retry-After": "300"}}]})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    eventually(lambda: bench.column(message_id, "tries") == 1)
    bench.cancel(message_id)
    turn.join()
    assert bench.check(message_id)[0].status == "cancelled"


def test_a_cancel_reaches_the_worker_without_redis(bench: Bench) -> None:
    """The renewal of the lease brings it."""
    bench.model.say("go", {"text": "Well"}, {"stall": True})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(heartbeat_s=0.2, lease_s=10), message_id)
    bench.model.wait_chunks(0, 1)
    bench.store.request_cancel(bench.anna, message_id)  # and nobody nudges
    turn.join()
    bench.model.wait_disconnected(0)
    assert bench.check(message_id)[0].status == "cancelled"


@pytest.mark.parametrize("how", ["cancel", "drain", "deadline"])
def test_a_turn_whose_project_cannot_be_read_still_ends_when_it_should(bench: Bench, how: str) -> None:
    """The database answers all else, as where a query takes too long each time."""
    message_id = bench.ask()
    workshop = bench.workshop(heartbeat_s=0.2, run_deadline_s=0.1 if how == "deadline" else 600)
    with bench.engine.begin() as locking:
        locking.execute(text("LOCK TABLE document_versions, projects IN ACCESS EXCLUSIVE MODE"))
        turn = bench.start(workshop, message_id)
        eventually(lambda: bench.column(message_id, "lease_owner") is not None)
        if how == "cancel":
            bench.store.request_cancel(bench.anna, message_id)
        elif how == "drain":
            workshop.leases.drain()
        turn.join()
        assert bench.column(message_id, "lease_owner") is None
    assert (bench.row(message_id).status, bench.column(message_id, "tries")) == (
        {"cancel": "cancelled", "drain": "pending", "deadline": "error"}[how],
        0,
    )
    assert bench.model.requests() == []


def test_a_worker_that_drains_hands_its_message_back_and_another_goes_on(bench: Bench) -> None:
    """No try is counted, the stream to the provider is closed, and a bell is rung."""
    bench.model.on("go", {"rounds": [attempts([{"text": "Hello, wo"}, {"stall": True}], [{"text": "Hello, world!"}])]})
    message_id = bench.ask()
    leaving = bench.workshop()
    turn = bench.start(leaving, message_id)
    bench.listen(message_id)
    eventually(lambda: deltas(bench.events(message_id)) == "Hello, wo")
    leaving.leases.drain()
    bench.model.wait_disconnected(0)
    turn.join()
    assert (bench.row(message_id).status, bench.column(message_id, "lease_owner")) == ("pending", None)
    assert bench.bells() == 1
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "Hello, world!", 2)
    assert bench.column(message_id, "tries") == 0


def test_a_draining_worker_takes_nothing_to_its_end(bench: Bench) -> None:
    """A bell that it answers still hands the message on."""
    bench.model.say("go", {"text": "Hello."})
    message_id = bench.ask()
    leaving = bench.workshop()
    leaving.leases.drain()
    run_turn(leaving, message_id)
    assert bench.row(message_id).status == "pending"
    run_turn(bench.workshop(), message_id)
    assert bench.check(message_id)[0].status == "success"
    assert len(bench.model.requests()) == 1


def test_a_second_bell_during_the_run_does_nothing(bench: Bench) -> None:
    bench.model.say("go", {"text": "Hel"}, {"hold": "h"}, {"text": "lo."})
    message_id = bench.ask()
    workshop, other = bench.workshop(), bench.workshop()
    turn = bench.start(workshop, message_id)
    bench.model.wait_held("h")
    run_turn(workshop, message_id)
    run_turn(other, message_id)
    bench.model.release("h")
    turn.join()
    row, _ = bench.check(message_id)
    assert (row.content, row.attempt) == ("Hello.", 1)
    assert len(bench.model.requests()) == 1


def test_a_bell_for_a_final_message_does_nothing(bench: Bench) -> None:
    bench.model.say("go", {"text": "Hello."})
    message_id = bench.ask()
    workshop = bench.workshop()
    run_turn(workshop, message_id)
    before = bench.row(message_id), bench.events(message_id)
    run_turn(workshop, message_id)
    assert (bench.row(message_id), bench.events(message_id)) == before
    assert len(bench.model.requests()) == 1


# --- Redis and Postgres fail ------------------------------------------------------------------------------------


def test_a_log_lost_in_mid_stream_is_restored_by_a_snapshot(bench: Bench) -> None:
    """A live reader sees one story: the snapshot holds all text so far, and the rest follows."""
    bench.model.say("go", {"text": "Hello, "}, {"hold": "h"}, {"text": "world!"})
    message_id = bench.ask()
    live = bench.listen(message_id)
    turn = bench.start(bench.workshop(), message_id)
    live.until_kind("delta")
    bench.client.flushdb()
    bench.model.release("h")
    turn.join()
    row, kinds = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "Hello, world!", 2)
    assert kinds[0] == "snapshot"
    live.until_kind("finalized")
    check_trace(live.heard, row=row)
    assert [reason for _, reason, _ in snapshots([events.decode(payload) for payload in live.heard])] == ["restored"]
    assert bench.column(message_id, "tries") == 0


def test_a_log_lost_between_a_call_and_its_result_is_restored(bench: Bench) -> None:
    """The snapshot shows the call that is being made; its result follows."""
    held = Held(bench)
    bench.model.on("go", rounds([{"text": "Let me."}, {"tool": {"name": "held", "arguments": {}}}], [{"text": "So."}]))
    message_id = bench.ask()
    turn = bench.start(msgspec.structs.replace(bench.workshop(), tools=Registry([held])), message_id)
    turn.join()
    row, kinds = bench.check(message_id)
    assert (row.status, row.content) == ("success", "Let me.\n\nSo.")
    assert kinds[0] == "snapshot"
    assert "tool_start" not in kinds


def test_a_row_that_shows_a_call_as_made_knows_the_event_that_tells_it(bench: Bench) -> None:
    """Whoever is shown the row in place of the log is sent none of the call's events after it."""
    bench.model.on(
        "go", rounds([{"text": "Let me."}, {"tool": edit("/title", "Summer")}], [{"hold": "h"}, {"text": "Done it."}])
    )
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("h")
    row = bench.store.reader_rows([message_id])[message_id]
    assert [call.state for call in row.tool_calls] == ["succeeded"]
    assert [event.id for event in bench.events(message_id) if isinstance(event, ToolResult)] == [str(row.last_event_id)]
    bench.model.release("h")
    turn.join()
    bench.check(message_id)


class Held:
    name = "held"
    description = "Empties Redis while it is made."
    parameters: ClassVar[dict[str, Any]] = {"type": "object"}

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        self._bench.client.flushdb()
        return Told(succeeded=True, result="{}", words="Held.")


def test_without_redis_the_answer_is_committed_all_the_same(
    database_url: str, own_valkey: EmbeddedValkey, scripted: ScriptedModel
) -> None:
    with opened_bench(database_url=database_url, redis_url=own_valkey.url, model=scripted) as bench:
        bench.model.on(
            "go", rounds([{"text": "Let"}, {"hold": "h"}, {"text": " me."}, {"tool": edit("/title", "X")}], [{"text": "So."}])
        )  # fmt: skip
        message_id = bench.ask()
        turn = bench.start(bench.workshop(), message_id)
        bench.model.wait_held("h")
        own_valkey.kill()
        bench.model.release("h")
        turn.join()
        row = bench.row(message_id)
        assert (row.status, row.content) == ("success", "Let me.\n\nSo.")
        assert [call.state for call in row.tool_calls] == ["succeeded"]
        assert not bench.column(message_id, "ending_appended")


def test_redis_that_comes_back_before_the_end_has_the_whole_story(
    database_url: str, own_valkey: EmbeddedValkey, scripted: ScriptedModel
) -> None:
    """What was streamed meanwhile is appended when it is back."""
    with opened_bench(database_url=database_url, redis_url=own_valkey.url, model=scripted) as bench:
        script = [{"text": "One "}, {"hold": "a"}, {"text": "two "}, {"hold": "b"}, {"text": "three"}, {"hold": "c"}]
        bench.model.say("go", *script)
        message_id = bench.ask()
        workshop = bench.workshop()
        turn = bench.start(workshop, message_id)
        eventually(lambda: deltas(bench.events(message_id)) == "One ")
        own_valkey.kill()
        bench.model.release("a")
        bench.model.wait_held("b")
        own_valkey.restart()
        eventually(lambda: workshop.streams.log.is_up)
        bench.model.release("b")
        bench.model.release("c")
        turn.join()
        row, _ = bench.check(message_id)
        assert (row.status, row.content) == ("success", "One two three")


def test_database_connections_that_are_cut_delay_the_answer_only(bench: Bench) -> None:
    bench.model.on("go", rounds([{"text": "Let me."}, {"hold": "h"}, {"tool": edit("/title", "X")}], [{"text": "So."}]))
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("h")
    bench.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name ~ '^chatrelay-(worker|leases)'"
    )
    bench.model.release("h")
    turn.join()
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "Let me.\n\nSo.", 1)
    assert bench.versions() == 2


# --- somebody else has it ---------------------------------------------------------------------------------------


def test_a_worker_whose_message_was_taken_away_changes_nothing(bench: Bench) -> None:
    """It doesn't know; whatever it still sends is refused, by the database and by the log."""
    bench.model.on(
        "go",
        rounds(
            attempts(
                [{"text": "Old "}, {"hold": "h"}, {"text": "text."}, {"tool": edit("/items/-", "old", op="add")}],
                [{"text": "New text."}, {"tool": edit("/items/-", "new", op="add")}],
            ),
            [{"text": "Done."}],
        ),
    )
    message_id = bench.ask()
    zombie = bench.start(bench.workshop(lease_s=60, heartbeat_s=30), message_id)
    bench.model.wait_held("h")
    eventually(lambda: deltas(bench.events(message_id)) == "Old ")
    bench.lose_lease(message_id)
    run_turn(bench.workshop(), message_id)
    before = bench.row(message_id), bench.events(message_id), bench.document()
    bench.model.release("h")
    zombie.join()
    assert (bench.row(message_id), bench.events(message_id), bench.document()) == before
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "New text.\n\nDone.", 2)
    assert bench.document() == {"title": "Spring", "items": ["new"]}
    assert bench.column(message_id, "tries") == 1


def test_a_worker_that_hears_of_its_loss_stops_its_stream(bench: Bench) -> None:
    bench.model.say("go", {"text": "Old"}, {"stall": True})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(lease_s=10, heartbeat_s=0.2), message_id)
    eventually(lambda: deltas(bench.events(message_id)) == "Old")
    bench.lose_lease(message_id)
    bench.model.wait_disconnected(0)
    turn.join()
    assert (bench.row(message_id).status, bench.row(message_id).attempt) == ("pending", 1)


def test_a_message_that_was_deleted_meanwhile_ends_its_turn(bench: Bench) -> None:
    bench.model.say("go", {"text": "Old"}, {"hold": "h"}, {"text": " text."})
    message_id = bench.ask()
    turn = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("h")
    bench.store.delete_project(bench.anna, bench.project_id)
    bench.model.release("h")
    turn.join()


def left_by_a_dead_worker(bench: Bench, *, made: int) -> UUID:
    """A message whose worker died after storing a round of two calls, of which it had made so many."""
    message_id = bench.ask()
    claim = bench.store.claim(message_id, "dead", lease_s=60, max_tries=3)
    assert claim is not None
    stored = StoredRound(
        round=1,
        text="Let me.",
        calls=tuple(
            StoredCall(
                tool_call_id=f"call_{message_id.hex[-12:]}_1_1_{n}",
                name="applyJsonPatch",
                arguments=json.dumps(edit("/items/-", n, op="add")["arguments"]),
            )
            for n in range(2)
        ),
        document_version=1,
        usage=None,
    )
    bench.store.store_round(claim.lease, stored, content="Let me.", last_event_id=None, first_token_ms=None)
    registry = Registry.installed()
    for index, call in enumerate(stored.calls[:made]):
        situation = Situation(
            tool_call_id=call.tool_call_id,
            project_id=bench.project_id,
            document_version=1 + index,
            limits=PatchLimits(),
        )
        bench.store.commit_effect(claim.lease, 1, index, call, registry.prepare(call, situation))
    bench.lose_lease(message_id)
    return message_id


@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_later_attempt_first_makes_the_calls_that_have_no_result(bench: Bench, made: int) -> None:
    """Each takes effect once, though its worker died before, between or after them."""
    bench.model.on("go", rounds([{"text": "never asked"}], [{"text": "Done."}]))
    message_id = left_by_a_dead_worker(bench, made=made)
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "Let me.\n\nDone.", 2)
    assert bench.document() == {"title": "Spring", "items": [0, 1]}
    assert kinds.count("tool_start") == 2 - made
    assert [call.version for call in row.tool_calls] == [2, 3]
    assert len(bench.model.requests()) == 1


def test_an_attempt_that_ends_before_it_makes_its_calls_shows_only_those_that_were_made(bench: Bench) -> None:
    """The row shows no other, and the log's fold is the row."""
    message_id = left_by_a_dead_worker(bench, made=1)
    bench.sql("UPDATE messages SET claimed_at = now() - interval '1 h' WHERE id = :id", id=message_id)
    run_turn(bench.workshop(), message_id)
    row, kinds = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content, len(row.tool_calls)) == ("deadline", "Let me.", 1)
    assert kinds == ["snapshot", "status", "error", "finalized"]


# --- asked for again --------------------------------------------------------------------------------------------


def test_a_retry_of_an_error_goes_on_from_the_stored_round(bench: Bench) -> None:
    """The tool isn't called again; the model is asked for the next round only."""
    second = attempts({"status": 400}, [{"text": "Done."}])
    bench.model.on("go", rounds([{"text": "Let me."}, {"tool": edit("/items/-", 1, op="add")}], second))
    message_id = bench.ask()
    workshop = bench.workshop()
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.content) == ("error", "Let me.")
    bench.retry(message_id)
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.error) == ("success", "Let me.\n\nDone.", None)
    assert snapshots(bench.events(message_id)) == [("2-0", "attempt", "Let me.")]
    assert bench.document() == {"title": "Spring", "items": [1]}
    assert len(bench.model.requests()) == 3


def test_a_retry_after_several_rounds_tells_their_text_as_it_was(bench: Bench) -> None:
    """The blank line between two rounds is the readers': the model is told each round's own text."""
    one, two = ({"tool": edit("/items/-", n, op="add")} for n in range(2))
    third = attempts({"status": 400}, [{"text": "Three."}])
    bench.model.on("go", rounds([{"text": "One."}, one], [{"text": "Two."}, two], third))
    message_id = bench.ask()
    workshop = bench.workshop()
    run_turn(workshop, message_id)
    bench.retry(message_id)
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert row.content == "One.\n\nTwo.\n\nThree."
    assert snapshots(bench.events(message_id)) == [("2-0", "attempt", "One.\n\nTwo.")]
    said = [message["content"] for message in bench.model.requests()[-1]["messages"] if message["role"] == "assistant"]
    assert said == ["One.", "Two."]


def test_a_retry_of_a_success_begins_anew_and_undoes_nothing(bench: Bench) -> None:
    first: list[dict[str, Any]] = [{"text": "One."}, {"tool": edit("/items/-", 1, op="add")}]
    second: list[dict[str, Any]] = [{"text": "Two."}, {"tool": edit("/items/-", 2, op="add")}]
    bench.model.on("go", rounds(attempts(first, second), [{"text": "Done."}]))
    message_id = bench.ask()
    workshop = bench.workshop()
    run_turn(workshop, message_id)
    before, _ = bench.check(message_id)
    bench.retry(message_id)
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert (before.content, row.content) == ("One.\n\nDone.", "Two.\n\nDone.")
    assert snapshots(bench.events(message_id)) == [("2-0", "attempt", "")]
    assert bench.document() == {"title": "Spring", "items": [1, 2]}
    assert [call.tool_call_id for call in row.tool_calls] != [call.tool_call_id for call in before.tool_calls]
    assert EventId.parse(bench.column(message_id, "last_event_id")).attempt == 2


def test_a_retry_of_a_cancelled_message_writes_it_anew(bench: Bench) -> None:
    bench.model.on("go", {"rounds": [attempts([{"text": "Hel"}, {"stall": True}], [{"text": "Hello."}])]})
    message_id = bench.ask()
    workshop = bench.workshop()
    turn = bench.start(workshop, message_id)
    eventually(lambda: deltas(bench.events(message_id)) == "Hel")
    bench.cancel(message_id)
    turn.join()
    bench.retry(message_id)
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.content) == ("success", "Hello.")
