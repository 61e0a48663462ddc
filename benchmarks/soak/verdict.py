"""Whether what was promised held: what readers received against rows, documents against versions and ledger.

Each check answers with violations; none means that it held.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from benchmarks.soak.faults import Kill
from benchmarks.soak.load import Sent
from benchmarks.soak.plan import DOCUMENT
from benchmarks.soak.recording import Recording, is_doubled, violation_of
from shared import events
from tests import leaks
from tests.stack import Stack

FINAL: Final = frozenset({"success", "error", "cancelled"})
_BATCH: Final = 200
"""Messages that a checking process takes at a time."""
_SMALL: Final = 500
"""So few are checked here: starting processes takes longer."""
_CHECKERS: Final = 2

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """`kind` is a column of the report: lost, stuck, doubled, trace, effect, answer, leak or process."""

    kind: str
    what: str
    recording: Recording | None = None
    row: Row | None = None


class Asked(Protocol):
    """Where rows are read; `Stack` is one."""

    def sql(self, statement: str, **parameters: object) -> Sequence[Any]: ...


# --- messages -----------------------------------------------------------------------------------------------------


def check_messages(sent: Iterable[Sent], rows: dict[str, Row]) -> Iterator[Violation]:
    """Every acknowledged message is there and final, every acknowledged retry was run."""
    for one in sent:
        row = rows.get(one.message_id)
        name = f"message {one.plan.number} ({one.plan.kind}), {one.message_id}"
        if row is None:
            yield Violation(kind="lost", what=f"{name} was acknowledged and is not there")
        elif row["status"] not in FINAL:
            yield Violation(kind="lost", what=f"{name} was acknowledged and is {row['status']}", row=row)
        elif row["attempt"] <= one.retried_above:
            yield Violation(kind="lost", what=f"{name}: a retry was acknowledged and never begun", row=row)
        elif not one.is_over:
            yield Violation(kind="stuck", what=f"{name} is final, and its readers did not come to the end", row=row)


def check_nothing_is_left(stack: Asked) -> Iterator[Violation]:
    """Also of what nobody was told: no row is unfinished, held, or without the end of its log."""
    left = stack.sql(
        "SELECT id, status, attempt, lease_owner, ending_appended, cancel_requested_at FROM messages"
        " WHERE status IN ('pending', 'building') OR lease_owner IS NOT NULL OR NOT ending_appended"
    )
    for row in left:
        yield Violation(kind="stuck", what=f"message {row.id} is left as {dict(row._mapping)}")


# --- readers ------------------------------------------------------------------------------------------------------


def check_readers(
    sent: Sequence[Sent], rows: dict[str, Row], *, progress: Callable[[int], object] = lambda checked: None
) -> Iterator[Violation]:
    """Every recording, whole, against the row that its message has. `progress` is told how many messages are done."""
    final = [one for one in sent if one.message_id in rows]
    for one in final:
        for recording in one.recordings:
            for problem in recording.problems:
                what = f"{recording.reader} of {one.message_id} {problem}"
                yield Violation(kind="answer", what=what, recording=recording, row=rows[one.message_id])
    batches = [final[at : at + _BATCH] for at in range(0, len(final), _BATCH)]
    for batch, found in _checked(batches, rows):
        for at, number, reason in found:
            one = batch[at]
            recording = one.recordings[number]
            yield Violation(
                kind="doubled" if is_doubled(reason) else "trace",
                what=f"{recording.reader} of {one.message_id} ({one.plan.kind}): {reason}",
                recording=recording,
                row=rows[one.message_id],
            )
        progress(len(batch))


class _Task(NamedTuple):
    row: bytes
    recordings: list[list[bytes]]


class _Found(NamedTuple):
    message: int
    recording: int
    reason: str


def _checked(batches: Sequence[Sequence[Sent]], rows: dict[str, Row]) -> Iterator[tuple[Sequence[Sent], list[_Found]]]:
    def tasks(batch: Sequence[Sent]) -> list[_Task]:
        return [
            _Task(msgspec.json.encode(rows[one.message_id]), [recording.frames for recording in one.recordings])
            for one in batch
        ]

    if sum(map(len, batches)) <= _SMALL:
        for batch in batches:
            yield batch, _check_batch(tasks(batch))
        return
    with ProcessPoolExecutor(_CHECKERS, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_check_batch, tasks(batch)): batch for batch in batches}
        for done in as_completed(running):
            yield running[done], done.result()


def _check_batch(tasks: list[_Task]) -> list[_Found]:
    found = []
    for at, task in enumerate(tasks):
        row = msgspec.json.decode(task.row)
        known: dict[tuple[bytes, ...], str | None] = {}  # most readers of a message receive the very same
        for number, frames in enumerate(task.recordings):
            key = tuple(frames)
            if key not in known:
                known[key] = violation_of(frames, row)
            if (reason := known[key]) is not None:
                found.append(_Found(at, number, reason))
    return found


# --- effects ------------------------------------------------------------------------------------------------------


class Effects(NamedTuple):
    ledger: int
    """Calls that changed a document, as the ledger has them."""
    versions: int
    items: int
    """What the documents hold; one for each call."""


def check_effects(stack: Asked) -> tuple[Effects, list[Violation]]:
    """Ledger, versions and documents tell the same edits, each once."""
    found: list[Violation] = []

    def wrong(what: str, kind: str = "effect") -> None:
        found.append(Violation(kind=kind, what=what))

    versions: dict[str, list[Any]] = defaultdict(list)
    for row in stack.sql("SELECT project_id, version, operations, message_id FROM document_versions ORDER BY version"):
        versions[str(row.project_id)].append(row)
    ledger: dict[str, Counter[tuple[int, str]]] = defaultdict(Counter)
    runs: dict[str, int] = {}
    for row in stack.sql(
        "SELECT m.project_id, m.run, l.message_id, l.version, l.succeeded, l.name, l.tool_call_id FROM tool_ledger l"
        " JOIN messages m ON m.id = l.message_id"
    ):
        runs[str(row.message_id)] = row.run
        if row.version is not None:
            ledger[str(row.project_id)][row.version, str(row.message_id)] += 1
        elif row.succeeded and row.name == "applyJsonPatch":
            wrong(f"the call {row.tool_call_id} succeeded and has no version")
    items = 0
    for project in stack.sql("SELECT id, version, document FROM projects"):
        project_id, its = str(project.id), versions[str(project.id)]
        items += len(project.document["list"])
        if [row.version for row in its] != list(range(2, project.version + 1)):
            wrong(f"project {project_id} is at version {project.version}, and has {[row.version for row in its]}")
        made = Counter((row.version, str(row.message_id)) for row in its)
        if made != ledger[project_id]:
            wrong(
                f"project {project_id}: versions without a call {made - ledger[project_id]}, calls without a version"
                f" {ledger[project_id] - made}"
            )
        told = [operation["value"] for row in its for operation in row.operations]
        if DOCUMENT["list"] + told != project.document["list"]:
            wrong(f"project {project_id} holds {project.document['list']}, and its versions made {told}")
        for (message_id, value), count in _made_by(its).items():
            if count > runs.get(message_id, 0):
                wrong(f"message {message_id} added {value} {count} times in {runs.get(message_id, 0)} runs", "doubled")
    effects = Effects(
        ledger=sum(map(Counter.total, ledger.values())), versions=sum(map(len, versions.values())), items=items
    )
    return effects, found


def _made_by(versions: Iterable[Any]) -> Counter[tuple[str, str]]:
    return Counter((str(row.message_id), operation["value"]) for row in versions for operation in row.operations)


# --- what is left behind ------------------------------------------------------------------------------------------


def check_leaks(stack: Stack) -> Iterator[Violation]:
    """No key of Redis stays for ever, no transaction is left open."""
    checks: tuple[Callable[[], None], ...] = (
        lambda: leaks.check_no_lasting_key(stack.redis),
        lambda: leaks.check_no_open_transaction(stack.database_url),
    )
    for check in checks:
        try:
            check()
        except leaks.Leak as leak:
            yield Violation(kind="leak", what=str(leak))


# --- figures ------------------------------------------------------------------------------------------------------


def recoveries_s(kills: Iterable[Kill], sent: Iterable[Sent]) -> list[float]:
    """Seconds from each killed worker to the first event of the next attempt, for each message that it held.

    By the times in the events. A message that ended in the attempt which the worker had has none.
    """
    recordings = {one.message_id: one.recordings for one in sent}
    found = []
    for kill in kills:
        for message_id, attempt in kill.held.items():
            begun_ms = [
                ts
                for recording in recordings.get(message_id, ())
                if (ts := _first_ts_after(recording.frames, attempt)) is not None and ts >= kill.at_ms
            ]
            if begun_ms:
                found.append((min(begun_ms) - kill.at_ms) / 1000)
    return sorted(found)


def _first_ts_after(frames: Iterable[bytes], attempt: int) -> int | None:
    for frame in frames:
        if events.peek(frame)[1].attempt > attempt:
            return events.decode(frame).ts
    return None


def percentile(values: Sequence[float], share: float) -> float | None:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else None
