"""The load: people who send messages, repeat what was not acknowledged, cancel and retry, each with readers of their own.

All of it on one event loop, on a thread of its own; the faults are another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
import uvloop

from benchmarks.soak.plan import DOCUMENT, Plan, ReaderPlan
from benchmarks.soak.readers import Reader, Tally
from benchmarks.soak.recording import Recording

_CALL_S: Final = 8.0
"""A call without an answer for so long is given up: its outcome is unknown."""
_AGAIN_S: Final = 0.3
_MOST_BESIDE: Final = 4
"""Messages of one person at a time: fewer than a user may have unfinished, interrupted ones included."""
_MESSAGES_A_PROJECT: Final = 25
_PAGE: Final = 50


@dataclass(kw_only=True, slots=True)
class Sent:
    """An acknowledged message."""

    plan: Plan
    message_id: str
    project_id: str
    token: str
    readers: list[Reader] = field(default_factory=list)
    retried_above: int = 0
    """The row's attempt when a retry was acknowledged for the last time: the final one must be above it."""
    is_over: bool = False
    """Whether all of its readers came to an end, after every retry."""

    @property
    def recordings(self) -> list[Recording]:
        return [reader.recording for reader in self.readers]


class Load:
    """`start`, look at the figures while it runs, `end_sending`, then `join`.

    `sent` are the acknowledged messages, `problems` what was answered that should not be.
    """

    def __init__(
        self,
        urls: Sequence[str],
        tokens: Sequence[str],
        *,
        messages: int,
        make_plan: Callable[[int], Plan],
    ) -> None:
        """A person for each of `tokens`, all at once."""
        self.sent: list[Sent] = []
        self.projects: dict[str, str] = {}
        """Each project's id, and its owner's token."""
        self.problems: list[str] = []
        self.answers: Counter[str] = Counter()
        self.tally = Tally()
        self.began_at_s = 0.0
        self.sent_all_at_s = 0.0
        self.ended_at_s = 0.0
        self._urls = list(urls)
        self._tokens = list(tokens)
        self._most = messages
        self._make_plan = make_plan
        self._numbers = itertools.count(1)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load")

    # --- from the conductor's thread ----------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    @property
    def movement(self) -> tuple[int, int, int]:
        """Changes as long as something is still answered or received."""
        return self.tally.events, self.tally.lives, len(self.sent)

    def end_sending(self) -> None:
        """No new message from now on; what was sent is followed to its end."""
        self._closed = True

    def give_up(self) -> None:
        """Leaves what does not end."""
        if self._loop is not None and self._main is not None:
            self._loop.call_soon_threadsafe(self._main.cancel)

    def join(self) -> None:
        """Raises what broke the load itself."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    # --- on the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            uvloop.run(self._all())
        except asyncio.CancelledError:
            pass  # given up
        except BaseException as error:
            self._failure = error
        finally:
            self.ended_at_s = time.monotonic()

    async def _all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self.began_at_s = time.monotonic()
        async with client() as session, asyncio.TaskGroup() as people:
            for token in self._tokens:
                people.create_task(_Person(self, session, token).work())

    def _next(self) -> Plan | None:
        if self._closed or (number := next(self._numbers)) > self._most:
            self.sent_all_at_s = self.sent_all_at_s or time.monotonic()
            return None
        return self._make_plan(number)


class _Person:
    """Somebody with a token and, at a time, one project."""

    def __init__(self, load: Load, session: aiohttp.ClientSession, token: str) -> None:
        self._load = load
        self._session = session
        self._token = token
        self._random = random.Random(token)
        self._project_id = ""
        self._room = 0

    async def work(self) -> None:
        beside: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as lives:
            while (plan := self._load._next()) is not None:
                if self._room == 0:
                    await self._new_project()
                self._room -= 1
                life = lives.create_task(self._live(plan, self._project_id))
                beside.add(life)
                life.add_done_callback(beside.discard)
                while beside and (not plan.beside or len(beside) >= _MOST_BESIDE):
                    await asyncio.wait(beside, return_when=asyncio.FIRST_COMPLETED)

    async def _new_project(self) -> None:
        # without a key a repeated call may make two: the other one stays empty, and is nobody's
        status, body = await self._insist("POST", "/v1/projects", {"name": "soak", "document": DOCUMENT}, {201})
        assert status == 201
        self._project_id = body["id"]
        self._load.projects[self._project_id] = self._token
        self._room = _MESSAGES_A_PROJECT

    async def _live(self, plan: Plan, project_id: str) -> None:
        """One message, from its submit to its end, after every retry."""
        path = f"/v1/projects/{project_id}/messages"
        body = {"content": plan.content, "onBusy": plan.on_busy}
        status, pair = await self._submit(path, body, plan)
        if status != 202:
            return
        if plan.repeats_submit:
            again, same = await self._submit(path, body, plan)
            if again != 202 or same["assistantMessage"]["id"] != pair["assistantMessage"]["id"]:
                self._load.problems.append(f"message {plan.number} sent again with its key: {again} {same}")
        message_id = pair["assistantMessage"]["id"]
        sent = Sent(plan=plan, message_id=message_id, project_id=project_id, token=self._token)
        self._load.sent.append(sent)
        frames: dict[bytes, bytes] = {}
        async with asyncio.TaskGroup() as group:
            for index, reader_plan in enumerate(plan.readers):
                group.create_task(self._read(sent, reader_plan, index, frames))
            if plan.cancel_after_s is not None:
                group.create_task(self._cancel(message_id, plan.cancel_after_s))
        for number in range(plan.retries):
            await self._retry(sent)
            late = ReaderPlan(transport="socket", first_web=0, joins_after_s=0.0, leaves_after=())
            async with asyncio.TaskGroup() as group:
                for reader in sent.readers:
                    group.create_task(reader.follow())
                group.create_task(self._read(sent, late, len(plan.readers) + number, frames))
        sent.is_over = True
        self._load.tally.lives += 1

    async def _submit(self, path: str, body: dict[str, Any], plan: Plan) -> tuple[int, Any]:
        busy = {409} if plan.on_busy == "reject" else set()
        return await self._insist("POST", path, body, {202} | busy, key=f"soak-{plan.number}")

    async def _read(self, sent: Sent, plan: ReaderPlan, index: int, frames: dict[bytes, bytes]) -> None:
        await asyncio.sleep(plan.joins_after_s)
        reader = Reader(
            self._session,
            self._load._urls,
            self._token,
            sent.message_id,
            plan,
            name=f"message {sent.plan.number}, {plan.transport} reader {index + 1}",
            tally=self._load.tally,
            shared_frames=frames,
        )
        sent.readers.append(reader)
        await reader.follow()

    async def _cancel(self, message_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._insist("POST", f"/v1/messages/{message_id}/cancel", None, {202, 409})

    async def _retry(self, sent: Sent) -> None:
        status, body = await self._insist("POST", f"/v1/messages/{sent.message_id}/retry", None, {202, 409})
        if status == 202:
            sent.retried_above = max(sent.retried_above, body["attempt"])

    async def _insist(
        self, method: str, path: str, body: dict[str, Any] | None, wanted: set[int], *, key: str | None = None
    ) -> tuple[int, Any]:
        """Asks until an answer says what became of it: 503, 429 and no answer at all are asked again, anywhere."""
        headers = {"Authorization": f"Bearer {self._token}"} | ({} if key is None else {"Idempotency-Key": key})
        what = f"{method} {path.rpartition('/')[2]}"
        while True:
            url = self._random.choice(self._load._urls)
            try:
                async with self._session.request(
                    method, f"{url}{path}", json=body, headers=headers, timeout=aiohttp.ClientTimeout(total=_CALL_S)
                ) as answer:
                    status, text = answer.status, await answer.read()
            except (aiohttp.ClientError, OSError, TimeoutError):
                self._load.answers[f"{what}: none"] += 1
                await asyncio.sleep(_AGAIN_S)
                continue
            self._load.answers[f"{what}: {status}"] += 1
            if status in wanted:
                return status, msgspec.json.decode(text)
            if status not in (429, 503):
                self._load.problems.append(f"{what}: {status} {text.decode(errors='replace')[:300]}")
                return status, None
            await asyncio.sleep(_AGAIN_S)


def client() -> aiohttp.ClientSession:
    """For many connections at once; no proxy, no limit of its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=5),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0),
        trust_env=False,
    )


