"""The worker process: builds the real clients when Celery starts it, and answers bells. Nothing else builds them.

celery --app worker.celery_app:app worker --pool threads ...      answers messages
celery --app worker.celery_app:app worker --pool prefork ...      builds components, in children with clients of their own
"""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from celery import Celery, signals
from celery.worker import state as celery_state

from shared import event_log, exporter, heap, keys, logs, metrics, settings, traces
from shared.doorbell import Doorbell, make_celery
from shared.engine import make_engine
from shared.exporter import Exporter
from shared.store import Store
from worker import tasks
from worker.batches import BatchDriver
from worker.compiler import Compiler
from worker.held import Workshop
from worker.leases import LeaseKeeper
from worker.model import Model
from worker.streams import StreamLoop
from worker.tools import Registry
from worker.watch import Watch

_log = logging.getLogger(__name__)

SQL_CONNECTIONS = 20
"""Threads wait for streams, not for Postgres: a few connections serve them all."""
BATCH_SQL_CONNECTIONS = 5
"""Beside these, for a worker's turns of batches."""
BUILDER_SQL_CONNECTIONS = 2
"""A builder's child does one thing at a time."""


class ParentPipe:
    """Tells a builder's children that their parent is to stop, or is gone. To be made before they are forked."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()

    def drain(self, **_: Any) -> None:
        """In the parent. The byte is never read, so that every child sees it, also one that is forked later."""
        os.write(self._writing, b".")

    def watch(self, on_drain: Callable[[], object]) -> None:
        """In a child: call `on_drain`, on a thread, when the parent drains or dies."""
        os.close(self._writing)

        def wait() -> None:
            select.select([self._reading], [], [])
            on_drain()

        threading.Thread(target=wait, name="parent", daemon=True).start()


def build(read: settings.Settings, celery: Celery, *, sql_connections: int = SQL_CONNECTIONS) -> Workshop:
    """The real clients of one worker process."""
    tools = Registry.installed()
    metrics.know(models=read.models, tools=tools.names)
    database = read.database_url.get_secret_value()
    redis_url = read.redis_url.get_secret_value()
    streams = StreamLoop(
        redis_url=redis_url,
        make_model=lambda: Model(
            api_key=read.openai_api_key.get_secret_value() if read.openai_api_key else "none",
            base_url=read.openai_base_url,
            connect_timeout_s=read.provider_connect_s,
            silence_s=read.provider_silence_s,
        ),
        log_retention_s=read.log_retention_s,
        on_nudge=lambda: leases.nudge(),
    )
    leases = LeaseKeeper(
        Store(
            make_engine(
                database,
                pool_size=1,
                application="leases",
                statement_timeout_s=_renewal_s(read.lease_s, read.heartbeat_s),
            )
        ),
        process=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        lease_s=read.lease_s,
        heartbeat_s=read.heartbeat_s,
        loop_silent_s=lambda: streams.silent_s,
    )
    return Workshop(
        settings=read,
        store=Store(make_engine(database, pool_size=sql_connections, application="worker")),
        log=event_log.EventLog(event_log.connect(redis_url), retention_s=read.log_retention_s),
        doorbell=Doorbell(celery),
        streams=streams,
        leases=leases,
        tools=tools,
    )


def _renewal_s(lease_s: float, heartbeat_s: float) -> float:
    """How long a renewal may take: where its connection is dead, another one renews while the leases last."""
    return max(1.0, (lease_s - heartbeat_s) / 3)


def make_app(environment: Any) -> Celery:
    """Celery with the worker's tasks; its clients are built when the worker is set up, not now."""
    try:
        read = settings.load(environment)
    except settings.InvalidSettings as error:
        print(f"chatrelay worker: the settings are wrong\n{error}", file=sys.stderr)
        raise SystemExit(2) from None
    made = make_celery(read.bells_url)
    tasks.register(made)
    process = "worker"

    def set_up_logs(options: Any = None, **_: Any) -> None:
        """Celery asks for it once a process, and leaves loggers alone where somebody answers."""
        nonlocal process
        if keys.BUILDS_QUEUE in ((options or {}).get("queues") or ()):
            process = "builder"
        logs.configure(process, style=read.log_format, level=read.log_level)
        logs.catch_what_nobody_caught()

    def set_up(instance: Any, **_: Any) -> None:
        queues = set(instance.app.amqp.queues.consume_from)
        if {keys.INTERACTIVE_QUEUE, keys.BATCH_QUEUE} & queues:
            workshop = start(SQL_CONNECTIONS)
            Exporter(workshop.store).serve(read.metrics_port)
            allow_batches(instance.concurrency)
            watch(instance, queues, drain)
        if keys.BUILDS_QUEUE in queues:
            compiler = Compiler.installed()
            parent = ParentPipe()

            def set_up_child(**_: Any) -> None:
                compiler.clear_abandoned()
                tasks.compiler = compiler
                start(BUILDER_SQL_CONNECTIONS)
                parent.watch(drain)

            if read.metrics_port:
                exporter.share()  # before the children are forked: it is they who count
                # after that: no lock of the answering thread's is held by a child for ever
                signals.worker_ready.connect(lambda **_: Exporter().serve(read.metrics_port), weak=False)
                signals.worker_shutdown.connect(lambda **_: exporter.unshare(), weak=False)
            signals.worker_process_init.connect(set_up_child, weak=False)
            signals.worker_shutting_down.connect(parent.drain, weak=False)
            watch(instance, queues, parent.drain)

    def allow_batches(concurrency: int) -> None:
        slots = tasks.slots_for_batches(concurrency, read.batch_share)
        if not slots:
            _log.warning("a worker with one slot takes no messages of batches: it is left to people")
        assert tasks.workshop is not None
        database = read.database_url.get_secret_value()
        own = Store(make_engine(database, pool_size=BATCH_SQL_CONNECTIONS, application="batches"))
        clients = msgspec.structs.replace(tasks.workshop, store=own)
        driver = BatchDriver(own, clients.log, clients.doorbell, read)
        tasks.batch_slots = tasks.BatchSlots(free=threading.Semaphore(slots), workshop=clients, driver=driver)

    def watch(instance: Any, queues: set[str], drain: Callable[[], object]) -> None:
        """Begins once bells are listened for. Celery's own counters say what it hears."""
        watch = Watch(
            event_log.EventLog(event_log.connect(read.bells_url)),
            sorted(queues),
            deaf_s=read.deaf_s,
            drain_s=read.drain_s,
            answered=lambda: int(celery_state.all_total_count[0]),
            has_room=lambda: len(celery_state.active_requests) < instance.concurrency,
            drain=drain,
            held=lambda: 0 if tasks.workshop is None else tasks.workshop.leases.count,
        )
        signals.worker_ready.connect(lambda **_: watch.start(), weak=False)
        signals.worker_shutting_down.connect(lambda **_: watch.stop(), weak=False)

    def start(sql_connections: int) -> Workshop:
        traces.start(process, environment, wanted=read.traces)
        workshop = build(read, made, sql_connections=sql_connections)
        tasks.workshop = workshop
        workshop.streams.start()
        workshop.leases.start()
        return workshop

    def drain(**_: Any) -> None:
        if tasks.workshop is not None:
            tasks.workshop.leases.drain()

    def shut_down(**_: Any) -> None:
        if tasks.workshop is not None:
            tasks.workshop.leases.stop()
            tasks.workshop.streams.stop()
        traces.stop()

    signals.celeryd_init.connect(set_up_logs, weak=False)  # before Celery warns of anything
    signals.setup_logging.connect(set_up_logs, weak=False)
    signals.celeryd_after_setup.connect(set_up, weak=False)
    signals.worker_ready.connect(lambda **_: heap.settle(), weak=False)
    signals.worker_shutting_down.connect(drain, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
    signals.worker_process_shutdown.connect(shut_down, weak=False)
    return made


app = make_app(os.environ)
