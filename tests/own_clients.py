"""What chatrelay's own clients promise: one suite, over each language and transport.

A module with a fixture `begin` (and `begins`, all of them) inherits it. A program says what happens to it: see
`tests/clients/programs/own_client.mjs`.
"""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.clients.chat import Chat, busy_person, texts
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program
from tests.fault_proxy import Manner
from tests.people import eventually
from tests.scenes import ANSWERS, JOB, PATCH, Scene
from tests.stack import Stack
from tests.trace_checker import check_trace

Begin = Callable[..., Program]
"""``begin(chat, do, **task)``: a running program."""

SEED: Final = 20_261_126
LONG: Final = "".join(f"{number} 🦀 ähm … " for number in range(400))
SHORT_LEASES: Final = {
    "CHATRELAY_LEASE_S": 2,
    "CHATRELAY_HEARTBEAT_S": 0.5,
    "CHATRELAY_SWEEP_S": 0.5,
    "CHATRELAY_RING_AGAIN_S": 1,
}


def task_of(chat: Chat, do: str, **task: Any) -> dict[str, Any]:
    return {"do": do, "origin": chat.url, "projectId": chat.project_id, "token": chat.token, **task}


def submitted(program: Program) -> str:
    """The id of the answer to what it sent."""
    message_id: str = program.until(lambda said: "submitted" in said)["submitted"]
    return message_id


def check_shows(program: Program, row: dict[str, Any], *, joined_after: str | None = None) -> None:
    """Every event came once, in order and without a gap, and its fold is the row."""
    check_trace(program.events, row=row, joined_after=joined_after)
    [done] = program.heard("done")
    shown = done["shown"]
    assert done["row"]["content"] == row["content"]
    for field in ("content", "status", "usage"):
        assert shown[field] == row[field], field
    states = [(call["name"], call["state"]) for call in row["toolCalls"]]
    assert [(call["name"], call["state"]) for call in shown["toolCalls"]] == states


