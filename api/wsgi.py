"""What gunicorn serves: the API on real clients. Nothing else in `api` makes one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from flask import Flask

from api import announcing
from api.app import create_app
from api.rates import InRedis
from api.relay import DATABASE_THREADS, Relay
from api.services import Probe
from shared import engine, event_log, metrics, migrate, traces
from shared.doorbell import Doorbell, make_celery
from shared.errors import LogUnavailable, StoreUnavailable
from shared.event_log import EventLog
from shared.records import Principal
from shared.settings import InvalidSettings, Settings, load
from shared.store import Store

if TYPE_CHECKING:
    from api.identity_provider import IdentityProvider

_LATE_S = 30.0
"""A message that waits longer, though it is its turn, has no worker. That is told, and takes no API process away."""
_SWEEPER_LATE_S = 10.0
"""Sweepers that were silent for longer are told as late, as workers are."""


def build(environment: Mapping[str, str]) -> Flask:
    """The API as `environment` says. Raises `SystemExit` with every wrong setting; connects at first use."""
    try:
        settings = load(environment)
    except InvalidSettings as error:
        raise SystemExit(f"chatrelay: the settings are not valid\n{error}") from None
    traces.start("web", environment, wanted=settings.traces)
    return _build(settings)


def _build(settings: Settings) -> Flask:
    metrics.know(models=settings.models)
    pool = engine.make_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.api_threads + DATABASE_THREADS,
        application="api",
    )
    redis_url = settings.redis_url.get_secret_value()
    log = EventLog(event_log.connect(redis_url), retention_s=settings.log_retention_s)
    store = Store(pool)
    doorbell = Doorbell(make_celery(settings.bells_url))

    def on_cancel(message_id: UUID, user_id: UUID) -> None:
        principal = Principal(user_id=user_id, user="", scopes=frozenset())
        announcing.cancel(store, log, doorbell, principal, message_id)

    provider = _provider(settings)

    def migrations() -> str:
        if not migrate.is_current(pool):
            raise _NotMigrated("not at the newest revision")
        return "ok"

    def redis_answers() -> str:
        log.ping()
        return "ok"

    def workers() -> str:
        waited_s = store.longest_wait_s()
        return "ok" if waited_s < _LATE_S else f"late: a message has waited for {waited_s:.0f} s"

    def sweepers() -> str:
        silent_s = store.sweepers_silent_s()
        if silent_s is None:
            return "late: none has come round yet"
        most_s = max(_SWEEPER_LATE_S, 5 * settings.sweep_s)
        return "ok" if silent_s < most_s else f"late: none has come round for {silent_s:.0f} s"

    return create_app(
        settings,
        store,
        log,
        doorbell,
        Relay(redis_url=redis_url, log=log, rows=store, settings=settings, on_cancel=on_cancel),
        shared_rates=InRedis(redis_url),
        probes=(
            Probe(name="migrations", look=migrations, failures=(StoreUnavailable, _NotMigrated)),
            Probe(name="redis", look=redis_answers, failures=(LogUnavailable,)),
            Probe(name="workers", look=workers, failures=(StoreUnavailable,)),
            Probe(name="sweepers", look=sweepers, failures=(StoreUnavailable,)),
            *(() if provider is None else (Probe(name="identity provider", look=provider.keys.state, failures=()),)),
        ),
        provider=provider,
    )


def _provider(settings: Settings) -> IdentityProvider | None:
    if settings.jwt_issuer is None:
        return None
    from api.identity_provider import IdentityProvider  # what it stands on takes 20 MB, and most name none

    return IdentityProvider.of(settings)


class _NotMigrated(Exception):
    """The database stands at another revision."""


app = build(os.environ)
