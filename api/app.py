"""The Flask application: the calls on their addresses, errors as problems, headers on every answer."""

from __future__ import annotations

from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final, NoReturn

from flask import Flask

from api import (
    access_log,
    batches,
    clients,
    docs,
    errors,
    gate,
    health,
    history,
    jobs,
    me,
    members,
    messages,
    metrics,
    operators,
    origins,
    page,
    previews,
    projects,
    protocols,
    streams,
    throttle,
    tickets,
)
from api.auth import Authenticator
from api.calls import Call
from api.figures import Figures
from api.handover import SOCK_SERVER_OPTIONS, HandoverSock
from api.rates import Rates, Shared
from api.refusals import UpgradeRequired
from api.relay import Relay
from api.services import Probe, Services
from shared.doorbell import Doorbell
from shared.errors import StoreUnavailable
from shared.event_log import EventLog
from shared.exporter import Exporter
from shared.settings import Settings
from shared.store import Store

if TYPE_CHECKING:
    from api.identity_provider import IdentityProvider

EXTENSION: Final = "chatrelay"
"""Where `create_app` leaves the `Services` in `app.extensions`."""

CALLS: Final[tuple[Call, ...]] = (
    *me.calls,
    *projects.calls,
    *history.calls,
    *members.calls,
    *messages.calls,
    *jobs.calls,
    *previews.calls,
    *streams.calls,
    *tickets.calls,
    *batches.calls,
    *operators.calls,
    *health.calls,
    *metrics.calls,
    *page.calls,
    *clients.calls,
    *protocols.DOCUMENTED,
)
"""What the OpenAPI document tells."""
ROUTES: Final[tuple[Call, ...]] = (*CALLS, *protocols.CALLS)
"""Every call that there is."""

_HERE: Final = Path(__file__).parent
_VENDORED_MAX_AGE_S: Final = 86_400


def create_app(
    settings: Settings,
    store: Store,
    log: EventLog,
    doorbell: Doorbell,
    relay: Relay,
    probes: tuple[Probe, ...] = (),
    provider: IdentityProvider | None = None,
    shared_rates: Shared | None = None,
) -> Flask:
    """The API on these clients. `probes` are what `/readyz` looks at beside Postgres; `provider` is whose JWTs are good.

    Without `shared_rates` this process counts requests alone.
    """
    services = Services(
        settings=settings,
        store=store,
        authenticator=Authenticator(store=store, provider=provider),
        log=log,
        doorbell=doorbell,
        relay=relay,
        exporter=Exporter(store),
        probes=(Probe(name="postgres", look=lambda: _ping(store), failures=(StoreUnavailable,)), *probes),
        figures=Figures(store.summary),
        rates=Rates(throttle.limits(settings), shared_rates),
        waiting=BoundedSemaphore(settings.api_threads // 2),
    )
    app = _App("api", root_path=str(_HERE), static_folder="static", template_folder="templates")
    app.extensions[EXTENSION] = services
    app.config["SOCK_SERVER_OPTIONS"] = SOCK_SERVER_OPTIONS
    app.url_map.merge_slashes = False
    access_log.install(app)
    errors.install(app)
    gate.install(app, settings, services.rates, ROUTES)
    origins.install(app, settings, ROUTES)
    docs.install(app, CALLS)
    sock = HandoverSock(app)
    for call in ROUTES:
        if call.is_socket:
            sock.route(call.rule, endpoint=call.name)(call.view(services))
            app.add_url_rule(call.rule, f"{call.name}_without_upgrade", _upgrade_required, methods=[call.method])
        else:
            app.add_url_rule(call.rule, call.name, call.view(services), methods=[call.method])
    return app


class _App(Flask):
    def get_send_file_max_age(self, filename: str | None) -> int | None:
        """Vendored files change with a release only; the rest is asked for each time and answered by its ETag."""
        return _VENDORED_MAX_AGE_S if filename is not None and filename.startswith("vendor/") else None


def _ping(store: Store) -> str:
    store.ping()
    return "ok"


def _upgrade_required(**_: str) -> NoReturn:
    raise UpgradeRequired