class OwnClient:
    @pytest.mark.parametrize("scene", ANSWERS, ids=lambda scene: str(scene.name))
    def test_an_answer_is_followed_to_its_end(self, chat: Chat, begin: Begin, scene: Scene) -> None:
        """Sent and followed by the client, cancelled by it where it is held; the document is changed."""
        held = {"cancelAfter": "delta"} if scene.held else {}
        with begin(chat, "ask", content=scene.script(chat), **held) as program:
            message_id = submitted(program)
            program.finish()
        row = chat.row(message_id)
        assert (row["status"], row["content"]) == (scene.status, scene.content)
        assert (row["error"] or {}).get("code") == scene.code
        assert [(call["name"], call["state"] == "succeeded") for call in row["toolCalls"]] == list(scene.tools)
        check_shows(program, row)
        [done] = program.heard("done")
        assert (done["shown"]["error"] or {}).get("code") == scene.code
        if scene.tools:
            assert chat.project()["document"] == {"colour": "green"}

    def test_a_component_job_is_followed_beyond_its_hand_over(self, chat: Chat, begin: Begin) -> None:
        """`building` is not the end; the end of the job is."""
        with begin(chat, "ask", content=JOB.script(chat)) as program:
            message_id = submitted(program)
            finalized = program.until_event("finalized", status="building")
            assert finalized["jobId"] == chat.row(message_id)["jobId"]
            chat.stack.client().post(f"/v1/messages/{message_id}/cancel").raise_for_status()
            program.finish()
        row = chat.row(message_id)
        assert row["status"] == "cancelled"
        check_trace(program.events, row=row)

    def test_a_retried_answer_is_followed_behind_what_was_seen(self, chat: Chat, begin: Begin) -> None:
        """The new run alone, after the last event of the one before."""
        content = chat.script([])
        runs = [{"steps": [{"text": "First."}]}, {"steps": [{"text": "Second."}]}]
        chat.stack.model.on(content, {"rounds": [{"attempts": runs}]})
        message_id = chat.submit(content)
        with begin(chat, "follow", messageId=message_id) as first:
            first.finish()
        last = json.loads(first.events[-1])["id"]
        with begin(chat, "retry", messageId=message_id, after=last) as second:
            second.finish()
        row = chat.row(message_id)
        assert (row["content"], row["attempt"], second.heard("retried")) == ("Second.", 2, ["pending"])
        check_trace([*first.events, *second.events], row=row)
        assert json.loads(second.events[0])["id"] == "2-0"
        with begin(chat, "follow", messageId=message_id, after=json.loads(second.events[-1])["id"]) as late:
            late.finish()
        assert late.events == []

    def test_who_has_no_good_token_or_no_place_in_the_project_is_refused_everything(
        self, chat: Chat, begin: Begin
    ) -> None:
        """With the code and the status of the refusal, at once."""
        message_id = chat.ask([{"text": "Secret."}])
        stranger, _ = chat.stack.store.create_token(f"stranger-{uuid.uuid4()}")
        for token, refusal in (("wrong", (401, "unauthorized")), (stranger, (404, "not_found"))):
            with begin(chat, "refusals", token=token, messageId=message_id) as program:
                program.finish()
            refused = {said["refused"]: (said["status"], said["code"]) for said in program.said if "refused" in said}
            assert refused == dict.fromkeys(("submit", "cancel", "retry", "message", "follow", "watch"), refusal)
            assert all(program.heard("detail"))

    def test_who_has_too_many_unfinished_messages_is_told_so_at_once(self, chat: Chat, begin: Begin) -> None:
        """Only what would make one more is refused."""
        with busy_person(chat) as busy:
            task = {"token": busy.token, "projectId": busy.project_id, "messageId": busy.message_id}
            with begin(chat, "refusals", **task) as program:
                program.finish()
        refused = {said["refused"]: (said["status"], said["code"]) for said in program.said if "refused" in said}
        assert refused.pop("submit") == (429, "too_many_unfinished")
        assert set(refused) <= {"retry"}  # of what was cancelled just before
        assert set(program.heard("accepted")) >= {"cancel", "message", "follow", "watch"}

    def test_who_goes_away_leaves_the_answer_to_be_written(self, chat: Chat, begin: Begin) -> None:
        gate = f"stopped {uuid.uuid4()}"
        content = chat.script([{"text": "Half"}, {"hold": gate}, {"text": " and half."}])
        with begin(chat, "ask", content=content, stopAfter="delta") as program:
            message_id = submitted(program)
            program.until(lambda said: "stopped" in said)
            chat.stack.model.release(gate)
            program.finish()
        eventually(lambda: chat.row(message_id)["status"] == "success")
        assert texts(program.events) == "Half"

    def test_a_connection_that_is_cut_costs_no_character_and_doubles_none(
        self, chat: Chat, begin: Begin, request: pytest.FixtureRequest
    ) -> None:
        """In the handshake's answer, inside frames and inside characters."""
        seed = f"{SEED} {request.node.name}"
        chance = random.Random(seed)
        manner: Manner = chance.choice(["fin", "rst"])
        cuts = [chance.randrange(1, 100), *(chance.randrange(500, 1500) for _ in range(3))]
        print(f"seed {seed!r}: cuts {cuts}, {manner}")
        content = chat.script([{"text": LONG, "chunk_size": 11, "pace": 0.003}])
        with (
            cut_streams(chat.url, cuts, manner=manner) as proxy,
            begin(chat, "ask", content=content, origin=proxy.url) as program,
        ):
            message_id = submitted(program)
            program.finish()
        assert proxy.made == len(cuts)
        assert texts(program.events) == LONG
        check_shows(program, chat.row(message_id))

    def test_a_watcher_whose_connections_are_cut_is_told_each_delta_once(
        self, chat: Chat, begin: Begin, request: pytest.FixtureRequest
    ) -> None:
        """Though each new connection tells the unfinished answer from its start. Documents and rows are told too."""
        chance = random.Random(f"{SEED} {request.node.name}")
        cuts = [chance.randrange(1, 100), *(chance.randrange(1000, 2000) for _ in range(3))]
        print(f"cuts {cuts}")
        gate = f"told again {uuid.uuid4()}"
        content = chat.script(
            [
                {"text": LONG, "chunk_size": 11, "pace": 0.003},
                {"hold": gate},
                {"tool": {"name": "applyJsonPatch", "arguments": PATCH}},
            ],
            [{"text": "Green."}],
        )
        with (
            cut_streams(chat.url, cuts) as proxy,
            begin(chat, "watch", origin=proxy.url, stopAfter="finalized") as program,
        ):
            for number in range(len(cuts)):  # the first connection is cut before it tells anything
                program.until(lambda said: said.get("told", {}).get("type") == "ready")
                if number == 0:
                    message_id = chat.submit(content)
            chat.stack.model.release(gate)
            program.finish()
        assert proxy.made == len(cuts)
        told = program.heard("told")
        check_trace(
            [one for one in told if one.get("messageId") == message_id and "id" in one], row=chat.row(message_id)
        )
        assert program.heard("texts") == [{message_id: f"{LONG}\n\nGreen."}]
        assert [one["version"] for one in told if one["type"] == "document"] == [2]

    def test_a_killed_worker_and_a_drained_server_cost_no_reader_a_character(
        self, stack: Callable[..., Stack], begins: Sequence[Begin]
    ) -> None:
        """Every client follows one answer: its worker is killed, then its only server stopped (1012) and started again."""
        chat = Chat(stack(webs=1, workers=2, settings=SHORT_LEASES))
        steps = [
            {"text": "The first, "},
            {"hold": "first"},
            {"text": "the second, "},
            {"hold": "second"},
            {"text": "the end."},
        ]
        message_id = chat.ask(steps)
        with ExitStack() as exits:
            readers = [exits.enter_context(begin(chat, "follow", messageId=message_id)) for begin in begins]
            for reader in readers:
                reader.until_event("delta")
            chat.stack.kill(eventually(lambda: chat.stack.holder(message_id)))
            chat.stack.model.release("first")
            for reader in readers:
                reader.until_event("snapshot", content="")
                reader.until(lambda said: "the second" in said.get("event", ""))
            chat.stack.kill("web-1", signal.SIGTERM)
            chat.stack.wait_ended("web-1", timeout_s=30)
            chat.stack.model.release("second")
            chat.stack.restart("web-1")
            for reader in readers:
                reader.finish()
        row = chat.row(message_id)
        assert (row["status"], row["attempt"], row["content"]) == ("success", 2, "The first, the second, the end.")
        for reader in readers:
            check_shows(reader, row)
