"""What the worker's tests stand on: a project on a real Postgres and Valkey, workers in this process, a scripted model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from uuid import UUID

import pytest
import redis
from sqlalchemy import Engine, text

from api import announcing
from dev.scripted_model.control import ScriptedModel
from shared import event_log, events, keys
from shared import settings as settings_module
from shared.doorbell import Doorbell, make_celery
from shared.engine import make_engine
from shared.event_log import EventLog
from shared.events import StreamEvent
from shared.lifecycle import OnBusy
from shared.patching import PatchLimits
from shared.records import JsonValue, Message, Principal
from shared.settings import Settings
from shared.store import Store, SubmitLimits
from tests import rights
from tests.trace_checker import check_trace
from worker.held import Workshop
from worker.turn import run_turn

PATIENCE_S: Final = 60.0
"""How long a test waits for what must come."""

QUICK: Final = {"CHATRELAY_RETRY_FIRST_S": 0.01, "CHATRELAY_RETRY_MOST_S": 0.05}


def eventually(holds: Callable[[], bool]) -> None:
    """Until `holds`, for what sends no signal."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("it never came to hold")


class Running:
    """A turn on a thread of its own."""

    def __init__(self, workshop: Workshop, message_id: UUID) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, args=(workshop, message_id), name="turn")
        self._thread.start()

    def _main(self, workshop: Workshop, message_id: UUID) -> None:
        try:
            run_turn(workshop, message_id)
        except BaseException as error:
            self._error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        """Until the turn is over; raises what it raised."""
        self._thread.join(PATIENCE_S)
        assert self.is_over, "the turn does not end"
        if self._error is not None:
            raise self._error


class Listener:
    """One message's channel, from before its first event: what a live reader is sent."""

    def __init__(self, url: str, channel: str) -> None:
        self._client = event_log.connect(url)
        self._pubsub: Any = self._client.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
        self._pubsub.subscribe(channel)
        assert self._pubsub.get_message(timeout=PATIENCE_S) is not None
        self.heard: list[bytes] = []

    def until(self, wanted: Callable[[bytes], bool]) -> bytes:
        """The next payload that is wanted; all before it are kept as well."""
        while True:
            message = self._pubsub.get_message(timeout=PATIENCE_S)
            assert message is not None, f"it never came; heard: {self.heard}"
            if message["type"] != "message":
                continue
            self.heard.append(message["data"])
            if wanted(message["data"]):
                return self.heard[-1]

    def until_kind(self, kind: str) -> StreamEvent:
        return events.decode(self.until(lambda payload: events.peek(payload)[0] == kind))

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


