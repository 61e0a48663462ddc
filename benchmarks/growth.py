"""What the store's questions cost as projects, messages, what is unfinished, and readers grow: blocks of 8 KiB.

Blocks say what a question costs on any machine, whatever else it does. A cost that does not grow stays as it is at a billion.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from sqlalchemy import text

from benchmarks.explaining import Explainer
from benchmarks.filling import Filled
from benchmarks.plans import filled_database
from benchmarks.report import write_between
from benchmarks.store_calls import CALLS, Call, Place

BEGIN: Final = "<!-- written by `python -m benchmarks growth` -->"
_REPEATS: Final = 3
_READERS: Final = (1, 10, 100, 1_000)
_UNFINISHED: Final = (100, 1_000, 10_000)
_MANY: Final = 100_000
"""Messages of the database in which much is unfinished."""


class Operation(NamedTuple):
    """What somebody waits for, and the calls of the store that it is made of."""

    name: str
    calls: tuple[tuple[str, str], ...]
    """Methods and cases, of `CALLS`."""


# what only reads comes first: what is written to be asked about stands in nobody's way
OF_A_PROJECT: Final = (
    Operation("a page of messages", (("messages", ""),)),
    Operation("a later page of messages", (("messages", "a later page"),)),
    Operation("a page of what failed", (("messages", "that failed"),)),
    Operation("joining a message's socket", (("message_for_reader", ""),)),
    Operation("joining the project's socket", (("project_for_reader", ""), ("project_news", "at first"))),
    Operation("catching up after a gap", (("project_news", "after a gap"),)),
    Operation("a page of versions", (("versions", ""),)),
    Operation("editing the document", (("patch_document", ""),)),
    Operation("undo", (("undo", ""),)),
    Operation("submit", (("submit", ""),)),
    Operation("claim", (("claim", ""),)),
    Operation("the context for the model", (("context", ""),)),
    Operation("a round and a tool call", (("store_round", ""), ("commit_effect", "that edits"))),
    Operation("the end", (("finalize", ""), ("ending_was_appended", ""), ("next_in_line", ""))),
)
SWEEP: Final = Operation(
    "a sweeper's round",
    tuple(
        (method, "")
        for method in (
            "sweeper_came_round",
            "take_lapsed",
            "to_close",
            "endings_to_append",
            "ring_for",
            "ring_builders_for",
            "note_batches",
            "send_batch_items",
            "ring_batches_for",
            "ring_batch_builders_for",
        )
    ),
)
OF_ALL: Final = (
    Operation("authenticating", (("authenticate", ""),)),
    Operation("a page of projects", (("projects", ""),)),
    Operation("the operators' summary", (("summary", ""),)),
    Operation("a scrape of the metrics", (("figures", ""),)),
    Operation("`chatrelay stats` of a day", (("stats", "of a day"),)),
    Operation("operators' messages that failed", (("operator_messages", "that failed"),)),
    Operation("choosing a batch's next twenty", (("send_batch_items", ""),)),
    SWEEP,
)
_CALLS: Final[dict[tuple[str, str], Call]] = {(call.method, call.what): call for call in CALLS}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    blocks: list[float]


class Growth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing that grows: `sizes` are how much of it there is, each row what an operation touches then."""

    of: str
    sizes: list[int]
    rows: list[Row]


class Grown(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    began_at: str
    messages: int
    growths: list[Growth]


def growth(
    messages: Annotated[int, typer.Option(min=10_000, help="Of the largest database.")] = 1_000_000,
    page: Annotated[Path | None, typer.Option(help="Write what came out into this page.", dir_okay=False)] = None,
    json: Annotated[Path | None, typer.Option(help="Write what came out to this file.", dir_okay=False)] = None,
) -> None:
    """Fill databases of several sizes, and tell what the store's questions touch in them."""
    console, began_at = Console(stderr=True), datetime.now(UTC).isoformat(timespec="seconds")
    sizes = [messages // 100, messages // 10, messages]
    of_all: list[dict[str, float]] = []
    of_projects: Growth | None = None
    of_readers: Growth | None = None
    of_unfinished: Growth | None = None
    for size in sizes:
        console.print(f"filling a database with {size:,} messages")
        with filled_database(size) as (filled, explainer):
            asking = _Asking(filled, explainer)
            middling = sorted(filled.projects)[1]
            of_all.append(asking.blocks((*OF_ALL, *OF_A_PROJECT), filled.projects[middling]))
            if size == messages:
                of_readers = _by_readers(asking)
                of_projects = _by_messages_of_the_project(asking)
            elif size == min(_MANY, sizes[1]):
                of_unfinished = _by_what_is_unfinished(asking)
    assert of_projects is not None
    assert of_readers is not None
    assert of_unfinished is not None
    everything = _growth("messages of all projects", sizes, of_all)
    grown = Grown(began_at=began_at, messages=messages, growths=[of_projects, everything, of_unfinished, of_readers])
    written = markdown(grown)
    Console().print(written, markup=False)
    if page is not None:
        write_between(page, BEGIN, written)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(grown), indent=1) + b"\n")


