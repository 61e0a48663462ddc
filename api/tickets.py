"""Tickets: what a browser, which can set no header on a socket, puts into a stream's address."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

import msgspec

from api import requests
from api.auth import Caller
from api.calls import Answer, Calls
from api.services import Services
from shared import errors

calls = Calls()

_STREAM: Final = re.compile(r"/v1/messages/([^/]+)/(socket|events)")


class NewTicket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` is that of a socket or of events, without a query."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Ticket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    ticket: str
    expires_at: datetime


@calls.add("POST", "/v1/tickets", body=NewTicket, answers={201: Ticket}, refusals=(errors.NotFound,))
def create_ticket(services: Services, *, principal: Caller, body: NewTicket) -> Answer:
    """A ticket for one stream: on a socket once within 30 seconds, on events as often as needed for 10 minutes."""
    if (match := _STREAM.fullmatch(body.path)) is None:
        raise errors.NotFound
    message_id, stream = requests.path_id(match[1]), match[2]
    services.store.message_for_reader(principal, message_id)
    ticket, expires_at = services.store.create_ticket(
        principal,
        principal.token_sha256,
        f"/v1/messages/{message_id}/{stream}",
        single_use=stream == "socket",
    )
    return Answer(status=201, body=Ticket(ticket=ticket, expires_at=expires_at))
