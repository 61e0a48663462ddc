"""The story of one assistant message, as one worker lives it: claim, think, stream, call tools, end.

Read `run_turn` from top to bottom. It runs on the task's own thread, which does the SQL; the model's stream and the appends
of deltas run on the worker's event loop.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared import ended, metrics, notices, traces
from shared.closing import append_ending
from shared.errors import Fenced, StoreUnavailable
from shared.events import ToolCall, Usage, shown_arguments
from shared.lifecycle import ErrorCode, MessageKind, MessageStatus
from shared.metrics import AttemptReason
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.patching import PatchLimits
from shared.records import Claim, Context, Ending, StoredCall, StoredRound, ToolEffect
from shared.store import WITHDRAWN
from shared.store.messages import joined
from worker import telling
from worker.assembler import Assembler, DraftCall, Output
from worker.held import DeadlineOver, Held, Stopped, Workshop, claimed
from worker.leases import Hold, Stop
from worker.model import ModelRequest, ProviderFailed
from worker.prompts import conversation
from worker.retry import pauses
from worker.stopwatch import Stopwatch
from worker.tools import Situation, refusal

_log = logging.getLogger(__name__)

_SHOWN_OF_CUT: Final = 1000
"""Characters that are kept of a call's arguments which were too long."""


def run_turn(workshop: Workshop, message_id: UUID) -> None:
    """Answer the message, if it is there to be taken. Whatever happens here, the row's next holder can go on from it."""
    lease_s, max_tries = workshop.settings.lease_s, workshop.settings.max_tries
    taken = claimed(
        workshop, lambda owner: workshop.store.claim(message_id, owner, lease_s=lease_s, max_tries=max_tries)
    )
    if taken is None:
        return
    claim, claimed_at = taken
    metrics.ATTEMPTS.add(AttemptReason.CLAIM)
    queued_s = max(0.0, claim.enqueued_age_s - claim.run_age_s)
    with telling.attempt("turn", claim.lease, model=claim.model, claimed_at=claimed_at, queued_s=queued_s):
        _live(workshop, claim, claimed_at)


def _live(workshop: Workshop, claim: Claim, claimed_at: float) -> None:
    """The message was taken; from here to its end, or to what keeps this worker from it."""
    message_id = claim.lease.message_id
    with workshop.leases.hold(claim.lease, claimed_at=claimed_at) as hold, Turn(workshop, claim, hold) as turn:
        try:
            turn.open()
            outcome = turn.converse()
        except Stopped as stop:
            match stop.reason:
                case Stop.LOST:
                    metrics.LEASES_LOST.add()
                    return
                case Stop.DRAIN:
                    turn.hand_back()
                    return
                case Stop.CANCEL:
                    outcome = Cancelled(content=turn.publisher.content)
        except DeadlineOver:
            outcome = Failed(content=turn.publisher.content, code=ErrorCode.DEADLINE)
        except Fenced:
            metrics.LEASES_LOST.add()
            _log.info("message %s went to a newer attempt", message_id)
            return
        except StoreUnavailable:
            _log.warning("message %s left: the database is away", message_id)
            return
        try:
            ending = turn.finalize(outcome)
        except Fenced:
            metrics.LEASES_LOST.add()
            _log.info("message %s was ended by a newer attempt", message_id)
            return
    turn.tell(ending)