async def follow_on(sent: Sequence[Sent], attempts: dict[str, int], *, most_s: float) -> None:
    """Lets readers catch up whose message went on after they had left: a retry that was thought lost, say.

    Those that have not come to the end after `most_s` are left.
    """
    with contextlib.suppress(TimeoutError):
        async with client() as session, asyncio.timeout(most_s), asyncio.TaskGroup() as group:
            for one in sent:
                for reader in one.readers:
                    last = reader.recording.last
                    if last is None or last.attempt < attempts.get(one.message_id, 0):
                        reader.use(session)
                        group.create_task(reader.follow())


async def rows(url: str, projects: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Every message of the projects, by its id, as its users read it."""
    found: dict[str, dict[str, Any]] = {}
    async with client() as session:
        for project_id, token in projects.items():
            before = ""
            while True:
                query = {"limit": str(_PAGE)} | ({"before": before} if before else {})
                async with session.get(
                    f"{url}/v1/projects/{project_id}/messages",
                    params=query,
                    headers={"Authorization": f"Bearer {token}"},
                ) as answer:
                    answer.raise_for_status()
                    page = msgspec.json.decode(await answer.read())
                found |= {row["id"]: row for row in page["items"]}
                if page["nextCursor"] is None:
                    break
                before = page["nextCursor"]
    return found
