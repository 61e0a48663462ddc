"""`chatrelay audit`: whether rows, logs, jobs, ledgers and versions agree, and mending where they do not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer
from rich.table import Table

from ops.surroundings import FOUND, database_errors, print_json, print_table, waiting, whole_settings
from shared import auditing, event_log, keys
from shared.auditing import AuditedMessage, Disagreement, Finding, Patience
from shared.closing import append_ending, close
from shared.doorbell import Doorbell, make_celery
from shared.engine import make_engine
from shared.event_log import NOTHING, EventLog, Stretch
from shared.lifecycle import Role
from shared.settings import Settings
from shared.store import Store
from shared.store.history import HISTORY_REACH

MOST_SHOWN: Final = 100
"""Findings that are told one by one; all are counted."""
LOOKS: Final = 3
"""A row must disagree so many times, read anew each time, before that is believed."""
BETWEEN_LOOKS_S: Final = 0.5
MOST_BELLS_WAITING: Final = 50
"""As for the sweeper: with as many, workers have no room, and nobody rings."""
LEAST_OVERDUE_S: Final = 30.0

Progressed = Callable[[str, int], object]
"""Is told what is being looked at, and how many of it were."""


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an audit came to. `looked_at`, `disagreements`, `repaired` and `left` are counts by kind."""

    began_at: datetime
    looked_at: dict[str, int]
    not_judged: int
    """Rows that changed at every look: nothing is claimed of them."""
    disagreements: dict[str, int]
    repaired: dict[str, int]
    left: dict[str, int]
    findings: list[Finding]
    """The first `MOST_SHOWN`."""


