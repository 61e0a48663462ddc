"""What the store's tests stand on: somebody with a project, messages in it, and threads that do something at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Engine, text

from shared.events import EventId, Usage
from shared.lifecycle import OnBusy
from shared.outcomes import Outcome, Succeeded
from shared.patching import PatchLimits
from shared.records import Claim, Ending, JsonValue, Lease, Principal, StoredCall, StoredRound, Submitted
from shared.store import EditDocument, Idempotency, Store, SubmitLimits

LIMITS: Final = SubmitLimits(max_unfinished=10_000, max_tokens_per_day=None)
PATCH_LIMITS: Final = PatchLimits()
MAX_TRIES: Final = 3
LEASE_S: Final = 60.0
USAGE: Final = Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)
T = TypeVar("T")


class Scene:
    """Somebody with a project; every shortcut is one call of the store."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self.store = store
        self.engine = engine
        self.principal = self.newcomer()
        self.project_id = self.new_project()

    def newcomer(self) -> Principal:
        """Another user."""
        token, _ = self.store.create_token(f"user-{uuid.uuid4()}")
        known = self.store.authenticate(token)
        assert known is not None
        return known[0]

    def new_project(self, document: JsonValue = None, schema: JsonValue = None) -> UUID:
        made = self.store.create_project(self.principal, "a project", document or {"list": []}, schema, PATCH_LIMITS)
        return made.id

    def submit(
        self,
        content: str = "hello",
        *,
        on_busy: OnBusy = OnBusy.QUEUE,
        key: str | None = None,
        project_id: UUID | None = None,
        limits: SubmitLimits = LIMITS,
        principal: Principal | None = None,
    ) -> Submitted:
        idempotency = None if key is None else Idempotency(key=key, body_sha256=content.encode())
        return self.store.submit(
            principal or self.principal,
            project_id or self.project_id,
            content,
            model="scripted",
            on_busy=on_busy,
            limits=limits,
            idempotency=idempotency,
        )

    def message(self, **options: Any) -> UUID:
        """A submitted assistant message's id."""
        return self.submit(**options).assistant_message.id

    def claim(self, message_id: UUID, owner: str = "worker-a") -> Claim | None:
        return self.store.claim(message_id, owner, lease_s=LEASE_S, max_tries=MAX_TRIES)

    def claimed(self, message_id: UUID | None = None, owner: str = "worker-a") -> Lease:
        """A message that `owner` holds; a new one where none is given."""
        claim = self.claim(message_id or self.message(), owner)
        assert claim is not None
        return claim.lease

    def finalize(
        self, lease: Lease, outcome: Outcome | None = None, *, n: int = 3, usage: Usage | None = USAGE
    ) -> Ending:
        return self.store.finalize(
            lease,
            outcome or Succeeded(content="an answer"),
            first=EventId(lease.attempt, n),
            usage=usage,
            first_token_ms=5,
        )

    def ended(self, outcome: Outcome | None = None, **options: Any) -> UUID:
        """A message that is over."""
        lease = self.claimed(self.message(**options))
        self.finalize(lease, outcome)
        return lease.message_id

    def store_round(
        self, lease: Lease, number: int, text_: str, *calls: StoredCall, content: str | None = None
    ) -> None:
        version = self.store.project(self.principal, lease.project_id).version
        self.store.store_round(
            lease,
            StoredRound(round=number, text=text_, calls=calls, document_version=version, usage=USAGE),
            content=text_ if content is None else content,
            last_event_id=EventId(lease.attempt, 1),
            first_token_ms=4,
        )

    def append_one(self, lease: Lease, value: JsonValue = 1, *, version: int | None = None) -> EditDocument:
        """The effect of an edit that appends to the document's list."""
        return EditDocument(
            operations=[{"op": "add", "path": "/list/-", "value": value}],
            words="Appended.",
            expected_version=version or self.store.project(self.principal, lease.project_id).version,
            limits=PATCH_LIMITS,
        )

    def document(self, project_id: UUID | None = None) -> JsonValue:
        return self.store.project(self.principal, project_id or self.project_id).document

    # --- behind the store's back ------------------------------------------------------------------------------------

    def row(self, message_id: UUID) -> dict[str, Any]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM messages WHERE id = :id"), {"id": message_id}).one()
        return dict(found._mapping)

    def count(self, table: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    def let_lease_run_out(self, message_id: UUID) -> None:
        """As if the worker had been silent for the whole lease, by the database's clock."""
        self.execute(
            "UPDATE messages SET lease_until = now() - interval '1 ms' WHERE id = :id AND lease_owner IS NOT NULL",
            id=message_id,
        )

    def execute(self, statement: str, **parameters: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), parameters)


def waiting_for_a_lock(engine: Engine) -> int:
    """Sessions of this database that wait for a lock."""
    with engine.connect() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return int(connection.execute(text(waiting)).scalar_one())


def call(lease: Lease, round_: int = 0, index: int = 0) -> StoredCall:
    """A tool call with the id that it has for ever."""
    return StoredCall(
        tool_call_id=f"{lease.message_id}-{lease.run}-{round_}-{index}",
        name="applyJsonPatch",
        arguments=msgspec.json.encode({"operations": []}).decode(),
    )


def together(*acts: Callable[[], T]) -> list[T | Exception]:
    """What each act came to, its answer or its error, where all begin at once in threads of their own."""
    barrier = threading.Barrier(len(acts))
    results: dict[int, T | Exception] = {}

    def run(index: int, act: Callable[[], T]) -> None:
        barrier.wait()
        try:
            results[index] = act()
        except Exception as error:  # it is the result, and the test's to judge
            results[index] = error

    threads = [threading.Thread(target=run, args=(index, act)) for index, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[index] for index in range(len(acts))]


def errors_of(results: Sequence[object]) -> list[type[Exception]]:
    return [type(result) for result in results if isinstance(result, Exception)]
