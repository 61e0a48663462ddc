"""A project's whole history, as a machine that does whatever comes to it: messages, readers, edits, undo and redo.

Each step goes over HTTP to the processes of a whole stack. In the end every message's log and every reader's recording goes
through the trace checker, and the document is rebuilt by an oracle from its versions.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Final

import httpx
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from shared import events, keys
from shared.events import EventId
from shared.history import Step, redoable, undoable
from tests.followers import Follower, Transport
from tests.fuzz.patches import Impossible, patched, same
from tests.fuzzing import cases
from tests.people import Person, eventually
from tests.stack import Stack
from tests.trace_checker import check_trace

_KINDS: Final = ["say", "edit", "fail", "break"]
_numbers = itertools.count(1)
_operations = st.lists(
    st.sampled_from(
        [
            {"op": "add", "path": "/mine", "value": {"a": [1, 2]}},
            {"op": "add", "path": "/mine/a/0", "value": "first"},
            {"op": "remove", "path": "/mine"},
            {"op": "replace", "path": "/title", "value": "other"},
            {"op": "move", "from": "/title", "path": "/name"},
            {"op": "move", "from": "/name", "path": "/title"},
            {"op": "copy", "from": "/mine", "path": "/again"},
            {"op": "test", "path": "/title", "value": "Spring"},
            {"op": "add", "path": "", "value": {"title": "anew", "list": []}},
        ]
    ),
    min_size=1,
    max_size=3,
)


def scripts(stack: Stack) -> None:
    edit = {"operations": [{"op": "add", "path": "/list/-", "value": 1}], "explanation": "One more."}
    refused = {"status": 400, "error": {"message": "No.", "type": "invalid_request_error"}}
    words = {"text": "some words that take a while to say ", "pace": 0.01}
    stack.model.say("say", words)
    stack.model.on("edit", {"rounds": [{"steps": [words, {"tool": {"name": "applyJsonPatch", "arguments": edit}}]}]})
    stack.model.on("fail", {"rounds": [{"attempts": [refused, {"steps": [words]}]}]})
    stack.model.on("break", {"rounds": [{"attempts": [{"steps": [words, {"cut": "rst"}]}, {"steps": [words]}]}]})


class Project(RuleBasedStateMachine):
    """One person's project. What is answered is compared at once with what may be; what it came to, in the end."""

    messages: Bundle[str] = Bundle("messages")
    readers: Bundle[Follower] = Bundle("readers")
    stack: Stack

    def __init__(self) -> None:
        super().__init__()
        self.person = Person(self.stack)
        self.start = {"title": "Spring", "list": []}
        self.project_id = self.person.project(document=self.start)
        self.asked: list[str] = []
        self.followers: list[tuple[str, Follower]] = []

    # --- messages -----------------------------------------------------------------------------------------------------

    @rule(
        target=messages,
        kind=st.sampled_from(_KINDS),
        on_busy=st.sampled_from(["queue", "queue", "parallel", "interrupt"]),
        twice=st.booleans(),
        web=st.integers(0, 1),
    )
    def submit(self, kind: str, on_busy: str, twice: bool, web: int) -> str:
        number = next(_numbers)
        answers = [
            self.person.clients[web - repeat].post(
                f"/v1/projects/{self.project_id}/messages",
                json={"content": f"{kind} {number}", "onBusy": on_busy},
                headers={"Idempotency-Key": f"{number}"},
            )
            for repeat in range(1 + twice)
        ]
        assert [answer.status_code for answer in answers] == [202] * len(answers), answers[-1].text
        ids = {answer.json()["assistantMessage"]["id"] for answer in answers}
        assert len(ids) == 1
        (message_id,) = ids
        self.asked.append(message_id)
        return str(message_id)

    @rule(message_id=messages, act=st.sampled_from(["cancel", "retry"]))
    def act(self, message_id: str, act: str) -> None:
        answer = self.person.client.post(f"/v1/messages/{message_id}/{act}")
        assert answer.status_code in (202, 409), answer.text

    # --- readers ------------------------------------------------------------------------------------------------------

    @rule(
        target=readers,
        message_id=messages,
        transport=st.sampled_from(["socket", "sse"]),
        web=st.integers(0, 1),
        stays=st.integers(1, 12),
    )
    def join(self, message_id: str, transport: Transport, web: int, stays: int) -> Follower:
        """It leaves after so many events and comes back with `after`, at the other process."""
        follower = Follower(
            self.stack.urls, self.person.token, message_id, transport=transport, first=web, leaves_after=lambda: stays
        )
        follower.__enter__()
        self.followers.append((message_id, follower))
        return follower

    @rule(follower=consumes(readers))
    def leave(self, follower: Follower) -> None:
        """For good, wherever it is."""
        follower.__exit__()

    # --- the document -------------------------------------------------------------------------------------------------

    @rule(operations=_operations, knows_version=st.booleans())
    def patch(self, operations: list[dict[str, Any]], knows_version: bool) -> None:
        before = self.person.document(self.project_id)
        headers = {"Content-Type": "application/json-patch+json"}
        if knows_version:
            headers["If-Match"] = f'"{before["version"]}"'
        answer = self.person.client.patch(
            f"/v1/projects/{self.project_id}/document",
            content=httpx.Request("POST", "http://x", json=operations).content,
            headers=headers,
        )
        assert answer.status_code in ((200, 409, 412) if knows_version else (200, 409)), answer.text
        if not knows_version or answer.status_code == 412:
            return  # somebody was faster, or may have been
        document = before["document"]
        try:
            for operation in operations:
                document = patched(document, operation)
        except Impossible:
            assert answer.status_code == 409
        else:
            assert answer.status_code == 200
            assert answer.json()["version"] == before["version"] + 1
            assert same(answer.json()["document"], document)

    @rule(walk=st.sampled_from(["undo", "redo"]))
    def walk(self, walk: str) -> None:
        before = self.person.document(self.project_id)
        steps = [
            Step(version=one["version"], undoes=one.get("undoes"), redoes=one.get("redoes"))
            for one in self._versions()
            if one["version"] <= before["version"]
        ]
        wanted = (undoable if walk == "undo" else redoable)(iter(steps))
        answer = self.person.client.post(
            f"/v1/projects/{self.project_id}/{walk}", headers={"If-Match": f'"{before["version"]}"'}
        )
        if answer.status_code == 412:
            return
        assert answer.status_code == (200 if wanted is not None else 409), (answer.text, steps)

    def _versions(self) -> list[dict[str, Any]]:
        """All of them, newest first."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"/v1/projects/{self.project_id}/versions?limit=200" + (f"&before={cursor}" if cursor else "")
            page = self.person.client.get(path).json()
            found += page["items"]
            cursor = page["nextCursor"]
        return found

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self._check_messages()
            self._check_document()
        finally:
            for _, follower in self.followers:
                follower.__exit__()
            self.person.close()

    def _check_messages(self) -> None:
        rows = {message_id: eventually(partial(self._ended, message_id)) for message_id in self.asked}
        for message_id, row in rows.items():
            entries: Any = self.stack.redis.xrange(keys.log(message_id))
            check_trace([events.decode(fields[keys.LOG_FIELD.encode()]) for _, fields in entries], row=row)
        for message_id, follower in self.followers:
            if not follower.has_left:
                follower.finish()
            received = follower.events
            saw_the_end = bool(received) and EventId.parse(received[-1].id).attempt == rows[message_id]["attempt"]
            is_whole = saw_the_end and not follower.has_left
            check_trace(received, row=rows[message_id] if is_whole else None)

    def _ended(self, message_id: str) -> dict[str, Any] | None:
        row = self.person.row(message_id)
        is_over = row["status"] not in ("pending", "building")
        told = self.stack.sql("SELECT 1 FROM messages WHERE id = :id AND ending_appended", id=message_id)
        return row if is_over and told else None

    def _check_document(self) -> None:
        """Each version leads from the one before it, and its inverse back, by an oracle's reading of RFC 6902."""
        document: Any = self.start
        for version in reversed(self._versions()):
            before = document
            for operation in version["operations"]:
                document = patched(document, operation)
            back = document
            for operation in version["inverse"]:
                back = patched(back, operation)
            assert same(back, before), version
        assert same(self.person.document(self.project_id)["document"], document)


def test_whatever_is_done_to_a_project_each_story_is_whole(shared_stack: Stack) -> None:
    """Submits, repeated submits, cancels, retries, readers that come and go, patches, undo and redo, in any order."""
    scripts(shared_stack)
    machine = type("Project", (Project,), {"stack": shared_stack})
    settings = hypothesis.settings(cases(4, share=0.02), stateful_step_count=14, deadline=None)
    run_state_machine_as_test(machine, settings=settings)
