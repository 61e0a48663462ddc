"""The worker process: builds the real clients when Celery starts it, and answers bells. Nothing else builds them.

celery --app worker.celery_app:app worker --pool threads ...
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from typing import Any

from celery import Celery, signals

from shared import event_log, keys, settings
from shared.doorbell import Doorbell, make_celery
from shared.engine import make_engine
from shared.store import Store
from worker import tasks
from worker.leases import LeaseKeeper
from worker.model import Model
from worker.streams import StreamLoop
from worker.tools import Registry
from worker.turn import Workshop

SQL_CONNECTIONS = 20
"""Threads wait for streams, not for Postgres: a few connections serve them all."""


def build(read: settings.Settings, celery: Celery) -> Workshop:
    """The real clients of one worker process."""
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
        Store(make_engine(database, pool_size=1, application="leases")),
        owner=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        lease_s=read.lease_s,
        heartbeat_s=read.heartbeat_s,
        loop_silent_s=lambda: streams.silent_s,
    )
    return Workshop(
        settings=read,
        store=Store(make_engine(database, pool_size=SQL_CONNECTIONS, application="worker")),
        log=event_log.EventLog(event_log.connect(redis_url), retention_s=read.log_retention_s),
        doorbell=Doorbell(celery),
        streams=streams,
        leases=leases,
        tools=Registry.installed(),
    )


def make_app(environment: Any) -> Celery:
    """Celery with the worker's tasks; its clients are built when the worker is set up, not now."""
    try:
        read = settings.load(environment)
    except settings.InvalidSettings as error:
        print(f"chatrelay worker: the settings are wrong\n{error}", file=sys.stderr)
        raise SystemExit(2) from None
    made = make_celery(read.redis_url.get_secret_value())
    tasks.register(made)

    def set_up(instance: Any, **_: Any) -> None:
        if not {keys.INTERACTIVE_QUEUE, keys.BATCH_QUEUE} & set(instance.app.amqp.queues.consume_from):
            return
        workshop = build(read, made)
        tasks.workshop = workshop
        workshop.streams.start()
        workshop.leases.start()

    def drain(**_: Any) -> None:
        if tasks.workshop is not None:
            tasks.workshop.leases.drain()

    def shut_down(**_: Any) -> None:
        if tasks.workshop is not None:
            tasks.workshop.leases.stop()
            tasks.workshop.streams.stop()

    signals.celeryd_after_setup.connect(set_up, weak=False)
    signals.worker_shutting_down.connect(drain, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
    return made


app = make_app(os.environ)
