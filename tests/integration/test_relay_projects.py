"""Who watches a project is told all of it once and in order, also where what was published got lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine, text

from api.readers import State
from api.relay import ProjectTarget
from dev.embedded_valkey import EmbeddedValkey
from shared import events, notices
from shared.event_log import Entry
from shared.events import Delta, EventId, Snapshot, Status, StreamEvent
from shared.lifecycle import MemberRole
from shared.outcomes import Cancelled
from shared.records import DocumentChange, Lease, Submitted
from shared.store import StartJob, Store
from tests.integration.relay_parts import PATIENCE_S, SocketClient, Stage, StreamClient, eventually
from tests.integration.store_parts import LIMITS, PATCH_LIMITS, Scene, call

Frame = dict[str, Any]
MANY = 1000
"""Words, of which fifty come a second: more than anybody who is no member should hear."""
SetUp = Callable[..., Stage]


class Watching(SocketClient):
    """The other end of a project's socket: every frame, and each message's ids checked as they come."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.frames: list[Frame] = []
        self.positions: dict[str, EventId] = {}
        self._taken = 0

    def on_text(self, text: str) -> None:
        frame = msgspec.json.decode(text)
        self.frames.append(frame)
        if "id" in frame:
            event = events.decode(text)
            first = EventId.parse(getattr(event, "from_", None) or event.id)
            before = self.positions.get(event.message_id)
            assert before is None or first > before, (frame, before)
            assert before is None or isinstance(event, Snapshot) or first == before.next, (frame, before)
            self.positions[event.message_id] = EventId.parse(event.id)

    def next(self, *kinds: str) -> Frame:
        """The next frame, of one of these types if any are given; others are passed over."""
        while True:
            while self._taken == len(self.frames):
                assert not self.is_ended, (self.close_code, self.frames)
                self.receive()
            self._taken += 1
            if not kinds or self.frames[self._taken - 1]["type"] in kinds:
                return self.frames[self._taken - 1]


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


@pytest.fixture
def set_up(redis_url: str, store: Store) -> Iterator[SetUp]:
    stages: list[Stage] = []

    def make(url: str = redis_url, **environment: Any) -> Stage:
        stages.append(Stage(url, store=store, **environment))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def watch(stage: Stage, scene: Scene, **target: Any) -> Watching:
    theirs, ours = socket.socketpair()
    user_id = target.pop("user_id", scene.principal.user_id)
    wanted = ProjectTarget(project_id=scene.project_id, user_id=user_id, **target)
    stage.relay.adopt_socket(ours, wanted, stage.relay.admit(wanted.user_id))
    client = Watching(theirs)
    stage._clients.append(client)
    return client


def patched(scene: Scene, value: Any) -> DocumentChange:
    operations = [{"op": "add", "path": "/list/-", "value": value}]
    _, change = scene.store.patch_document(scene.principal, scene.project_id, operations, PATCH_LIMITS)
    return change


def told(stage: Stage, scene: Scene, change: DocumentChange) -> None:
    stage.log.publish(notices.document_changed(scene.project_id, change))


def announced(stage: Stage, pair: Submitted) -> None:
    for message in (pair.user_message, pair.assistant_message):
        stage.log.publish(notices.message_made(message))