class Auditor:
    """Looks at everything, page by page; memory is bounded by a page. What moves meanwhile gives no false alarm: a message
    that disagrees is read again, and its log is compared only where the row was the same before and after it was read."""

    def __init__(
        self,
        store: Store,
        log: EventLog,
        doorbell: Doorbell,
        read: Settings,
        *,
        bells: EventLog | None = None,
        overdue_s: float | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """`bells`: of the Redis that has them, where it is another one.

        `overdue_s`: for how long what processes should do may stay undone; several leases by default.
        """
        self._store = store
        self._log = log
        self._bells = bells or log
        self._doorbell = doorbell
        self._settings = read
        self._overdue_s = max(LEAST_OVERDUE_S, 4 * read.lease_s) if overdue_s is None else overdue_s
        self._pause = pause
        self._looked_at: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._not_judged = 0

    def run(
        self, *, project_id: UUID | None = None, repair: bool = False, progressed: Progressed = lambda *_: None
    ) -> Report:
        """The whole audit, stored when it is over. Raises `StoreUnavailable`, `LogUnavailable`: nothing is claimed then."""
        began_at = self._store.database_now()
        self._log.ping()
        self._messages(project_id, repair, progressed)
        self._projects(project_id, progressed)
        self._keys(project_id, repair, progressed)
        left = self._found - self._repaired
        self._store.keep_audit(
            project_id=project_id,
            began_at=began_at,
            looked_at=self._looked_at,
            found=self._found,
            repaired=self._repaired,
            disagreements_left=left.total(),
        )
        return Report(
            began_at=began_at,
            looked_at=dict(self._looked_at),
            not_judged=self._not_judged,
            disagreements=dict(self._found),
            repaired=dict(self._repaired),
            left=dict(left),
            findings=self._findings,
        )

    # --- messages ---------------------------------------------------------------------------------------------------

    def _messages(self, project_id: UUID | None, repair: bool, progressed: Progressed) -> None:
        after: UUID | None = None
        while page := self._store.audited_messages(after=after, project_id=project_id):
            after = page[-1].id
            logs = self._log.last_ids([message.id for message in page])
            for message, last in zip(page, logs, strict=True):
                self._looked_at["messages"] += 1
                self._looked_at["logs"] += last is not None
                self._looked_at["rounds"] += len(message.rounds)
                self._looked_at["calls"] += len(message.calls)
                self._looked_at["jobs"] += len(message.jobs)
                entries = self._log.replay(message.id) if last is not None and message.is_final else NOTHING
                if self._compare(message, entries, has_log=last is not None):
                    self._judge(message.id, repair)
            progressed("messages", self._looked_at["messages"])

    def _compare(self, message: AuditedMessage, entries: Stretch, *, has_log: bool) -> list[Finding]:
        expires = not has_log or self._log.expires(message.id)
        return [
            *auditing.compare_message(message, self._patience()),
            *(() if message.role is Role.USER else auditing.compare_log(message, entries, expires=expires)),
        ]

    def _patience(self) -> Patience:
        waiting, builds = (self._bells.bells_waiting(queue) for queue in (keys.INTERACTIVE_QUEUE, keys.BUILDS_QUEUE))
        return Patience(
            overdue_s=self._overdue_s,
            max_tries=self._settings.max_tries,
            workers_have_room=waiting < MOST_BELLS_WAITING,
            builders_have_room=builds < MOST_BELLS_WAITING,
        )

    def _judge(self, message_id: UUID, repair: bool) -> None:
        """What disagrees at every one of `LOOKS`, counted, and mended where that is wanted."""
        findings = self._confirmed(message_id)
        if findings is None:
            self._not_judged += 1
            return
        for finding in findings:
            self._count(finding)
        if not repair:
            return
        for kind in {finding.kind for finding in findings if finding.kind.is_mendable}:
            if self._mend(kind, message_id):
                self._repaired[kind] += sum(finding.kind is kind for finding in findings)

    def _confirmed(self, message_id: UUID) -> list[Finding] | None:
        """None where the row changed at every look."""
        confirmed: list[Finding] | None = None
        for look in range(LOOKS):
            if look:
                self._pause(BETWEEN_LOOKS_S)
            seen = self._seen_at_rest(message_id)
            if seen is None:
                continue
            kinds = {finding.kind for finding in seen}
            confirmed = seen if confirmed is None else [one for one in confirmed if one.kind in kinds]
            if not confirmed:
                return []
        return confirmed

    def _seen_at_rest(self, message_id: UUID) -> list[Finding] | None:
        """One more look; None where the row changed while its log was read."""
        before = self._store.audited_message(message_id)
        if before is None:
            return []
        entries = self._log.replay(message_id)
        after = self._store.audited_message(message_id)
        if after is None:
            return []
        if before.mark != after.mark:
            return None
        return self._compare(after, entries, has_log=bool(entries))

    def _count(self, finding: Finding) -> None:
        self._found[finding.kind] += 1
        if len(self._findings) < MOST_SHOWN:
            self._findings.append(finding)

    # --- mending ----------------------------------------------------------------------------------------------------

    def _mend(self, kind: Disagreement, message_id: UUID) -> bool:
        """Whether it was set right. Safe while the system runs: each step is taken by compare-and-set, or harms nobody."""
        match kind:
            case Disagreement.ENDING_NOT_APPENDED | Disagreement.END_MISSING_IN_LOG:
                ending = self._store.ending_of(message_id)
                if ending is None:
                    return False
                if append_ending(self._store, self._log, ending):
                    return True
                # a log whose end somebody deleted takes no event of the same id again: the row serves its readers
                self._log.forget(message_id)
                return append_ending(self._store, self._log, ending)
            case Disagreement.LOG_BEYOND_END | Disagreement.LOG_CONTRADICTS_ROW | Disagreement.LOG_UNREADABLE:
                self._log.forget(message_id)
                return True
            case Disagreement.LEASE_LAPSED:
                if not self._store.take_lapsed_lease(message_id, overdue_s=self._overdue_s):
                    return False
                self._ring(message_id)
                return True
            case Disagreement.NOT_RUNG:
                return self._ring(message_id)
            case Disagreement.CANCEL_UNANSWERED | Disagreement.TRIES_SPENT | Disagreement.BUILDING_WITHOUT_JOB:
                found = self._store.abandoned(message_id)
                return found is not None and close(self._store, self._log, found) is not None
            case Disagreement.JOB_OPEN:
                return self._store.end_job_with_message(message_id) > 0
            case _:
                return False

    def _ring(self, message_id: UUID) -> bool:
        message = self._store.audited_message(message_id)
        if message is None or not self._store.note_rung(message_id):
            return False
        if message.status == "building":
            return self._doorbell.ring_builder(message_id)
        return self._doorbell.ring(message_id)

    # --- projects and keys ------------------------------------------------------------------------------------------

    def _projects(self, project_id: UUID | None, progressed: Progressed) -> None:
        after: UUID | None = None
        while page := self._store.audited_projects(after=after, project_id=project_id):
            after = page[-1].id
            for project in page:
                self._looked_at["projects"] += 1
                self._looked_at["versions"] += project.stored[0]
                gaps = auditing.compare_numbers(project.id, project.version, project.stored, reach=HISTORY_REACH)
                for finding in gaps or self._versions(project.id):
                    self._count(finding)
            progressed("projects", self._looked_at["projects"])

    def _versions(self, project_id: UUID) -> Iterable[Finding]:
        read = self._store.audited_versions(project_id)
        if read is None:
            return ()
        document, versions = read
        self._looked_at["versionsReplayed"] += len(versions)
        return auditing.compare_versions(project_id, document, versions)

    def _keys(self, project_id: UUID | None, repair: bool, progressed: Progressed) -> None:
        after: tuple[UUID, UUID, str] | None = None
        while True:
            count, wrong, after = self._store.audited_keys(after=after, project_id=project_id)
            self._looked_at["idempotencyKeys"] += count
            for key in wrong:
                self._count(Finding(kind=Disagreement.KEY_ELSEWHERE, id=key[1], detail=f"a key of the user {key[0]}"))
                if repair:
                    self._store.forget_key(key)
                    self._repaired[Disagreement.KEY_ELSEWHERE] += 1
            progressed("idempotency keys", self._looked_at["idempotencyKeys"])
            if after is None:
                return


# --- the command ---------------------------------------------------------------------------------------------------


def audit(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without guessing.")] = False,
    project: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Look at one project alone.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Compare rows, logs, jobs, ledgers and document versions, while everything runs.

    Ends with 0 where nothing disagrees or all was repaired, 3 where disagreements are left.
    """
    read = whole_settings()
    pool = make_engine(read.database_url.get_secret_value(), pool_size=2, application="cli", statement_timeout_s=60.0)
    client, celery = event_log.connect(read.redis_url.get_secret_value()), make_celery(read.bells_url)
    bells = event_log.connect(read.bells_url)
    auditor = Auditor(Store(pool), EventLog(client), Doorbell(celery), read, bells=EventLog(bells))
    try:
        with database_errors(), waiting("reading") as tell:
            report = auditor.run(
                project_id=project,
                repair=repair,
                progressed=lambda what, count: tell(f"{count:,} {what}"),
            )
    finally:
        celery.close()
        bells.close()
        client.close()
        pool.dispose()
    if as_json:
        print_json(report)
    else:
        _print(report, repair=repair)
    if report.left:
        raise typer.Exit(FOUND)


def _print(report: Report, *, repair: bool) -> None:
    looked_at = ", ".join(f"{count:,} {_spaced(name)}" for name, count in report.looked_at.items())
    print(f"looked at: {looked_at or 'nothing, for there is nothing'}")
    if report.not_judged:
        print(f"not judged, for they changed at every look: {report.not_judged:,} messages")
    if not report.disagreements:
        print("disagreements: 0")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("disagreement", "found", "repaired", "left"):
        table.add_column(title, justify="left" if title == "disagreement" else "right")
    for kind, count in sorted(report.disagreements.items()):
        repaired = report.repaired.get(kind, 0)
        table.add_row(kind, f"{count:,}", f"{repaired:,}", f"{count - repaired:,}")
    print_table(table)
    for finding in report.findings:
        print(f"{finding.kind} {finding.id}: {finding.detail}")
    told, total = len(report.findings), sum(report.disagreements.values())
    if told < total:
        print(f"… and {total - told:,} more")
    mendable = sum(count for kind, count in report.left.items() if Disagreement(kind).is_mendable)
    if mendable and not repair:
        print(f"{mendable:,} can be mended: chatrelay audit --repair")


def _spaced(name: str) -> str:
    return {"idempotencyKeys": "idempotency keys", "versionsReplayed": "versions replayed"}.get(name, name)
