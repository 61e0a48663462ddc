"""A tool acts by the right of whoever asked, as it is at that moment, on the message's own project and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from shared.lifecycle import MemberRole, OnBusy
from shared.patching import PatchLimits
from shared.records import Principal, StoredCall, StoredRound
from shared.store import WITHDRAWN, EditDocument, Effect, StartJob, SubmitLimits, Told
from tests.integration.worker_parts import Bench
from worker.tools import Registry, Situation
from worker.tools.apply_json_patch import ApplyJsonPatch
from worker.tools.generate_remotion_component import GenerateRemotionComponent
from worker.turn import run_turn

EDIT: dict[str, Any] = {
    "name": "applyJsonPatch",
    "arguments": {"operations": [{"op": "replace", "path": "/title", "value": "Summer"}]},
}
COMPONENT: dict[str, Any] = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball"}}
ELSEWHERE: dict[str, Any] = {"name": "elsewhere", "arguments": {}}


class Elsewhere:
    """A third party's tool: what it does, it does in `prepare`."""

    name = "elsewhere"
    description = "Does something elsewhere."
    parameters: ClassVar[dict[str, Any]] = {"type": "object"}

    def __init__(self) -> None:
        self.asked = 0

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        self.asked += 1
        return Told(succeeded=True, result="{}")


@pytest.fixture
def ben(bench: Bench) -> Principal:
    """An editor of the bench's project."""
    known = bench.store.authenticate(bench.store.create_token("ben")[0])
    assert known is not None
    bench.store.put_member(bench.anna, bench.project_id, "ben", MemberRole.EDITOR, max_members=10)
    return known[0]


def asked_by(bench: Bench, who: Principal) -> UUID:
    limits = SubmitLimits(max_unfinished=20, max_tokens_per_day=None)
    pair = bench.store.submit(who, bench.project_id, "go", model="scripted", on_busy=OnBusy.QUEUE, limits=limits)
    return pair.assistant_message.id


def removed(bench: Bench) -> None:
    bench.store.remove_member(bench.anna, bench.project_id, "ben")


def only_reading(bench: Bench) -> None:
    bench.store.put_member(bench.anna, bench.project_id, "ben", MemberRole.VIEWER, max_members=10)


@pytest.mark.parametrize("withdraw", [removed, only_reading])
def test_who_lost_the_right_while_the_model_wrote_has_nothing_done_by_it(
    bench: Bench, ben: Principal, withdraw: Callable[[Bench], None]
) -> None:
    """No tool acts, no third party's is asked; the model is told why. The answer is the project's, and is completed."""
    tool = Elsewhere()
    calls = {"tools": [EDIT, COMPONENT, ELSEWHERE]}
    bench.model.on("go", {"rounds": [{"steps": [{"hold": "h"}, calls]}, {"steps": [{"text": "Oh."}]}]})
    made = msgspec.structs.replace(
        bench.workshop(), tools=Registry([ApplyJsonPatch(), GenerateRemotionComponent(), tool])
    )
    message_id = asked_by(bench, ben)
    turn = bench.start(made, message_id)
    bench.model.wait_held("h")
    withdraw(bench)
    bench.model.release("h")
    turn.join()
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.job_id) == ("success", "Oh.", None)
    assert [(call.state, call.error) for call in row.tool_calls] == [("failed", WITHDRAWN)] * 3
    told = [one["content"] for one in bench.model.requests()[1]["messages"] if one["role"] == "tool"]
    assert [json.loads(result)["error"] for result in told] == [WITHDRAWN] * 3
    assert (bench.versions(), tool.asked) == (1, 0)


def test_while_the_right_lasts_tools_act(bench: Bench, ben: Principal) -> None:
    bench.model.on("go", {"rounds": [{"steps": [{"tool": EDIT}]}, {"steps": [{"text": "Yes."}]}]})
    message_id = asked_by(bench, ben)
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert [call.state for call in row.tool_calls] == ["succeeded"]


def test_who_asks_again_lends_the_message_a_right_of_their_own(bench: Bench, ben: Principal) -> None:
    """Of a message that is put back into the queue, and not by an operator's batch."""
    refused = {"status": 401, "error": {"code": "invalid_api_key"}}
    rounds = [{"attempts": [refused, {"steps": [{"tool": EDIT}]}]}, {"steps": [{"text": "Yes."}]}]
    bench.model.on("go", {"rounds": rounds})
    workshop, message_id = bench.workshop(), asked_by(bench, ben)
    run_turn(workshop, message_id)
    assert bench.row(message_id).status == "error"
    removed(bench)
    bench.retry(message_id)
    run_turn(workshop, message_id)
    row, _ = bench.check(message_id)
    assert [call.state for call in row.tool_calls] == ["succeeded"]


@pytest.mark.parametrize("withdraw", [removed, only_reading])
def test_who_loses_the_right_before_the_commit_has_nothing_done_by_it(
    bench: Bench, ben: Principal, withdraw: Callable[[Bench], None]
) -> None:
    """Looked at under the project's lock: between the look before and the effect there is no moment."""
    message_id = asked_by(bench, ben)
    claim = bench.store.claim(message_id, "w", lease_s=60, max_tries=3)
    assert claim is not None
    calls = tuple(StoredCall(tool_call_id=f"c{number}", name="any", arguments="{}") for number in range(2))
    stored = StoredRound(round=1, text="", calls=calls, document_version=1, usage=None)
    bench.store.store_round(claim.lease, stored, content="", last_event_id=None, first_token_ms=None)
    assert bench.store.may_act(claim.lease)
    withdraw(bench)
    assert not bench.store.may_act(claim.lease)
    effects: tuple[Effect, ...] = (
        EditDocument(operations=EDIT["arguments"]["operations"], words="w", expected_version=1, limits=PatchLimits()),
        StartJob(name="Ball", effect_description="a ball"),
    )
    for index, effect in enumerate(effects):
        made = bench.store.commit_effect(claim.lease, 1, index, calls[index], effect)
        assert (made.call.state, made.call.error, made.change, made.job) == ("failed", WITHDRAWN, None, None)
    assert bench.versions() == 1


@pytest.mark.parametrize("member", ["projectId", "project", "messageId", "documentId", "user"])
def test_a_call_cannot_name_another_project(bench: Bench, member: str) -> None:
    """However a text in the document or somebody's message talks the model into it: there is no place for it in a call."""
    other = bench.new_project({"title": "Theirs"})
    named = [{**call, "arguments": {**call["arguments"], member: str(other)}} for call in (EDIT, COMPONENT)]
    inside = {**EDIT["arguments"]["operations"][0], member: str(other)}
    paths = [f"/../{other}/title", f"/{other}/title", f"//{other}/title"]
    operations = [{"op": "replace", "path": path, "value": "Mine"} for path in paths]
    calls = [*named, *({"name": "applyJsonPatch", "arguments": {"operations": [one]}} for one in (*operations, inside))]
    bench.model.on("go", {"rounds": [{"steps": [{"tools": calls}]}, {"steps": [{"text": "Done."}]}]})
    message_id = bench.ask()
    run_turn(bench.workshop(), message_id)
    row, _ = bench.check(message_id)
    assert [call.state for call in row.tool_calls] == ["failed"] * 5 + ["succeeded"]
    assert bench.document()["title"] == "Summer"
    theirs = bench.store.project(bench.anna, other)
    assert (theirs.document, theirs.version) == ({"title": "Theirs"}, 1)