class Writer:
    """The worker of one message: appends to its log as a worker does."""

    def __init__(self, stage: Stage, scene: Scene, lease: Lease) -> None:
        self.stage, self.scene, self.lease = stage, scene, lease
        self.n = 0

    def base(self) -> dict[str, Any]:
        base = {"id": f"{self.lease.attempt}-{self.n}", "message_id": str(self.lease.message_id), "ts": 1}
        self.n += 1
        return base

    def append(self, *made: StreamEvent) -> None:
        entries = [Entry(EventId.parse(event.id), events.encode(event)) for event in made]
        also = notices.lifecycle(self.lease.project_id, entries)
        assert self.stage.log.append(self.lease.message_id, entries, also).word == "ok"

    def begin(self) -> None:
        if self.lease.attempt == 1:
            self.append(Status(**self.base(), status="thinking"))
        else:
            self.append(Snapshot(**self.base(), content="", status="pending", tool_calls=(), reason="attempt"))
            self.append(Status(**self.base(), status="thinking"))

    def say(self, *texts: str) -> None:
        self.append(*(Delta(**self.base(), content=text) for text in texts))

    def finish(self, outcome: Any = None) -> None:
        ended = self.scene.finalize(self.lease, outcome, n=self.n)
        entries = [Entry(events.peek(payload)[1], payload) for payload in ended.events]
        assert self.stage.log.append(self.lease.message_id, entries, notices.ending(ended, entries)).word == "ok"


def writer(stage: Stage, scene: Scene, message_id: UUID) -> Writer:
    return Writer(stage, scene, scene.claimed(message_id))


def test_a_watcher_is_told_ready_then_what_is_unfinished_then_what_happens(set_up: SetUp, scene: Scene) -> None:
    stage = set_up()
    patched(scene, 1)
    finished = scene.ended()
    pair = scene.submit()
    at_work = writer(stage, scene, pair.assistant_message.id)
    at_work.begin()
    at_work.say("one ", "two ")
    client = watch(stage, scene)
    assert client.next() == {"type": "ready", "version": 2, "newestMessageId": str(pair.assistant_message.id)}
    assert (client.next()["status"], client.next()["content"]) == ("thinking", "one two ")
    at_work.say("three")
    assert client.next()["content"] == "three"
    told(stage, scene, patched(scene, 2))
    document = client.next()
    assert (document["type"], document["version"], document["author"]) == ("document", 3, scene.principal.user)
    assert document["operations"] == [{"op": "add", "path": "/list/-", "value": 2}]
    following = scene.submit("and then")
    announced(stage, following)
    assert [client.next()["message"]["content"] for _ in range(2)] == ["and then", ""]
    at_work.finish()
    assert [client.next()["type"] for _ in range(2)] == ["complete", "finalized"]
    second = writer(stage, scene, following.assistant_message.id)
    second.begin()
    second.say("four")
    assert (client.next()["type"], client.next()["content"]) == ("status", "four")
    assert str(finished) not in {frame.get("messageId") for frame in client.frames}, "the rows tell that"


def test_a_project_without_a_message_is_ready_too(set_up: SetUp, scene: Scene) -> None:
    stage = set_up()
    client = watch(stage, scene)
    assert client.next() == {"type": "ready", "version": 1, "newestMessageId": None}
    announced(stage, scene.submit("first of all"))
    assert client.next()["message"]["content"] == "first of all"


def test_versions_whose_publication_was_lost_are_told_before_the_next(set_up: SetUp, scene: Scene) -> None:
    stage = set_up(idle_check_s=30)
    client = watch(stage, scene)
    client.next("ready")
    patched(scene, 1)
    patched(scene, 2)
    told(stage, scene, patched(scene, 3))
    assert [client.next()["version"] for _ in range(3)] == [2, 3, 4]


def test_publications_out_of_order_are_told_in_order_and_once(set_up: SetUp, scene: Scene) -> None:
    stage = set_up(idle_check_s=30)
    client = watch(stage, scene)
    client.next("ready")
    changes = [patched(scene, number) for number in range(4)]
    for change in (changes[1], changes[0], changes[1], changes[3], changes[2]):
        told(stage, scene, change)
    announced(stage, scene.submit("after them"))
    seen = [client.next() for _ in range(5)]
    assert [frame.get("version") for frame in seen] == [2, 3, 4, 5, None]


