"""A bell that the broker does not take is no fault of whoever rings: the row is the queue."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from dev.embedded import EmbeddedValkey
from shared import event_log, keys
from shared.doorbell import Doorbell, make_celery
from tests import rights


@pytest.mark.parametrize("refusal", ["full", "a replica"])
def test_a_broker_that_refuses_to_write_is_away(own_valkey: EmbeddedValkey, refusal: str) -> None:
    """It answers, with an error: its memory is full, or a failover has made it a replica."""
    celery = make_celery(own_valkey.url)
    doorbell = Doorbell(celery)
    client: Any = event_log.connect(rights.as_admin(own_valkey.url))
    assert doorbell.ring(uuid.uuid4())
    if refusal == "full":
        client.config_set("maxmemory", "1")
    else:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert not doorbell.ring(uuid.uuid4())
    assert not doorbell.ring_builder(uuid.uuid4())
    if refusal == "full":
        client.config_set("maxmemory", "0")
    else:
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert doorbell.ring(uuid.uuid4())
    assert client.llen(keys.INTERACTIVE_QUEUE) == 2
    client.close()
    celery.close()
