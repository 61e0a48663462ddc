"""The lines in docs/operating.md are recordings: what stands there is what a worker, a sweeper and the API publish today."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api import announcing
from dev.embedded import EmbeddedValkey
from dev.scripted_model.control import ScriptedModel
from shared import event_log
from shared.lifecycle import OnBusy
from shared.store import SubmitLimits
from tests import rights
from tests.integration.worker_parts import PATIENCE_S, Bench, eventually, opened_bench
from worker.sweep import Sweeper
from worker.turn import run_turn

DOCUMENT = Path(__file__).parents[2] / "docs" / "operating.md"
LIMITS = SubmitLimits(max_unfinished=20, max_tokens_per_day=None)
VARIES = {"ts", "timing", "usage", "createdAt", "updatedAt"}
THE_END = "chatrelay:the-end"


@pytest.fixture
def bench(database_url: str, own_valkey: EmbeddedValkey, scripted: ScriptedModel) -> Iterator[Bench]:
    """With a Valkey on which nobody else says anything."""
    with opened_bench(database_url=database_url, redis_url=own_valkey.url, model=scripted) as made:
        yield made


class Recorder:
    """All that is published from now on, as `PSUBSCRIBE chatrelay:*` shows it."""

    def __init__(self, bench: Bench) -> None:
        self._client = event_log.connect(rights.as_admin(bench.redis_url))
        self._names = {str(bench.project_id): "<projectId>"}
        self._subscription: Any = self._client.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
        self._subscription.psubscribe("chatrelay:*")
        assert self._subscription.get_message(timeout=PATIENCE_S) is not None

    def name(self, id_: object, name: str) -> None:
        self._names[str(id_)] = f"<{name}>"

    def lines(self) -> list[str]:
        """One a publication, with ids and times that differ from run to run shortened."""
        self._client.publish(THE_END, "")
        found = []
        while (message := self._subscription.get_message(timeout=PATIENCE_S))["channel"] != THE_END.encode():
            told = json.dumps(self._plain(json.loads(message["data"])), separators=(",", ":"), ensure_ascii=False)
            line = f"{message['channel'].decode()} {told}".replace('"…"', "…").replace("…:…", "…")
            for id_, name in self._names.items():
                line = line.replace(id_, name)
            found.append(re.sub(r"call_[0-9A-Za-z_-]+", "<toolCallId>", line))
        self._subscription.close()
        self._client.close()
        return found

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() >= {"role", "kind", "queueNumber"}:  # a message: its first fields stand for all
                value = {name: value[name] for name in ("id", "projectId", "role", "status")} | {"…": "…"}
            return {name: "…" if name in VARIES else self._plain(inner) for name, inner in value.items()}
        return [self._plain(inner) for inner in value] if isinstance(value, list) else value


def check(name: str, lines: list[str]) -> None:
    found = re.search(rf"<!-- recorded: {name} -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), re.DOTALL)
    recorded = "\n" + "\n".join(["```", *lines, "```"]) + "\n\n"
    assert found is not None and found[1] == recorded, f"docs/operating.md should have for {name}:{recorded}"  # noqa: PT018


def submitted(bench: Bench, recorder: Recorder) -> UUID:
    """As the API takes a message."""
    pair = bench.store.submit(bench.anna, bench.project_id, "go", model="scripted", on_busy=OnBusy.QUEUE, limits=LIMITS)
    recorder.name(pair.user_message.id, "userMessageId")
    recorder.name(pair.assistant_message.id, "messageId")
    announcing.submitted(bench.log, bench.doorbell, pair)
    return pair.assistant_message.id


def of_operators(lines: list[str]) -> list[str]:
    return [line.removeprefix("chatrelay:ops ") for line in lines if line.startswith("chatrelay:ops ")]


def test_an_answer_with_a_tool_call_is_told_as_documented(bench: Bench) -> None:
    """Every channel, each in order."""
    edit = {"op": "replace", "path": "/title", "value": "Summer"}
    called = {"name": "applyJsonPatch", "arguments": {"operations": [edit]}}
    bench.model.on("go", {"rounds": [{"steps": [{"tool": called}]}, {"steps": [{"text": "Done.", "chunks": 1}]}]})
    recorder = Recorder(bench)
    run_turn(bench.workshop(), submitted(bench, recorder))
    # what different connections publish has no order among each other
    check("answer", sorted(recorder.lines(), key=lambda line: line.split(":")[1]))


def test_a_component_is_told_as_documented(bench: Bench) -> None:
    """The turn that asks for it ends as `building`; a cancel before any builder took it ends it."""
    called = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball", "name": "Ball"}}
    bench.model.say("go", {"text": "I build it."}, {"tool": called})
    recorder = Recorder(bench)
    message_id = submitted(bench, recorder)
    run_turn(bench.workshop(), message_id)
    recorder.name(bench.row(message_id).job_id, "jobId")
    bench.cancel(message_id)
    lines = recorder.lines()
    check("component", [line for line in lines if '"job"' in line or line.startswith("chatrelay:ops ")])


def test_a_provider_that_fails_a_lost_worker_a_cancel_and_a_retry_are_told_as_documented(bench: Bench) -> None:
    bench.model.on("go", {"rounds": [{"attempts": [{"status": 503}, {"steps": [{"text": "Hel"}, {"hold": "h"}]}]}]})
    recorder = Recorder(bench)
    message_id = submitted(bench, recorder)
    turn = bench.start(bench.workshop(lease_s=60), message_id)
    bench.model.wait_held("h")
    sweeper = Sweeper(bench.store, bench.log, bench.doorbell, bench.settings(lease_s=0.2, heartbeat_s=0.05))

    def is_taken() -> bool:  # its holder may renew it in between
        bench.sql(
            "UPDATE messages SET lease_until = now() - interval '1 s' WHERE id = :id AND lease_owner IS NOT NULL",
            id=message_id,
        )
        sweeper._take_lapsed(tell=True)
        return bench.column(message_id, "lease_owner") is None

    eventually(is_taken)
    bench.model.release("h")
    turn.join()
    claim = bench.store.claim(message_id, "somebody", lease_s=60, max_tries=3)
    assert claim is not None
    bench.cancel(message_id)
    bench.store.hand_back(claim.lease)
    bench.cancel(message_id)
    retried = bench.store.retry(bench.anna, message_id, LIMITS)
    announcing.retried(bench.log, bench.doorbell, retried)
    lines = recorder.lines()
    check("trouble", [line for line in lines if line.startswith(("chatrelay:ops ", "chatrelay:control "))])


def test_a_log_that_is_lost_and_a_holder_that_stops_are_told_too(bench: Bench) -> None:
    """Each with the attempt that came to nothing."""
    steps: list[dict[str, Any]] = [{"text": "Hel"}, {"hold": "h"}, {"text": "lo"}, {"hold": "i"}]
    bench.model.say("go", *steps)
    recorder = Recorder(bench)
    message_id = submitted(bench, recorder)
    workshop = bench.workshop()
    turn = bench.start(workshop, message_id)
    bench.model.wait_held("h")
    eventually(lambda: "delta" in [event.__struct_config__.tag for event in bench.events(message_id)])
    bench.client.flushall()
    bench.model.release("h")
    bench.model.wait_held("i")
    eventually(lambda: bench.column(message_id, "attempt") == 2 and bool(bench.events(message_id)))
    workshop.leases.drain()
    turn.join()
    told = [json.loads(line.replace("…", "null")) for line in of_operators(recorder.lines())]
    assert [(line["type"], line.get("state"), line.get("attempt")) for line in told] == [
        ("submitted", None, None),
        ("started", None, 1),
        ("attempt", "log_lost", 1),
        ("attempt", "handed_back", 2),
    ]


def test_no_line_for_operators_has_anybodys_text(bench: Bench) -> None:
    """Not the question, not the answer, not what a tool was called with."""
    called = {"name": "applyJsonPatch", "arguments": {"operations": [], "explanation": "canary"}}
    bench.model.on(
        "go", {"rounds": [{"steps": [{"text": "canary"}, {"tool": called}]}, {"steps": [{"text": "canary"}]}]}
    )
    recorder = Recorder(bench)
    run_turn(bench.workshop(), submitted(bench, recorder))
    lines = of_operators(recorder.lines())
    assert [json.loads(line.replace("…", "null"))["type"] for line in lines] == ["submitted", "started", "finalized"]
    assert "canary" not in "".join(lines)
