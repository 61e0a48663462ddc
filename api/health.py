"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

import logging
from typing import Literal

import msgspec

from api.calls import Access, Answer, Calls
from api.services import Probe, Services

calls = Calls()

_log = logging.getLogger(__name__)


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """`checks`: what each part came to, in a few words."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


@calls.add("GET", "/healthz", access=Access.ANYBODY, answers={200: Alive})
def healthz(services: Services) -> Answer:
    """Whether the process answers."""
    return Answer(status=200, body=Alive())


@calls.add("GET", "/readyz", access=Access.ANYBODY, answers={200: Readiness, 503: Readiness})
def readyz(services: Services) -> Answer:
    """Whether Postgres, Redis and the migrations are as they must be; how workers and sweepers do is told beside it."""
    looks = [_look(probe) for probe in services.probes]
    checks = dict(zip((probe.name for probe in services.probes), (words for _, words in looks), strict=True))
    if all(fine for fine, _ in looks):
        return Answer(status=200, body=Readiness(status="ready", checks=checks))
    return Answer(status=503, body=Readiness(status="not ready", checks=checks))


def _look(probe: Probe) -> tuple[bool, str]:
    try:
        return True, probe.look()
    except probe.failures as error:
        _log.warning("%s is not ready: %s", probe.name, error)
        return False, "unreachable"
