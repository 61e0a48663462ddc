"""A worker that lives and hears no bells any more hands back what it holds and ends, to be started again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.child import Child, Command
from dev.procfile import ROOT, procfile_command
from tests.integration.worker_parts import PATIENCE_S, Bench
from worker.watch import EXIT_CODE


@contextmanager
def stuck_worker(bench: Bench, database_url: str, **settings: str) -> Iterator[Child]:
    """The Procfile's worker with `stuck_worker` around it."""
    *shell, line = procfile_command("worker")
    programs = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CHATRELAY_", "OPENAI_"))},
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url,
        "REDIS_URL": bench.redis_url,
        "OPENAI_API_KEY": "scripted",
        "OPENAI_BASE_URL": bench.model.base_url,
        **settings,
    }
    argv = [*shell, line.replace("worker.celery_app:app", "tests.integration.stuck_worker:app")]
    child = Child("worker", Command(argv=argv, env=environment, cwd=ROOT))
    try:
        child.wait_for(r" ready\.", timeout_s=PATIENCE_S)
        yield child
    finally:
        child.kill()


def test_a_worker_that_hears_no_bells_hands_back_what_it_holds_and_ends(bench: Bench, database_url: str) -> None:
    """It streams one answer while its consumer is stuck; a second one's bell waits in vain."""
    bench.model.say("held", {"text": "Begun"}, {"stall": True})
    held = bench.ask("held")
    with stuck_worker(bench, database_url, CHATRELAY_DEAF_S="1") as worker:
        bench.doorbell.ring(held)
        bench.model.wait_requests(1)
        worker.send(signal.SIGUSR2)
        waits = bench.ask("waits", project_id=bench.new_project())
        for _ in range(3):  # as the sweeper does: the first is still handed to the consumer
            bench.doorbell.ring(waits)
        assert worker.wait(PATIENCE_S) == EXIT_CODE
        assert worker.says("hears none of them"), worker.output
    assert [bench.column(held, name) for name in ("status", "lease_owner", "tries")] == ["pending", None, 0]
