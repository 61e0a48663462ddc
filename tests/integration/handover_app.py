"""An application of nothing but readers, served by real servers in the tests of the handover.

Every message exists, is unfinished, and may be read by anybody; `/refused` refuses before the handshake.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import Flask, Response, abort, request

from api.handover import SOCK_SERVER_OPTIONS, HandedOver, HandoverSock, take_socket
from api.relay import Admission, MessageTarget, Relay
from shared import event_log, settings
from shared.event_log import EventLog
from shared.events import EventId
from shared.lifecycle import MessageStatus
from shared.records import ProjectNews, ProjectState, ReaderRow, Since


class EveryRow:
    def project_states(self, project_ids: Collection[UUID]) -> dict[UUID, ProjectState]:
        return {}

    def project_news(self, project_id: UUID, since: Since | None, job_ids: Collection[UUID] = ()) -> ProjectNews | None:
        return None

    def members_among(self, pairs: Collection[tuple[UUID, UUID]]) -> frozenset[tuple[UUID, UUID]]:
        return frozenset(pairs)

    def dead_tokens(self, digests: Collection[bytes]) -> frozenset[bytes]:
        return frozenset()

    def reader_rows(self, message_ids: Sequence[UUID]) -> dict[UUID, ReaderRow]:
        return {
            message_id: ReaderRow(
                message_id=message_id,
                project_id=message_id,
                status=MessageStatus.PENDING,
                attempt=1,
                last_event_id=None,
                content="",
                tool_calls=(),
                ending=(),
            )
            for message_id in message_ids
        }


@dataclass(frozen=True)
class Reader:
    relay: Relay
    target: MessageTarget
    admission: Admission

    def adopt(self, sock: socket.socket) -> None:
        self.relay.adopt_socket(sock, self.target, self.admission)

    def turn_away(self) -> None:
        self.admission.release()


worker: Any = None
"""The gunicorn worker that serves; set by the server's configuration."""


def create_app() -> Flask:
    url = os.environ["REDIS_URL"]
    made = settings.load({"DATABASE_URL": "postgresql://nowhere/none", "REDIS_URL": url})
    relay = Relay(
        redis_url=url,
        log=EventLog(event_log.connect(url)),
        rows=EveryRow(),
        settings=made,
        on_cancel=lambda message_id, user_id: None,
    )
    app = Flask(__name__)
    app.config["SOCK_SERVER_OPTIONS"] = SOCK_SERVER_OPTIONS
    app.extensions["relay"] = relay
    sock = HandoverSock(app)

    def reader(message_id: UUID) -> Reader:
        after = request.args.get("after")
        target = MessageTarget(
            message_id=message_id,
            project_id=message_id,
            user_id=message_id,
            after=EventId.parse(after) if after else None,
        )
        return Reader(relay, target, relay.admit(message_id))

    @sock.route("/<uuid:message_id>/socket")
    def message_socket(message_id: UUID) -> Reader:
        return reader(message_id)

    @sock.route("/refused")
    def refused() -> Reader:
        abort(401)

    @app.get("/<uuid:message_id>/events")
    def message_events(message_id: UUID) -> Response:
        made = reader(message_id)
        taken = take_socket(request.environ)
        assert taken is not None
        relay.adopt_sse(taken, made.target, made.admission, headers=[("X-Content-Type-Options", "nosniff")])
        return HandedOver()

    @app.get("/counts")
    def counts() -> dict[str, int]:
        return {
            "readers": relay.readers,
            "connections": worker.nr_conns if worker else 0,
            "kept_alive": len(worker.keepalived_conns) if worker else 0,
        }

    return app