def test_what_was_lost_altogether_is_found_when_nothing_comes(set_up: SetUp, scene: Scene) -> None:
    """A version, a message with its answer, a job: none of them published."""
    stage = set_up()
    client = watch(stage, scene)
    client.next("ready")
    patched(scene, 1)
    assert client.next()["version"] == 2
    pair = scene.submit("unheard")
    assert [client.next()["message"]["id"] for _ in range(2)] == [
        str(pair.user_message.id),
        str(pair.assistant_message.id),
    ]
    at_work = writer(stage, scene, pair.assistant_message.id)
    at_work.begin()
    at_work.say("heard")
    assert (client.next()["type"], client.next()["content"]) == ("status", "heard")


def test_a_message_that_began_and_ended_unheard_is_told_with_its_row(set_up: SetUp, scene: Scene) -> None:
    stage = set_up()
    client = watch(stage, scene)
    client.next("ready")
    ended = scene.ended()
    rows = {frame["message"]["id"]: frame["message"] for frame in (client.next("message"), client.next("message"))}
    assert rows[str(ended)]["status"] in ("success", "pending")
    while rows[str(ended)]["status"] == "pending":  # it was looked for before it ended: then its end is told
        assert client.next()["type"] in ("snapshot", "complete", "finalized")
        if client.frames[-1]["type"] == "finalized":
            break


def test_who_comes_while_another_is_behind_is_told_nothing_that_the_rows_tell(set_up: SetUp, scene: Scene) -> None:
    """Both are told from one look at the rows, which goes back to what the other one knows."""
    stage = set_up(idle_check_s=30)
    behind = watch(stage, scene)
    behind.next("ready")
    unheard = scene.ended()
    with scene.engine.begin() as locking:
        locking.execute(text("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE"))
        watch(stage, scene)  # the rows are being read for it, so that those who come now are read for together
        newcomer = watch(stage, scene)
        told(stage, scene, DocumentChange(version=99, operations=[]))
        hub = stage.relay._hub
        assert hub is not None
        eventually(lambda: len(hub.readers) == 3 and all(one.state is not State.LIVE for one in list(hub.readers)))
    assert str(unheard) in [behind.next("message")["message"]["id"] for _ in range(2)]
    newcomer.next("ready")
    told(stage, scene, patched(scene, 1))
    newcomer.next("document")
    assert [frame["type"] for frame in newcomer.frames] == ["ready", "document"]


@pytest.mark.parametrize("is_heard", [True, False], ids=["published", "lost"])
def test_a_retry_is_told_and_its_attempt_follows_the_one_before(set_up: SetUp, scene: Scene, is_heard: bool) -> None:
    stage = set_up()
    pair = scene.submit()
    first = writer(stage, scene, pair.assistant_message.id)
    first.begin()
    client = watch(stage, scene)
    client.next("status")
    first.finish(Cancelled(content=""))
    assert client.next()["status"] == "cancelled"
    again = scene.store.retry(scene.principal, first.lease.message_id, LIMITS)
    if is_heard:
        stage.log.publish(notices.message_made(again))
    assert client.next()["message"]["status"] == "pending"
    second = writer(stage, scene, pair.assistant_message.id)
    second.begin()
    second.finish()
    kinds = [client.next()["type"] for _ in range(4)]
    assert kinds == ["snapshot", "status", "complete", "finalized"]
    stage.log.publish(notices.message_made(again))  # late: what it says is known by now
    told(stage, scene, patched(scene, 1))
    assert client.next()["type"] == "document"


def test_a_job_is_told_as_it_is_and_again_where_that_was_lost(set_up: SetUp, scene: Scene) -> None:
    stage = set_up()
    lease = scene.claimed()
    client = watch(stage, scene)
    client.next("ready")
    job_id = start_job(scene, lease)
    job = scene.store.job(scene.principal, job_id)
    stage.log.publish(notices.job_changed(job))
    frame = client.next("job")
    assert (frame["jobId"], frame["status"], frame["phase"], frame["try"]) == (str(job_id), "pending", None, 0)
    scene.execute(
        "UPDATE messages SET status = 'building', job_id = :job WHERE id = :id", job=job_id, id=lease.message_id
    )
    scene.execute(
        "UPDATE component_jobs SET status = 'building', phase = 'checking', tries = 2 WHERE id = :id", id=job_id
    )
    frame = client.next("job")
    assert (frame["status"], frame["phase"], frame["try"]) == ("building", "checking", 2)


