"""`readUIMessageStream` of `ai` 7 and 6, the real fold, shows the row of every lawful story, as the unit tests' does."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from api.close_codes import CloseCode
from api.protocols.ai_sdk.telling import StreamTelling
from api.protocols.telling import ComeBack
from api.wire import Frame
from shared import event_log, events
from shared.events import EventId
from shared.transcript import Transcript, fold
from tests.clients.node import Programs
from tests.strategies import LegalLog, legal_logs
from tests.ui_message import UiMessage, Version
from tests.unit.test_ai_sdk_telling import ROW, entry_of, shows, until_terminal

CASES = 300
LOOKED_AT = 1500
"""Of so many logs those are folded too in which text is taken back, which few do."""


class _Case:
    """One stream, and what it is to show."""

    def __init__(self, log: LegalLog, version: Version) -> None:
        subject = until_terminal(log.events)
        self.version = version
        self.body = b"retry: 1000\n\n: ping\n\n"
        self.expected = Transcript()
        self._telling = StreamTelling(ROW, resets=version == 7)
        self.body += b"".join(self._telling.begin())
        try:
            for event in subject:
                self.body += b"".join(self._telling.tell(Frame.of(entry_of(event))))
                self.expected = fold(self.expected, [event])
        except ComeBack:
            # it comes back for the newest attempt
            newest = EventId.parse(subject[-1].id).attempt
            attempt = [event for event in subject if EventId.parse(event.id).attempt == newest]
            self.expected = fold(Transcript(), attempt)
            self._telling = StreamTelling(ROW, resets=False)
            self.body = b"".join(self._telling.begin())
            for entry in event_log.merge(map(entry_of, attempt)):
                self.body += b"".join(self._telling.tell(Frame.of(entry)))
        if self._telling.is_over():
            self.body += b"".join(self._telling.end(CloseCode.FINISHED))
            assert events.is_terminal(subject[-1])


def lawful_logs() -> list[LegalLog]:
    """The same ones each time."""
    found: list[LegalLog] = []

    @settings(
        max_examples=LOOKED_AT,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(legal_logs(min_attempts=3))
    def collect(log: LegalLog) -> None:
        found.append(log)

    collect()
    return found


def test_the_real_fold_of_every_stream_is_the_rows(programs: Programs) -> None:
    """Text, calls, the end; no stream is thrown away, and the fold of the unit tests says the same."""
    versions: tuple[Version, ...] = (7, 6)
    looked_at = [_Case(log, version) for log in lawful_logs() for version in versions]
    resets = [case for case in looked_at if b"reset-step" in case.body]
    assert resets
    cases = looked_at[: len(versions) * CASES] + resets
    task = {"cases": [{"version": case.version, "body": case.body.decode()} for case in cases]}
    with programs.run("ai_fold.mjs", task) as program:
        program.finish()
    assert len(program.said) == len(cases)
    for case, said in zip(cases, program.said, strict=True):
        try:
            _check(case, said)
        except AssertionError as error:
            raise AssertionError(f"version {case.version}: {error}\n{case.body.decode()}\n{said}") from error


def _check(case: _Case, said: dict[str, Any]) -> None:
    ours = UiMessage(case.version)
    for block in case.body.decode().split("\n\n"):
        if block.startswith("data: {"):
            ours.take(json.loads(block[6:]))
    theirs = UiMessage(case.version)
    theirs.parts, theirs.metadata = said["message"]["parts"], said["message"].get("metadata", {})
    theirs.error = said["errors"][0] if said["errors"] else None
    theirs.is_finished, theirs.is_aborted = ours.is_finished, ours.is_aborted
    assert len(said["errors"]) <= 1
    assert theirs.error == ours.error
    assert said["message"]["id"] == ours.id
    for message in (theirs, ours):  # a step alone is nothing that the SDK shows
        message.parts = [part for part in message.parts if part["type"] != "step-start"]
    assert [_plain(part) for part in theirs.parts] == [_plain(part) for part in ours.parts]
    for part, known in zip(theirs.tools, ours.tools, strict=True):
        part["input"] = known["input"]  # JavaScript writes some numbers in another way
    shows(theirs, case.expected)


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    """Without what the SDK notes beside, and what it leaves away where it is undefined."""
    kept = {name: value for name, value in part.items() if value is not None and name != "providerExecuted"}
    plain: dict[str, Any] = json.loads(json.dumps(kept), parse_int=float)
    return plain