class _Asking:
    def __init__(self, filled: Filled, explainer: Explainer) -> None:
        self.filled = filled
        self._explainer = explainer

    def blocks(self, operations: Iterable[Operation], project_id: UUID) -> dict[str, float]:
        """Of each operation in a project, the median of some."""
        place = Place(self.filled, project_id)
        return {one.name: statistics.median(self._once(one, place) for _ in range(_REPEATS)) for one in operations}

    def _once(self, operation: Operation, place: Place) -> int:
        touched = sum(self.asked(_CALLS[call], place) for call in operation.calls)
        place.forget()
        return touched

    def asked(self, call: Call, place: Place) -> int:
        arguments = call.arguments(place)
        return self.touched(lambda: call.run(place, arguments))

    def touched(self, ask: Callable[[], object]) -> int:
        with self._explainer.watching() as plans:
            ask()
        return sum(plan.blocks for plan in plans)


def _growth(of: str, sizes: Iterable[int], found: list[dict[str, float]]) -> Growth:
    return Growth(
        of=of,
        sizes=list(sizes),
        rows=[Row(name=name, blocks=[one[name] for one in found]) for name in found[0]],
    )


def _by_messages_of_the_project(asking: _Asking) -> Growth:
    projects = sorted(asking.filled.projects.items())
    found = [asking.blocks(OF_A_PROJECT, project_id) for _, project_id in projects]
    return _growth("messages of the project", [size for size, _ in projects], found)


def _by_what_is_unfinished(asking: _Asking) -> Growth:
    """Answers that wait in line in their projects, and nobody holds: as when every worker is away."""
    operations = (*OF_ALL[2:4], SWEEP, *(one for one in OF_A_PROJECT if one.name in ("submit", "claim", "the end")))
    found = []
    for count in _UNFINISHED:
        with asking.filled.engine.begin() as connection:
            connection.execute(text(_LET_WAIT), {"count": count})
        with asking.filled.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE messages"))
        found.append(asking.blocks(operations, asking.filled.projects[min(asking.filled.projects)]))
    return _growth("answers that wait", _UNFINISHED, found)


_LET_WAIT: Final = """
    UPDATE messages SET status = 'pending', kind = 'status', ending = NULL, error_code = NULL, waits = true,
           enqueued_at = now() - interval '1 minute', rung_at = now() - interval '1 minute'
    WHERE id IN (SELECT id FROM messages WHERE role = 'assistant' AND status = 'success' ORDER BY id DESC LIMIT :count)
"""


def _by_readers(asking: _Asking) -> Growth:
    """What a web process asks for its silent readers, every other second at most."""
    filled = asking.filled
    answers = filled.answers(filled.largest, "true", limit=max(_READERS))
    with filled.engine.connect() as connection:
        projects = connection.execute(
            text("SELECT project_id FROM members WHERE user_id = :user ORDER BY project_id LIMIT :count"),
            {"user": filled.owner.user_id, "count": max(_READERS)},
        )
        watched = list(projects.scalars())
        good = "SELECT sha256 FROM tokens WHERE revoked_at IS NULL AND expires_at IS NULL LIMIT :count"
        tokens = [bytes(one) for one in connection.execute(text(good), {"count": max(_READERS)}).scalars()]
    store, me = filled.store, filled.owner.user_id
    asked: dict[str, Callable[[int], object]] = {
        "of messages: their rows": lambda count: store.reader_rows(answers[:count]),
        "of projects: how far these are": lambda count: store.project_states(watched[:count]),
        "whether they are members": lambda count: store.members_among([(id_, me) for id_ in watched[:count]]),
        "whether their tokens are good": lambda count: store.dead_tokens(tokens[:count]),
    }
    found = [
        {name: float(asking.touched(lambda: ask(count))) for name, ask in asked.items()}  # noqa: B023  # asked at once
        for count in _READERS
    ]
    return _growth("readers, each of another message or project", _READERS, found)


def markdown(grown: Grown) -> str:
    lines = [f"{grown.began_at[:10]}, blocks of 8 KiB that are touched, cached or not; the median of {_REPEATS}."]
    for one in grown.growths:
        sizes = " | ".join(f"{size:,}" for size in one.sizes)
        lines += ["", f"| {one.of}: | {sizes} |", f"| --- |{' ---: |' * len(one.sizes)}"]
        lines += [f"| {row.name} | {' | '.join(f'{blocks:,.0f}' for blocks in row.blocks)} |" for row in one.rows]
    return "\n".join(lines) + "\n"