class Turn(Held):
    """One attempt, or a few where the provider fails or the log is lost."""

    def __init__(self, workshop: Workshop, claim: Claim, hold: Hold) -> None:
        self._claim = claim
        self._failures = claim.tries
        self._rounds = list(claim.rounds)
        self._answers = len(claim.rounds)
        """Of the model, in the whole run."""
        self._effects = list(claim.effects)
        self._usage: Usage | None = None
        enqueued_at = time.monotonic() - claim.enqueued_age_s
        self._limits = PatchLimits(
            max_operations=workshop.settings.max_model_patch_operations,
            max_segments=workshop.settings.max_pointer_segments,
            max_depth=workshop.settings.max_json_depth,
            max_document_bytes=workshop.settings.max_document_bytes,
        )
        for stored in self._rounds:
            self._count(stored.usage)
        super().__init__(
            workshop,
            claim.lease,
            hold,
            deadline=time.monotonic() + workshop.settings.run_deadline_s - claim.run_age_s,
            content=claim.content,
            tool_calls=self._shown_calls(),
            status="pending",
            model=claim.model,
        )
        self._stopwatch = Stopwatch(self.publisher, enqueued_at=enqueued_at)

    # --- the chapters, in order ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Tell readers that somebody writes: a snapshot where it is not the first turn, and that the model thinks."""
        started, calls = notices.started(self._claim.lease, self._claim.model), self._shown_calls()

        def tell() -> None:
            try:
                if self._claim.lease.attempt > 1:
                    self.publisher.open_attempt(
                        self._claim.lease, content=self._claim.content, tool_calls=calls, reason="attempt"
                    )
                self.publisher.beside(started)
                self.publisher.status("thinking")
                self.publisher.start()
            except Exception as error:  # nobody waits here; the turn finds out as it reads
                self.publisher.failure = error

        self._workshop.streams.call(tell)

    def converse(self) -> Outcome:
        """Rounds of the model and its tools until it has nothing more to call, or a component is to be built.

        Raises `Stopped`, `DeadlineOver`, `Fenced`, `StoreUnavailable`.
        """
        if self._rounds:
            self._run_calls(self._rounds[-1])
        while True:
            if (job_id := self._job_id()) is not None:
                return HandedOver(content=self.publisher.content, job_id=job_id)
            if len(self._rounds) > self._settings.max_rounds:
                return Failed(content=self.publisher.content, code=ErrorCode.TOO_MANY_ROUNDS)
            with self._stopwatch.reading():
                context = self._look(lambda: self._store.context(self._lease, max_tokens=self._settings.context_tokens))
            before = len(self.publisher.content)
            try:
                answer = self._ask(context)
            except ProviderFailed as failure:
                return Failed(content=self.publisher.content, code=failure.error_code)
            if outcome := self._judge(answer):
                return outcome
            text = self.publisher.content[before:].removeprefix("\n\n" if before else "")
            self._run_calls(self._store_round(context, answer, text))

    def finalize(self, outcome: Outcome) -> Ending:
        """Commit the end. Kept in memory and tried again until the database is back or a newer attempt has begun.

        Raises `Fenced`.
        """
        self._stopwatch.ended()
        self._settled()
        first, lease, first_token_ms = self.publisher.next_id, self._lease, self._first_token_ms()
        with traces.span("commit"):
            ending = self._insist(
                lambda: self._store.finalize(
                    lease,
                    outcome,
                    first=first,
                    usage=self._usage,
                    first_token_ms=first_token_ms,
                    stages=self._stopwatch.stages(rounds=self._answers),
                )
            )
        self._stopwatch.observe(self._claim.model, queued_s=self._claim.enqueued_age_s - self._claim.run_age_s)
        ended.tell(ending, self._claim.model)
        return ending

    def tell(self, ending: Ending) -> None:
        """Append the committed end; ring for the builder, and for the project's next message.

        What fails here, the sweeper does.
        """
        try:
            append_ending(self._store, self._workshop.log, ending)
            if self._claim.is_of_a_batch:
                return  # the sweeper calls the builders, as they have room; and nobody waited for it
            if ending.status is MessageStatus.BUILDING:
                self._workshop.doorbell.ring_builder(ending.message_id)
            following = self._store.next_in_line(ending.project_id)
        except StoreUnavailable:
            return
        if following is not None:
            self._workshop.doorbell.ring(following)

    # --- the model -----------------------------------------------------------------------------------------------

    def _ask(self, context: Context) -> Assembler:
        """One round's answer, with as many tries as the run has left. Raises `ProviderFailed` when none is."""
        request = ModelRequest(
            model=self._claim.model,
            messages=conversation(context, self._rounds, self._effects),
            tools=self._workshop.tools.specifications(),
        )
        content = self.publisher.content
        for pause_s in pauses(first_s=self._settings.retry_first_s, most_s=self._settings.retry_most_s):
            try:
                with telling.model_call(self._settings.openai_base_url, request.model) as call:
                    return self._stream(request, call)
            except ProviderFailed as failure:
                metrics.provider_failed(failure.error_code, self._claim.model)
                self._failures += 1
                if not failure.transient or self._failures >= self._settings.max_tries:
                    raise
                wait_s = pause_s if failure.retry_after_s is None else failure.retry_after_s
                if time.monotonic() + wait_s > self._deadline:
                    raise
                _log.info("message %s: %s, again in %.1f s", self._lease.message_id, failure.error_code, wait_s)
                self._tell_attempt("failed", tries=self._failures, code=failure.error_code)
                telling.provider_failed(failure.error_code, again_in_s=wait_s)
                if self.publisher.content == content:
                    self._insist(lambda: self._store.count_tries(self._lease, self._failures))
                    self._pause(wait_s)
                else:
                    self._pause(wait_s)
                    self._begin_again(content)
        raise AssertionError("the pauses have no end")

    def _stream(self, request: ModelRequest, call: telling.ModelCall) -> Assembler:
        """Stream one answer to the readers. Raises `ProviderFailed`, `Stopped`, `DeadlineOver`, `Fenced`."""
        used = len(self.publisher.content.encode())
        assembler = Assembler(
            max_text_bytes=max(0, self._settings.max_answer_bytes - used),
            max_arguments_bytes=self._settings.max_tool_arguments_bytes,
            max_calls=self._settings.max_tool_calls,
        )
        self._check()
        self._workshop.streams.run(self._until_read(self._read(request, assembler)))
        self._check()
        call.answered(assembler)
        if assembler.finish_reason is None and not assembler.is_too_long:
            raise ProviderFailed(ErrorCode.STREAM_INCOMPLETE, transient=True)
        if _is_empty(assembler) and not self._took_effect():
            raise ProviderFailed(ErrorCode.EMPTY_ANSWER, transient=True)
        return assembler

    async def _read(self, request: ModelRequest, assembler: Assembler) -> None:
        publisher = self.publisher
        between = "\n\n" if publisher.content else ""
        asked_at = time.monotonic()

        def show(outputs: Sequence[Output]) -> None:
            nonlocal between
            if outputs:
                publisher.text(between + "".join([output.content for output in outputs]))
                between = ""

        def take(data: bytes) -> bool:
            show(assembler.feed(data))
            if publisher.failure is not None:
                raise publisher.failure
            if assembler.failure is not None:
                raise assembler.failure
            return assembler.is_too_long or assembler.is_done

        async with self._workshop.streams.model.stream(request) as answer:
            self._stopwatch.connected(asked_at)
            await answer.read(take)
            if assembler.is_done:
                await answer.read_out()
            elif not assembler.is_too_long:
                show(assembler.end())
                if assembler.failure is not None:
                    raise assembler.failure

    def _judge(self, answer: Assembler) -> Outcome | None:
        """What an answer that came to its end means; None: its calls are to be run."""
        self._answers += 1
        self._count(answer.usage)
        metrics.tokens_used(answer.usage, self._claim.model)
        content = self.publisher.content
        if answer.is_too_long or answer.finish_reason == "length":
            return Failed(content=content, code=ErrorCode.LENGTH)
        if answer.finish_reason == "content_filter":
            return Failed(content=content, code=ErrorCode.CONTENT_FILTER)
        if answer.refused:
            return Failed(content=content, code=ErrorCode.REFUSAL)
        if answer.calls:
            return None
        if content:
            return Succeeded(content=content)
        return Succeeded(content=self._effects_in_words(), kind=MessageKind.TOOL_RESULT)

    def _begin_again(self, content: str) -> None:
        """The provider failed with text shown: a new attempt, whose snapshot takes that text back."""
        before, tries = self._lease, self._failures
        lease = self._insist(lambda: self._store.begin_attempt(before, tries=tries))
        telling.attempt_begun(lease, AttemptReason.PROVIDER)

        async def work() -> None:
            self.publisher.open_attempt(lease, content=content, tool_calls=self._shown_calls(), reason="attempt")
            self.publisher.status("thinking")
            self.publisher.start()

        self._workshop.streams.run(work())

    # --- the tools -----------------------------------------------------------------------------------------------

    def _store_round(self, context: Context, answer: Assembler, text: str) -> StoredRound:
        """The round's text and calls, before the first call is run."""
        number = len(self._rounds) + 1
        stored = StoredRound(
            round=number,
            text=text,
            calls=tuple(self._stored_call(number, index, draft) for index, draft in enumerate(answer.calls)),
            document_version=context.version,
            usage=answer.usage,
        )
        self._rounds.append(stored)
        content, last = joined([stored.text for stored in self._rounds]), self.publisher.last_id
        self._insist(
            lambda: self._store.store_round(
                self._lease,
                stored,
                content=content,
                last_event_id=last,
                first_token_ms=self._first_token_ms(),
            )
        )
        return stored

    def _stored_call(self, round_: int, index: int, draft: DraftCall) -> StoredCall:
        # providers repeat their ids; this one is the same whoever comes again
        message = base64.urlsafe_b64encode(self._lease.message_id.bytes).decode().rstrip("=")
        return StoredCall(
            tool_call_id=f"call_{message}_{self._lease.run}_{round_}_{index}",
            name=draft.name,
            # what was cut is no JSON any more, and so never run
            arguments=f"{draft.arguments[:_SHOWN_OF_CUT]}… (cut: too long)" if draft.too_long else draft.arguments,
        )

    def _run_calls(self, stored: StoredRound) -> None:
        """All calls of a round that have no result yet, in order."""
        made = {effect.call.tool_call_id: effect for effect in self._effects}
        version = stored.document_version
        for index, call in enumerate(stored.calls):
            effect = made.get(call.tool_call_id)
            if effect is None:
                self._check()
                with self._stopwatch.running_tool(), telling.tool_call(call.name, call.tool_call_id) as told:
                    effect = self._run_call(stored.round, index, call, version)
                    told.made(effect.call)
                metrics.tool_called(effect.call)
                self._effects.append(effect)
            version = effect.call.version or version

    def _run_call(self, round_: int, index: int, call: StoredCall, version: int) -> ToolEffect:
        started, may_act = _started(call), self._look(lambda: self._store.may_act(self._lease))

        async def tell_start() -> None:
            self.publisher.tool_start(started)
            self.publisher.status("tool_calling")
            await self.publisher.settle()

        self._workshop.streams.run(tell_start())
        situation = Situation(
            tool_call_id=call.tool_call_id,
            project_id=self._lease.project_id,
            document_version=version,
            limits=self._limits,
        )
        prepared = self._workshop.tools.prepare(call, situation) if may_act else refusal(WITHDRAWN)
        told_as = self.publisher.next_id
        effect = self._insist(
            lambda: self._store.commit_effect(self._lease, round_, index, call, prepared, last_event_id=told_as)
        )

        async def tell_result() -> None:
            self.publisher.tool_result(effect.call)
            await self.publisher.settle()

        self._workshop.streams.run(tell_result())
        if effect.change is not None:
            self._publish(notices.document_changed(self._lease.project_id, effect.change))
        if effect.job is not None:
            self._publish(notices.job_changed(effect.job))
        return effect

    def _shown_calls(self) -> tuple[ToolCall, ...]:
        """The calls as an attempt's snapshot shows them: those that were made. Another is shown when it starts."""
        return tuple(effect.call for effect in self._effects)

    def _ring_again(self) -> None:
        if self._claim.is_of_a_batch:
            self._workshop.doorbell.ring_for_batch(self._lease.message_id)
        else:
            super()._ring_again()

    def _job_id(self) -> str | None:
        """The component job that this run has started."""
        return next((effect.call.job_id for effect in self._effects if effect.call.job_id is not None), None)

    def _took_effect(self) -> bool:
        return any(effect.call.state == "succeeded" for effect in self._effects)

    def _effects_in_words(self) -> str:
        words = [effect.call.final_content for effect in self._effects if effect.call.final_content]
        return joined(
            words or [f"Done: {effect.call.name}." for effect in self._effects if effect.call.state == "succeeded"]
        )

    # --- figures -------------------------------------------------------------------------------------------------

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            self._usage = usage if self._usage is None else self._usage + usage

    def _first_token_ms(self) -> int | None:
        if self._claim.first_token_ms is not None:
            return self._claim.first_token_ms
        return self._stopwatch.first_token_ms()


def _is_empty(answer: Assembler) -> bool:
    """Neither text nor a call, and no other reason for that."""
    if answer.has_text or answer.calls or answer.is_too_long:
        return False
    return answer.finish_reason not in ("length", "content_filter")


def _started(call: StoredCall) -> ToolCall:
    return ToolCall(
        tool_call_id=call.tool_call_id,
        name=call.name,
        arguments=shown_arguments(call.arguments),
        state="started",
    )