class Bench:
    """One user, one project, and as many workers as a test wants."""

    def __init__(self, *, database_url: str, redis_url: str, model: ScriptedModel, endings: ExitStack) -> None:
        self.redis_url = redis_url
        self.model = model
        self._database_url = database_url
        self._endings = endings
        self.engine: Engine = make_engine(database_url, pool_size=8, application="test")
        endings.callback(self.engine.dispose)
        self.store = Store(self.engine)
        self.client: redis.Redis = event_log.connect(rights.as_admin(redis_url))
        """The test's own look at Redis."""
        own_client = event_log.connect(redis_url)
        for client in (self.client, own_client):
            endings.callback(client.close)
        self.log = EventLog(own_client)
        celery = make_celery(redis_url)
        endings.callback(celery.close)
        self.doorbell = Doorbell(celery)
        token, _ = self.store.create_token("anna")
        known = self.store.authenticate(token)
        assert known is not None
        self.anna: Principal = known[0]
        self.project_id = self.new_project()

    # --- before -------------------------------------------------------------------------------------------------

    def new_project(self, document: JsonValue = None, schema: JsonValue = None) -> UUID:
        document = {"title": "Spring", "items": []} if document is None else document
        return self.store.create_project(self.anna, "A project", document, schema, PatchLimits()).id

    def settings(self, *, model_url: str | None = None, **changed: object) -> Settings:
        """`changed`: settings by their names without the prefix, in any case."""
        environment: Mapping[str, object] = {
            "DATABASE_URL": self._database_url,
            "REDIS_URL": self.redis_url,
            "OPENAI_API_KEY": "scripted",
            "OPENAI_BASE_URL": model_url or self.model.base_url,
            **QUICK,
            **{f"CHATRELAY_{name.upper()}": value for name, value in changed.items()},
        }
        return settings_module.load({name: str(value) for name, value in environment.items()})

    def workshop(self, *, model_url: str | None = None, **changed: object) -> Workshop:
        """A worker of this process, as Celery's set-up makes it; gone at the test's end."""
        read = self.settings(model_url=model_url, **changed)
        celery = make_celery(self.redis_url)
        self._endings.callback(celery.close)
        made: Workshop = _build()(read, celery)
        self._endings.callback(made.store.close)
        made.streams.start()
        self._endings.callback(made.streams.stop)
        made.leases.start()
        self._endings.callback(made.leases.stop)
        return made

    def ask(self, content: str = "go", *, project_id: UUID | None = None, on_busy: OnBusy = OnBusy.QUEUE) -> UUID:
        """The pending assistant message of a new question."""
        pair = self.store.submit(
            self.anna,
            project_id or self.project_id,
            content,
            model="scripted",
            on_busy=on_busy,
            limits=SubmitLimits(max_unfinished=20, max_tokens_per_day=None),
        )
        return pair.assistant_message.id

    def retry(self, message_id: UUID) -> None:
        self.store.retry(self.anna, message_id, SubmitLimits(max_unfinished=20, max_tokens_per_day=None))

    def listen(self, message_id: UUID) -> Listener:
        listener = Listener(self.redis_url, keys.message_channel(message_id))
        self._endings.callback(listener.close)
        return listener

    def listen_to_project(self) -> Listener:
        listener = Listener(self.redis_url, keys.project_channel(self.project_id))
        self._endings.callback(listener.close)
        return listener

    # --- meanwhile ----------------------------------------------------------------------------------------------

    def start(self, workshop: Workshop, message_id: UUID) -> Running:
        return Running(workshop, message_id)

    def cancel(self, message_id: UUID) -> None:
        announcing.cancel(self.store, self.log, self.doorbell, self.anna, message_id)

    def edit(self, *operations: JsonValue) -> None:
        self.store.patch_document(self.anna, self.project_id, list(operations), PatchLimits())

    def sql(self, statement: str, **parameters: object) -> Any:
        """The first column of the first row, where there is one."""
        with self.engine.begin() as connection:
            done = connection.execute(text(statement), parameters)
            return done.scalar() if done.returns_rows else None

    def lose_lease(self, message_id: UUID) -> None:
        """The holder's lease is over, by the database's clock, and is taken away."""
        self.sql("UPDATE messages SET lease_until = now() - interval '1 s' WHERE id = :id", id=message_id)
        assert [lapsed.message_id for lapsed in self.store.take_lapsed(limit=10)] == [message_id]

    # --- after --------------------------------------------------------------------------------------------------

    def row(self, message_id: UUID) -> Message:
        return self.store.message(self.anna, message_id)

    def column(self, message_id: UUID, name: str) -> Any:
        return self.sql(f"SELECT {name} FROM messages WHERE id = :id", id=message_id)

    def document(self) -> JsonValue:
        return self.store.project(self.anna, self.project_id).document

    def versions(self) -> int:
        return self.store.project(self.anna, self.project_id).version

    def events(self, message_id: UUID) -> list[StreamEvent]:
        """The message's whole log, all its attempts."""
        entries: Any = self.client.xrange(keys.log(message_id))
        return [events.decode(fields[keys.LOG_FIELD.encode()]) for _, fields in entries]

    def check(self, message_id: UUID) -> tuple[Message, list[str]]:
        """The final row, which the whole log must tell; and the log's events by their types."""
        row, log = self.row(message_id), self.events(message_id)
        check_trace(log, row=row)
        return row, [events.peek(events.encode(event))[0] for event in log]

    def bells(self) -> int:
        """Rung and not answered."""
        return self.log.bells_waiting(keys.INTERACTIVE_QUEUE)


@contextmanager
def opened_bench(*, database_url: str, redis_url: str, model: ScriptedModel) -> Iterator[Bench]:
    model.reset()
    with ExitStack() as endings:
        yield Bench(database_url=database_url, redis_url=redis_url, model=model, endings=endings)


def _build() -> Callable[..., Workshop]:
    """The entry point's builder. Importing the entry point reads the environment, as Celery has it do."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        environment.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        from worker import celery_app
    return celery_app.build
