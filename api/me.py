"""Who the caller is."""

from __future__ import annotations

import msgspec

from api.calls import Answer, Calls
from api.services import Services
from shared.records import Principal

calls = Calls()


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """A token's subject and what it may do beside its user's projects."""

    user: str
    scopes: list[str]


@calls.add("GET", "/v1/me", answers={200: Me})
def get_me(services: Services, *, principal: Principal) -> Answer:
    """The user and the scopes of the caller's token."""
    return Answer(status=200, body=Me(user=principal.user, scopes=sorted(principal.scopes)))
