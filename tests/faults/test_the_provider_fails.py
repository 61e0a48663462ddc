"""A provider that refuses, breaks off, stalls or talks nonsense: readers see one story, and it ends as the row says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from shared.events import Error, EventId, Snapshot
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.people import Person
from tests.stack import Stack, StackStarter

SEED: Final = 20261125
WHOLE: Final = "The whole answer, at last."
QUOTA: Final = {"status": 429, "error": {"code": "insufficient_quota", "type": "insufficient_quota"}}
HALF: Final = {"text": "Half of an "}

BREAKS: Final[dict[str, list[dict[str, Any]]]] = {
    "cut with FIN": [{"cut": "fin"}],
    "cut with RST": [{"cut": "rst"}],
    "cut in the middle of a line": [{"cut": "fin", "at_byte": 30}, {"text": "answer."}],
    "cut inside a character": [{"cut": "fin", "inside_character": True}, {"text": "wörd"}],
    "silent": [{"stall": True}],
    "without a finish reason": [{"finish": None}],
    "a line that is no JSON": [{"raw": "data: {not json\n\n"}],
    "bytes that are no UTF-8": [{"raw64": "ZGF0YTog//79Cgo="}],
    "a line that tells of a server's error": [
        {"raw": 'data: {"error": {"message": "secret of the provider", "type": "server_error"}}\n\n'}
    ],
}
"""How a stream ends that has shown text."""

ENDS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "401": ({"status": 401}, "provider_auth"),
    "400": ({"status": 400}, "provider_rejected"),
    "429 without quota": (QUOTA, "provider_quota"),
    "500 again and again": ({"status": 500}, "provider_unavailable"),
    "429 again and again": ({"status": 429}, "provider_rate_limited"),
    "an empty answer again and again": ({"steps": []}, "empty_answer"),
}


@pytest.fixture(scope="module")
def stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    settings = {
        "CHATRELAY_PROVIDER_SILENCE_S": 2,
        "CHATRELAY_RETRY_FIRST_S": 0.05,
        "CHATRELAY_RETRY_MOST_S": 0.2,
    }
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(webs=2, settings=settings)


@pytest.fixture
def somebody(stack: Stack) -> Iterator[Person]:
    stack.model.reset()
    with Person(stack) as person:
        yield person


def _told(person: Person, content: str) -> tuple[dict[str, Any], list[list[Any]]]:
    """The final row, and what each reader was told: they join, leave and come back at random."""
    print(f"seed {SEED}")
    seeded = random.Random(SEED)
    message_id = person.submit(person.project(), content)
    with person.audience(message_id, leaves_after=lambda: seeded.randint(1, 4)) as audience:
        audience.finish()
        row = person.row(message_id)
        return row, audience.check(row)


@pytest.mark.parametrize("how", BREAKS)
def test_a_stream_that_breaks_after_text_is_begun_anew_and_readers_are_told(
    stack: Stack, somebody: Person, how: str
) -> None:
    """The text that was shown is taken back by a snapshot; nothing of the provider's own words gets out."""
    broken = {"steps": [HALF, *BREAKS[how]]}
    stack.model.on("tell me", {"rounds": [{"attempts": [broken, {"steps": [{"text": WHOLE}]}]}]})
    row, stories = _told(somebody, "tell me")
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 2)
    for story in stories:
        opening = next(event for event in story if EventId.parse(event.id).attempt == 2)
        assert isinstance(opening, Snapshot)
        assert (opening.reason, opening.content) == ("attempt", "")
        assert "secret of the provider" not in str(story)
    assert len(stack.model.requests()) == 2


@pytest.mark.parametrize("how", ENDS)
def test_a_provider_that_refuses_ends_the_message_with_its_code(stack: Stack, somebody: Person, how: str) -> None:
    """What may pass is tried three times, what would not is told at once."""
    answer, code = ENDS[how]
    stack.model.on("tell me", {"rounds": [answer]})
    row, stories = _told(somebody, "tell me")
    assert (row["status"], row["error"]["code"], row["content"]) == ("error", code, "")
    assert len(stack.model.requests()) == (3 if row["error"]["retryable"] and code != "provider_quota" else 1)
    assert [type(story[-2]) for story in stories] == [Error] * len(stories)


def test_a_provider_that_fails_in_the_second_round_does_not_have_the_first_ones_tools_made_again(
    stack: Stack, somebody: Person
) -> None:
    """The effect is in the document once, and the answer goes on from the stored round."""
    call = {
        "name": "applyJsonPatch",
        "arguments": {"operations": [{"op": "add", "path": "/list/-", "value": "once"}], "explanation": "Added it."},
    }
    first = {"steps": [{"text": "I add it."}, {"tool": call}]}
    second = {"attempts": [{"steps": [HALF, {"cut": "rst"}]}, {"status": 503}, {"steps": [{"text": "Added."}]}]}
    stack.model.on("add it", {"rounds": [first, second]})
    project_id = somebody.project(document={"list": []})
    seeded = random.Random(SEED)
    message_id = somebody.submit(project_id, "add it")
    with somebody.audience(message_id, leaves_after=lambda: seeded.randint(1, 4)) as audience:
        audience.finish()
        row = somebody.row(message_id)
        audience.check(row)
    assert (row["status"], row["content"]) == ("success", "I add it.\n\nAdded.")
    assert somebody.document(project_id)["document"] == {"list": ["once"]}
    assert [version["version"] for version in somebody.versions(project_id)] == [2]
    assert len(stack.sql("SELECT 1 FROM tool_ledger WHERE message_id = :id", id=message_id)) == 1
