"""The application under test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from api import announcing
from api.app import create_app
from api.identity_provider import IdentityProvider
from api.relay import Relay
from dev.scripted_model import control
from dev.scripted_model.control import ScriptedModel
from shared import event_log
from shared.doorbell import Doorbell, make_celery
from shared.event_log import EventLog
from shared.records import Principal
from shared.settings import Settings
from shared.store import Store
from tests import rights
from tests.integration.api_parts import Api, serving
from tests.integration.worker_parts import Bench, opened_bench


@pytest.fixture
def api(settings: Settings, store: Store, log: EventLog) -> Iterator[Api]:
    """The API on real clients; no worker runs."""
    with ExitStack() as ending:

        def new_app(**changes: Any) -> Flask:
            changed = settings.model_copy(update=changes)
            redis_url = rights.as_web(changed.redis_url.get_secret_value())
            client, celery = event_log.connect(redis_url), make_celery(redis_url)
            ending.callback(client.close)
            ending.callback(celery.close)
            own_log, doorbell = EventLog(client), Doorbell(celery)

            def on_cancel(message_id: UUID, user_id: UUID) -> None:
                principal = Principal(user_id=user_id, user="", scopes=frozenset())
                announcing.cancel(store, own_log, doorbell, principal, message_id)

            relay = Relay(redis_url=redis_url, log=own_log, rows=store, settings=changed, on_cancel=on_cancel)
            ending.callback(relay.stop, 1.0)
            return create_app(changed, store, own_log, doorbell, relay, provider=IdentityProvider.of(changed))

        yield Api(app=new_app(), store=store, log=log, settings=settings, new_app=new_app)


@pytest.fixture
def served(api: Api) -> Iterator[str]:
    """The address, ``127.0.0.1:<port>``, of a server that serves the API and gives its connections away."""
    with serving(api.app) as address:
        yield address


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedModel]:
    with control.running(pace="full") as model:
        yield model


@pytest.fixture
def bench(database_url: str, redis_url: str, scripted: ScriptedModel) -> Iterator[Bench]:
    """What a worker works with; no other process runs. The model knows no script."""
    with opened_bench(database_url=database_url, redis_url=redis_url, model=scripted) as made:
        yield made
