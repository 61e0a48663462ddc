"""What must hold after any fault, over all that a test's user began."""

from __future__ import annotations

import itertools
import os
import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from shared.lifecycle import FINAL
from tests.followers import Audience
from tests.people import Person, eventually
from tests.stack import Stack
from tests.trace_checker import check_trace

SEED: Final = os.environ.get("CHATRELAY_TEST_SEED") or secrets.token_hex(4)
"""Of when readers leave and come back."""
_audiences: Final = itertools.count(1)


class Witness(Person):
    """A user whose messages are also followed by readers that leave and come back at random."""

    def audience(self, message_id: str, *, leaves_after: Callable[[], int] | None = None) -> Audience:
        seed = f"{SEED}-{next(_audiences)}"
        print(f"CHATRELAY_TEST_SEED={SEED}: readers of {message_id} wander by {seed}")
        chance = random.Random(seed)
        return Audience(
            self.stack, self.token, message_id, leaves_after=leaves_after, wanders=lambda: chance.randint(1, 4)
        )


def check_outcome(stack: Stack, person: Person) -> None:
    """Every message is final and told as its row says, also to a latecomer; each effect is one ledger row and version."""
    messages = stack.sql(
        "SELECT m.id, m.project_id FROM messages m JOIN users u ON u.id = m.author_id"
        " WHERE u.name = :name AND m.role = 'assistant' ORDER BY m.id",
        name=person.name,
    )
    for message in messages:
        message_id = str(message.id)
        row = eventually(partial(_settled, stack, person, message_id))
        with person.audience(message_id) as late:
            late.check(row)
        entries = stack.log.replay(message.id)
        check_trace([entry.payload for entry in entries], from_start=bool(entries) and entries[0].id.n == 0)
        _check_effects(stack, message_id, row)
    for project_id in {str(message.project_id) for message in messages}:
        _check_document(stack, person, project_id)


def _settled(stack: Stack, person: Person, message_id: str) -> dict[str, Any] | None:
    """The message, once it is final and its end needs nobody any more."""
    (stored,) = stack.sql("SELECT status, ending_appended, lease_owner FROM messages WHERE id = :id", id=message_id)
    if stored.status not in {status.value for status in FINAL} or not stored.ending_appended:
        return None
    assert stored.lease_owner is None
    return person.row(message_id)


def _check_effects(stack: Stack, message_id: str, row: dict[str, Any]) -> None:
    """The ledger has the row's calls, each once, and a version for each that changed the document."""
    ledger = stack.sql(
        "SELECT tool_call_id, succeeded, version FROM tool_ledger WHERE message_id = :id ORDER BY round, index",
        id=message_id,
    )
    made = [(call["toolCallId"], call["state"] == "succeeded", call.get("version")) for call in row["toolCalls"]]
    assert [tuple(entry) for entry in ledger] == made
    versions = stack.sql("SELECT version FROM document_versions WHERE message_id = :id ORDER BY version", id=message_id)
    assert [version for (version,) in versions] == sorted(
        entry.version for entry in ledger if entry.version is not None
    )


def _check_document(stack: Stack, person: Person, project_id: str) -> None:
    versions = stack.sql("SELECT version FROM document_versions WHERE project_id = :id ORDER BY version", id=project_id)
    document = person.document(project_id)
    assert [version for (version,) in versions] == list(range(2, document["version"] + 1))