def test_a_job_that_ends_before_its_hand_over_is_told_to_its_end(set_up: SetUp, scene: Scene) -> None:
    """A GET shows it from the call on; nobody published that it was started, and a cancel ends it with its message."""
    stage = set_up()
    writing = writer(stage, scene, scene.message())
    client = watch(stage, scene)
    client.next("ready")
    writing.begin()
    job_id = start_job(scene, writing.lease)
    assert client.next("job")["status"] == "pending"
    writing.finish(Cancelled(content="I build it."))
    ended = client.next("job")
    assert (ended["jobId"], ended["status"]) == (str(job_id), "cancelled")
    assert scene.store.job(scene.principal, job_id).status == "cancelled"


def start_job(scene: Scene, lease: Lease) -> UUID:
    stored = call(lease)
    scene.store_round(lease, 0, "I build it.", stored)
    effect = scene.store.commit_effect(lease, 0, 0, stored, StartJob(name="Rain", effect_description="rain"))
    assert effect.call.job_id is not None
    return UUID(effect.call.job_id)


def test_a_slow_watcher_gets_what_it_missed_once_it_reads_again(set_up: SetUp, scene: Scene) -> None:
    stage = set_up(socket_buffer_bytes=64 * 1024, slow_reader_s=60)
    pair = scene.submit()
    at_work = writer(stage, scene, pair.assistant_message.id)
    at_work.begin()
    client = watch(stage, scene)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.next("status")
    for number in range(40):
        told(stage, scene, patched(scene, f"{number} " + "x" * 5_000))
        at_work.say(*["word " * 200] * 3)
    at_work.finish()
    versions: list[int] = []
    is_over = False
    while len(versions) < 40 or not is_over:
        frame = client.next()
        is_over |= frame["type"] == "finalized"
        if frame["type"] == "document":
            versions.append(frame["version"])
    assert versions == list(range(2, 42))
    assert any(frame["type"] == "snapshot" and frame["reason"] == "compacted" for frame in client.frames)


def test_without_redis_a_watcher_is_told_from_the_rows_and_goes_on_live(
    set_up: SetUp, scene: Scene, own_valkey: EmbeddedValkey
) -> None:
    stage = set_up(own_valkey.url)
    client = watch(stage, scene)
    client.next("ready")
    own_valkey.kill()
    patched(scene, 1)
    assert client.next()["version"] == 2
    pair = scene.submit("meanwhile")
    assert client.next()["message"]["id"] == str(pair.user_message.id)
    late = watch(stage, scene)
    assert late.next()["newestMessageId"] == str(pair.assistant_message.id)
    own_valkey.restart()
    at_work = writer_once_redis_is_back(stage, scene, pair.assistant_message.id)
    at_work.say("back")
    for one in (client, late):
        assert one.next("delta")["content"] == "back"


def writer_once_redis_is_back(stage: Stage, scene: Scene, message_id: UUID) -> Writer:
    eventually(lambda: stage.relay.is_connected)
    at_work = writer(stage, scene, message_id)
    at_work.begin()
    return at_work


def test_a_cancel_names_its_message_and_needs_the_role(set_up: SetUp, scene: Scene) -> None:
    stage = set_up()
    message_id = scene.message()
    viewer, editor = watch(stage, scene), watch(stage, scene, may_cancel=True)
    viewer.send_text(f'{{"type":"cancel","messageId":"{message_id}"}}')
    assert viewer.next("error")["code"] == "forbidden"
    editor.send_text('{"type":"cancel"}')
    assert editor.next("error")["code"] == "bad_frame"
    editor.send_text(f'{{"type":"cancel","messageId":"{message_id}"}}')
    assert stage.cancelled.wait(PATIENCE_S)
    assert stage.cancels == [(message_id, scene.principal.user_id)]
    editor.send_text('{"type":"ping"}')
    assert editor.next("pong") == {"type": "pong"}


