"""Celery as a doorbell: a task carries a message's id and nothing else that matters. A bell lost, doubled or late changes
nothing, since the row is the queue and the sweeper rings again. Its headers tell logs and traces where it was rung, if that
was in a request or a turn of that very message.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.scheduling import priority_cycle
from kombu.utils.url import as_url

from shared import keys, log_context, metrics, redis_address, traces
from shared.redis_address import RedisAddress

RUN_MESSAGE = "chatrelay.run_message"
BUILD_COMPONENT = "chatrelay.build_component"
RUN_BATCH = "chatrelay.run_batch"

_log = logging.getLogger(__name__)


ANSWERED_WITHIN_S = 2.0
"""A broker that takes longer to take a bell is away."""


class InteractiveFirst(priority_cycle):
    """The order in which a worker asks its queues: a batch's bell is heard once no other waits.

    kombu's own order is a round, in which every second bell would be a batch's.
    """

    def consume(self, n: int) -> list[str]:
        return sorted(self.items[:n], key=lambda queue: queue == keys.BATCH_QUEUE)


def make_celery(broker_url: str, name: str = "chatrelay") -> Celery:
    """The Celery application, for whoever rings and whoever answers. Connects at first use. Raises `ValueError`.

    No results, JSON only, acknowledged early: there is nothing to redeliver, no visibility timeout to outlive. Nor are bells
    tracked in Redis while they are on their way to a task: with kombu's tracking, an acknowledgement that is lost takes a
    prefetch slot for ever, and after as many as there are slots a worker that lives hears nothing. A publish is tried once
    and given up in a second or two; the sweeper rings again.
    """
    address = redis_address.parse(broker_url)
    app = Celery(name, broker=_broker(address), set_as_current=False)
    app.conf.update(
        broker_use_ssl=_tls(address),
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        task_publish_retry=False,
        task_default_queue=keys.INTERACTIVE_QUEUE,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_timeout=1,
        broker_pool_limit=32,  # one for each request thread that rings: nobody waits for another's broken connection
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a Redis that refuses to write, being full, ends no worker
        broker_transport_options={
            "queue_order_strategy": InteractiveFirst,
            "ack_emulation": False,
            "socket_timeout": ANSWERED_WITHIN_S,
            "socket_connect_timeout": ANSWERED_WITHIN_S,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "retry_on_timeout": False,
            # else a bell for a broker that refuses connections takes two seconds of its request
            "max_retries": 0,
            **_sentinel_options(address),
        },
    )
    return app


def _broker(address: RedisAddress) -> str:
    """The address as kombu reads it: each Sentinel has one of its own."""
    scheme, hosts = ("sentinel", address.sentinels) if address.sentinels else ("redis", [(address.host, address.port)])
    return ";".join(
        as_url(scheme, host, port, address.username or "", address.password or "", str(address.db))
        for host, port in hosts
    )


def _tls(address: RedisAddress) -> dict[str, Any] | None:
    """Never empty where TLS is asked for: kombu would take that for none."""
    return None if address.tls is None else {"ssl_cert_reqs": "required", **address.tls}


def _sentinel_options(address: RedisAddress) -> dict[str, Any]:
    if not address.sentinels:
        return {}
    asking: dict[str, Any] = {
        "socket_timeout": ANSWERED_WITHIN_S,
        "socket_connect_timeout": ANSWERED_WITHIN_S,
        **address.sentinel_login,
    }
    if (tls := _tls(address)) is not None:
        asking |= {"ssl": True, **tls}
    return {"master_name": address.service, "sentinel_kwargs": asking}


class Doorbell:
    """Rings; never raises for a broker that is away."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def ring(self, message_id: UUID) -> bool:
        """Call a worker. Whether the bell was handed to the broker, as far as one can know."""
        return self._send(RUN_MESSAGE, message_id, keys.INTERACTIVE_QUEUE)

    def ring_for_batch(self, message_id: UUID) -> bool:
        """Call a worker to a message of a batch, as `ring` to another: it takes it as far as it has slots for batches."""
        return self._send(RUN_BATCH, message_id, keys.BATCH_QUEUE)

    def ring_builder(self, message_id: UUID) -> bool:
        """Call a builder, as `ring` does a worker."""
        return self._send(BUILD_COMPONENT, message_id, keys.BUILDS_QUEUE)

    def _send(self, task: str, message_id: UUID, queue: str) -> bool:
        try:
            self._celery.send_task(
                task, args=(str(message_id),), queue=queue, retry=False, headers=_carried(message_id)
            )
        except (OperationalError, OSError):
            metrics.BELLS.add("lost")
            _log.warning("bell not rung for %s: the broker is away", message_id)
            return False
        metrics.BELLS.add("rung")
        return True


REQUEST_ID_HEADER = "chatrelay_request_id"


def _carried(message_id: UUID) -> dict[str, str]:
    """What the present request or turn is called, where it is about this message: another's bell says nothing of it."""
    facts = log_context.facts()
    if facts.get(log_context.MESSAGE_ID) != str(message_id):
        return {}
    request_id = facts.get(log_context.REQUEST_ID)
    return traces.carried() | ({} if request_id is None else {REQUEST_ID_HEADER: str(request_id)})
