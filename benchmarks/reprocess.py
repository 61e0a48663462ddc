"""A batch at scale: thousands of messages that failed are answered again at full pace, and every one is accounted for.

python -m benchmarks.reprocess --messages 10000
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from contextlib import ExitStack
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import create_engine, text

from benchmarks.machine import this_machine
from shared.engine import sqlalchemy_url
from tests.people import Person
from tests.stack import Stack, StackStarter

_FAILED: Final = 1
_PROJECTS: Final = 200
_FAILS_AGAIN: Final = 20
"""Every so-manyth message fails again."""
_ALONE: Final = 30
"""Messages of a person that are timed without a batch."""
_LOOK_S: Final = 0.25
_KILLS: Final = 8
"""Kills of a sweeper in one batch, each when as much more has ended as before the one before it."""

_MAKE: Final = """
WITH asked AS (
    INSERT INTO messages (project_id, author_id, role, kind, status, content)
    SELECT (CAST(:projects AS uuid[]))[1 + n % :project_count], :author, 'user', 'message', 'success',
           CASE WHEN n % :fails_again = 0 THEN 'Hopeless' ELSE 'Say it' END
    FROM generate_series(0, :count - 1) AS n
    RETURNING id, project_id
)
INSERT INTO messages (project_id, author_id, role, kind, status, content, error_code, model, reply_to, queue_number,
                      attempt, enqueued_at)
SELECT project_id, :author, 'assistant', 'error', 'error', '', 'provider_unavailable', 'scripted', id, 0, 1, now()
FROM asked
"""


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What came of it. Times are a person's, from the submit to the final answer."""

    messages: int
    succeeded: int
    failed_again: int
    unaccounted: int
    begun_twice: int
    sweepers_killed: int
    seconds: float
    messages_per_s: float
    statements_per_message: float
    alone_p50_ms: float
    meanwhile_p50_ms: float
    meanwhile_p95_ms: float
    meanwhile_count: int
    ratio_p50: float
    load_average: float

    @property
    def is_good(self) -> bool:
        return not self.unaccounted and not self.begun_twice


