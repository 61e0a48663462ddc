"""What the fault tests play: answers of the model with a place to stop at, and ambushes on the workers' ways."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, text

from dev.embedded import EmbeddedPostgres
from shared.engine import sqlalchemy_url
from tests import rights
from tests.fault_proxy import Link, Step, Trap, down, up
from tests.followers import Audience
from tests.people import Person, eventually
from tests.stack import Behind, Stack

WORKERS: Final = ("worker-1", "worker-2")
HOLD: Final = "halfway"
HALVES: Final = ({"text": "The first half, "}, {"hold": HOLD}, {"text": "and the second."})
WHOLE: Final = "The first half, and the second."
PATCHED: Final = "I patch.\n\nPatched."

# What the store's statements can be known by on the wire.
CLAIM: Final[Step] = up(b"claimed_at=coalesce")
CLAIMED: Final[Step] = down(b"UPDATE 1\x00")
"""The answer to the claim, which is committed by then."""
ROUND: Final[Step] = up(b"INSERT INTO rounds")
EFFECT: Final[Step] = up(b"INSERT INTO tool_ledger")
END: Final[Step] = up(b"ending_appended=false")
SUBMIT: Final[Step] = up(b"INSERT INTO messages")
COMMIT: Final = b"COMMIT"
"""The statement, and the beginning of its answer."""


def play_patch(stack: Stack, match: str) -> None:
    """Text and a patch of the document, then, told of its result, another text. Stops at `HOLD` before the patch."""
    arguments = {"operations": [{"op": "add", "path": "/list/-", "value": "once"}], "explanation": "Added it."}
    call = {"tool": {"name": "applyJsonPatch", "arguments": arguments}}
    first = [{"text": "I patch."}, {"hold": HOLD}, call]
    stack.model.on(match, {"rounds": [{"steps": first}, {"steps": [{"text": "Patched."}]}]})


def check_patched_once(stack: Stack, person: Person, row: dict[str, Any]) -> None:
    """The answer is whole, and the document, its versions and the ledger have the patch once."""
    assert (row["status"], row["content"]) == ("success", PATCHED)
    assert [(call["state"], call["version"]) for call in row["toolCalls"]] == [("succeeded", 2)]
    assert person.document(row["projectId"])["document"] == {"list": ["once"]}
    assert len(stack.sql("SELECT 1 FROM tool_ledger WHERE message_id = :id", id=row["id"])) == 1


def finished(person: Person, audience: Audience, message_id: str, *, web: int = 0) -> dict[str, Any]:
    """The row in the end, which everybody's story was checked against."""
    audience.finish()
    row = person.row(message_id, web=web)
    audience.check(row)
    return row


def holder_of(stack: Stack, message_id: str) -> str:
    """The worker that holds the message, once one does."""
    return eventually(lambda: stack.holder(message_id))


def tries_of(stack: Stack, message_id: str) -> int:
    tries: int = stack.sql("SELECT tries FROM messages WHERE id = :id", id=message_id)[0].tries
    return tries


class Ambush:
    """One trap on each worker's way, for the worker that comes first."""

    def __init__(self, stack: Stack, behind: Behind, lay: Callable[[Link], Trap]) -> None:
        self._traps = {name: lay(stack.link(name, behind)) for name in WORKERS}

    def wait(self) -> str:
        """The worker that ran into it; the others pass from then on."""
        caught = eventually(lambda: next((name for name, trap in self._traps.items() if trap.struck), None))
        for name, trap in self._traps.items():
            if name != caught:
                trap.release()
        return caught

    def release(self) -> None:
        for trap in self._traps.values():
            trap.release()


@contextmanager
def refused_by_postgres(stack: Stack, table: str, event: str, sqlstate: str, *, when: str = "true") -> Iterator[None]:
    """Such writes to the table end in a real error of the server's, as of a full disk (53100), while the context lasts."""
    engine = create_engine(sqlalchemy_url(rights.as_owner(stack.database_url)))
    make = f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'refused for a test' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse();
    """
    try:
        with engine.begin() as connection:
            connection.execute(text(make))
        try:
            yield
        finally:
            with engine.begin() as connection:
                connection.execute(text("DROP FUNCTION refuse() CASCADE"))
    finally:
        engine.dispose()


@contextmanager
def standing_still(server: EmbeddedPostgres) -> Iterator[None]:
    """Every process of the server is stopped; its connections stay open, and its kernel takes what it is sent."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    processes = [server.pid, *map(int, children)]
    for process in processes:
        _signal(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            _signal(process, signal.SIGCONT)


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass  # a backend that ended meanwhile
