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
from shared.lifecycle import Scope

calls = Calls()

_STREAM: Final = re.compile(r"/v1/messages/([^/]+)/(socket|events)")
_OF_PROJECT: Final = re.compile(r"/v1/projects/([^/]+)/(socket|events|preview)")
_OF_CHAT: Final = re.compile(r"/v1/ai/chat/([^/]+)/socket")
_OF_OPERATORS: Final = re.compile(r"/v1/ops/(socket|events)")
_OF_JOB: Final = re.compile(r"/v1/jobs/([^/]+)/(bundle\.js|preview)")


class NewTicket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` is that of a socket, of events, of a bundle or of a preview, without a query."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Ticket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    ticket: str
    expires_at: datetime


@calls.add("POST", "/v1/tickets", body=NewTicket, answers={201: Ticket}, refusals=(errors.NotFound,))
def create_ticket(services: Services, *, principal: Caller, body: NewTicket) -> Answer:
    """A ticket for one address: on a socket once within 30 seconds, on events, a bundle or a preview for 10 minutes."""
    path, single_use = _allowed(services, principal, body.path)
    ticket, expires_at = services.store.create_ticket(principal, principal.token_sha256, path, single_use=single_use)
    return Answer(status=201, body=Ticket(ticket=ticket, expires_at=expires_at))


def _allowed(services: Services, principal: Caller, path: str) -> tuple[str, bool]:
    """The path, written in one way, and whether its ticket is good for once only. Raises `NotFound`."""
    if match := _STREAM.fullmatch(path):
        message_id, stream = requests.path_id(match[1]), match[2]
        services.store.message_for_reader(principal, message_id)
        return f"/v1/messages/{message_id}/{stream}", stream == "socket"
    if match := _OF_JOB.fullmatch(path):
        job_id = requests.path_id(match[1])
        services.store.job(principal, job_id)
        return f"/v1/jobs/{job_id}/{match[2]}", False
    if match := _OF_PROJECT.fullmatch(path):
        project_id, kind = requests.path_id(match[1]), match[2]
        services.store.project_for_reader(principal, project_id)
        return f"/v1/projects/{project_id}/{kind}", kind == "socket"
    if match := _OF_CHAT.fullmatch(path):
        project_id = requests.path_id(match[1])
        services.store.project_for_reader(principal, project_id)
        return f"/v1/ai/chat/{project_id}/socket", True
    if (match := _OF_OPERATORS.fullmatch(path)) and Scope.OPS in principal.scopes:
        return path, match[1] == "socket"
    raise errors.NotFound