def main(
    messages: Annotated[int, typer.Option(min=_FAILS_AGAIN, help="That failed.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    kill: Annotated[bool, typer.Option("--kill", help=f"Kill the sweeper {_KILLS} times, and start it again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Answer failed messages again in one batch, on a system of its own. Exits 1 where one is not accounted for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, ExitStack() as exits:
        task = progress.add_task("starting", total=messages)
        starter = exits.enter_context(StackStarter())
        stack = starter(workers=workers, own_postgres=True, own_valkey=True)
        run = _Run(stack, exits.enter_context(Person(stack, scopes=frozenset({"ops"}))), messages, is_cruel=kill)
        figures = run.run(lambda doing, done: progress.update(task, description=doing, completed=done))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    else:
        table = Table(title=f"{this_machine().processor}, {this_machine().cores} cores")
        table.add_column("what")
        table.add_column("came out", justify="right")
        for name, value in msgspec.to_builtins(figures).items():
            table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
        Console().print(table)
    raise typer.Exit(0 if figures.is_good else _FAILED)


class _Run:
    def __init__(self, stack: Stack, person: Person, messages: int, *, is_cruel: bool) -> None:
        self._stack = stack
        self._person = person
        self._messages = messages
        self._is_cruel = is_cruel
        self._killed = 0

    def run(self, show: Any) -> Figures:
        self._prepare()
        show("a person alone", 0)
        alone = [self._asked() for _ in range(_ALONE)]
        meanwhile: list[float] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                meanwhile.append(self._asked())

        before = self._statements()
        began_s = time.monotonic()
        batch_id = self._post("/v1/ops/reprocess", {"status": "error"})["batchId"]
        asking = threading.Thread(target=ask, name="person")
        asking.start()
        try:
            report = self._until_over(batch_id, show)
        finally:
            seconds = time.monotonic() - began_s
            over.set()
            asking.join()
        statements = self._statements() - before
        (rows,) = self._stack.sql(
            "SELECT count(*) FILTER (WHERE status = 'success' AND content = 'Said.') AS good,"
            " count(*) FILTER (WHERE status = 'error' AND error_code = 'refusal') AS bad,"
            " count(*) FILTER (WHERE attempt > 2) AS twice FROM messages WHERE batch_id IS NOT NULL"
        )
        counts = report["counts"]
        agree = (counts["succeeded"], counts["failed"]) == (rows.good, rows.bad)
        p50_alone, p50 = statistics.median(alone), statistics.median(meanwhile)
        return Figures(
            messages=self._messages,
            succeeded=rows.good,
            failed_again=rows.bad,
            unaccounted=self._messages - rows.good - rows.bad if agree else self._messages,
            begun_twice=rows.twice,
            sweepers_killed=self._killed,
            seconds=seconds,
            messages_per_s=self._messages / seconds,
            statements_per_message=statements / self._messages,
            alone_p50_ms=1e3 * p50_alone,
            meanwhile_p50_ms=1e3 * p50,
            meanwhile_p95_ms=1e3 * sorted(meanwhile)[int(0.95 * len(meanwhile))],
            meanwhile_count=len(meanwhile),
            ratio_p50=p50 / p50_alone,
            load_average=os.getloadavg()[0],
        )

    # --- the chapters, in order ----------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Postgres counts statements; thousands of messages have failed; somebody has a project of one's own."""
        stack, model = self._stack, self._stack.model
        assert stack.postgres is not None
        stack.postgres.sql("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        stack.postgres.restart()
        self._write("CREATE EXTENSION pg_stat_statements")
        model.say("Say it", {"text": "Said."})
        model.say("Hopeless", {"refusal": "No."})
        model.say("Hello", {"text": "Hello."})
        self._project = self._person.project()
        author = stack.sql("SELECT id FROM users WHERE name = :name", name=self._person.name)[0].id
        self._write(
            _MAKE,
            projects=[self._person.project() for _ in range(_PROJECTS)],
            project_count=_PROJECTS,
            author=author,
            count=self._messages,
            fails_again=_FAILS_AGAIN,
        )
        self._write("ANALYZE")

    def _until_over(self, batch_id: str, show: Any) -> dict[str, Any]:
        each = self._messages // (_KILLS + 1)
        while True:
            answer = self._person.client.get(f"/v1/ops/batches/{batch_id}")
            report: dict[str, Any] = answer.json()
            if report["endedAt"] is not None:
                return report
            ended = report["counts"]["succeeded"] + report["counts"]["failed"]
            show("reprocessing", ended)
            if self._is_cruel and ended > each * (self._killed + 1):
                self._stack.kill("sweeper")
                self._stack.start_again("sweeper")
                self._killed += 1
            time.sleep(_LOOK_S)

    def _asked(self) -> float:
        """Seconds that a person's message took, in a project that the batch has nothing of."""
        began_s = time.perf_counter()
        answer = self._person.client.post(
            f"/v1/projects/{self._project}/messages", json={"content": "Hello"}, headers={"Prefer": "wait=60"}
        )
        if answer.status_code != 200:
            raise RuntimeError(f"a person's message came to {answer.status_code}: {answer.text}")
        return time.perf_counter() - began_s

    def _statements(self) -> int:
        """What Postgres was asked by the whole system, the person too, without what begins and ends transactions."""
        (row,) = self._stack.sql(
            "SELECT coalesce(sum(calls), 0) AS calls FROM pg_stat_statements"
            " WHERE query !~* '^(begin|commit|rollback|set|show)' AND query !~ 'pg_stat_statements'"
        )
        return int(row.calls)

    def _post(self, path: str, body: Any) -> dict[str, Any]:
        answer = self._person.client.post(path, json=body)
        if answer.status_code != 202:
            raise RuntimeError(f"{path} came to {answer.status_code}: {answer.text}")
        made: dict[str, Any] = answer.json()
        return made

    def _write(self, statement: str, **parameters: object) -> None:
        engine = create_engine(sqlalchemy_url(self._stack.database_url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement), parameters)
        engine.dispose()


if __name__ == "__main__":
    typer.run(main)