def test_who_is_no_member_any_more_is_found_out_where_nobody_told(set_up: SetUp, scene: Scene) -> None:
    """The word of it was lost, or came between the look at the role and the join: on both kinds of sockets."""
    stage = set_up()
    guest = scene.newcomer()
    scene.store.put_member(scene.principal, scene.project_id, guest.user, MemberRole.VIEWER, max_members=10)
    message_id = scene.message()
    stays, leaves = watch(stage, scene), watch(stage, scene, user_id=guest.user_id)
    follows = stage.socket(
        stage.story().target(message_id=message_id, project_id=scene.project_id, user_id=guest.user_id)
    )
    leaves.next("ready")
    scene.store.remove_member(scene.principal, scene.project_id, guest.user)
    assert leaves.until_closed() == 4403
    assert follows.until_closed() == 4403
    told(stage, scene, patched(scene, 1))
    assert stays.next("document")["version"] == 2


def test_who_is_no_member_any_more_is_found_out_while_much_is_told(set_up: SetUp, scene: Scene) -> None:
    """Nobody has to fall silent for it: one looks every few seconds, whatever comes."""
    stage = set_up(idle_check_s=0.5)
    guest = scene.newcomer()
    scene.store.put_member(scene.principal, scene.project_id, guest.user, MemberRole.VIEWER, max_members=10)
    at_work = writer(stage, scene, scene.message())
    at_work.begin()
    follows = stage.socket(
        stage.story().target(message_id=at_work.lease.message_id, project_id=scene.project_id, user_id=guest.user_id)
    )
    scene.store.remove_member(scene.principal, scene.project_id, guest.user)
    closed = threading.Event()

    def talk() -> None:
        while not closed.wait(0.02) and at_work.n < MANY:
            at_work.say("and ")

    talking = threading.Thread(target=talk, name="talking")
    talking.start()
    try:
        assert follows.until_closed() == 4403
    finally:
        closed.set()
        talking.join()
    assert at_work.n < MANY, "it took a silence"


def test_a_deleted_project_closes_its_watchers(set_up: SetUp, scene: Scene) -> None:
    stage = set_up()
    client = watch(stage, scene)
    client.next("ready")
    scene.store.delete_project(scene.principal, scene.project_id)
    assert client.until_closed() == 4403


def test_an_event_stream_of_a_project_has_no_ids(set_up: SetUp, scene: Scene) -> None:
    """An EventSource would come back with one, and it would say nothing."""

    class Blocks(StreamClient):
        def __init__(self, sock: socket.socket) -> None:
            super().__init__(sock)
            self.blocks: list[str] = []

        def on_block(self, block: str) -> None:
            self.blocks.append(block)

    stage = set_up()
    at_work = writer(stage, scene, scene.message())
    at_work.begin()
    theirs, ours = socket.socketpair()
    target = ProjectTarget(project_id=scene.project_id, user_id=scene.principal.user_id)
    stage.relay.adopt_sse(ours, target, stage.relay.admit(target.user_id))
    client = Blocks(theirs)
    stage._clients.append(client)
    while len(client.blocks) < 3:
        client.receive()
    assert client.blocks[0].startswith("retry: ")
    assert client.blocks[1].startswith('data: {"type":"ready"')
    assert client.blocks[2].startswith('data: {"type":"status"')
    assert "\n" not in client.blocks[2]


def test_two_watchers_of_one_project_and_a_reader_of_its_message_share_a_subscription_each(
    set_up: SetUp, scene: Scene
) -> None:
    stage = set_up()
    at_work = writer(stage, scene, scene.message())
    at_work.begin()
    watchers = [watch(stage, scene), watch(stage, scene)]
    for one in watchers:
        one.next("status")
    assert (stage.relay.channels, stage.relay.readers) == (2, 2)
