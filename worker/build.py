"""The story of one component job, as one builder lives it: claim, write, check, bundle, end.

Read `run_build` from top to bottom. The message is what is held, in an attempt of its own; the job's row tells how far it is.
Nothing that the model wrote is run.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any, Final
from uuid import UUID

from shared import ended, metrics, notices, traces
from shared.closing import append_ending
from shared.errors import Fenced, StoreUnavailable
from shared.events import Usage
from shared.lifecycle import ErrorCode, MessageKind
from shared.metrics import AttemptReason
from shared.outcomes import Cancelled, Failed, Outcome, Succeeded
from shared.records import BuildClaim, Ending, JobPhase
from shared.store import Built
from worker import telling
from worker.assembler import Assembler
from worker.compiler import MAX_SOURCE_BYTES, CompileFailed, Compiler
from worker.held import DeadlineOver, Held, Stopped, Workshop, claimed
from worker.leases import Hold, Stop
from worker.model import ModelRequest, ProviderFailed
from worker.prompts import build_request, repair_request, source_in
from worker.retry import pauses

_log = logging.getLogger(__name__)

MOST_REPAIRS: Final = 3
"""How often the model is told what is wrong with what it wrote."""
_AROUND_BYTES: Final = 64 * 1024
"""Of an answer, beside the source."""
_MOST_REASON_CHARS: Final = 2000


def run_build(workshop: Workshop, compiler: Compiler, message_id: UUID) -> None:
    """Build the message's component, if it is there to be built. Whatever happens here, the next builder can begin anew."""
    lease_s, max_tries = workshop.settings.lease_s, workshop.settings.max_tries
    taken = claimed(
        workshop, lambda owner: workshop.store.claim_build(message_id, owner, lease_s=lease_s, max_tries=max_tries)
    )
    if taken is None:
        return
    claim, claimed_at = taken
    metrics.ATTEMPTS.add(AttemptReason.BUILD)
    with telling.attempt("build", claim.lease, model=claim.model, claimed_at=claimed_at):
        _live(workshop, compiler, claim, claimed_at)


def _live(workshop: Workshop, compiler: Compiler, claim: BuildClaim, claimed_at: float) -> None:
    """The message was taken; from here to its end, or to what keeps this builder from it."""
    message_id = claim.lease.message_id
    with (
        workshop.leases.hold(claim.lease, claimed_at=claimed_at) as hold,
        Build(workshop, compiler, claim, hold) as build,
    ):
        try:
            build.open()
            outcome = build.make()
        except Stopped as stop:
            match stop.reason:
                case Stop.LOST:
                    metrics.LEASES_LOST.add()
                    return
                case Stop.DRAIN:
                    build.hand_back()
                    return
                case Stop.CANCEL:
                    outcome = Cancelled(content=claim.content)
        except DeadlineOver:
            outcome = Failed(content=claim.content, code=ErrorCode.DEADLINE)
        except Fenced:
            metrics.LEASES_LOST.add()
            _log.info("the build of message %s went to a newer attempt", message_id)
            return
        except StoreUnavailable:
            _log.warning("the build of message %s left: the database is away", message_id)
            return
        try:
            ending = build.finalize(outcome)
        except Fenced:
            metrics.LEASES_LOST.add()
            _log.info("the build of message %s was ended by a newer attempt", message_id)
            return
    build.tell(ending)


class Build(Held):
    """One attempt at a component, or a few where the log is lost."""

    def __init__(self, workshop: Workshop, compiler: Compiler, claim: BuildClaim, hold: Hold) -> None:
        super().__init__(
            workshop,
            claim.lease,
            hold,
            deadline=time.monotonic() + workshop.settings.run_deadline_s,
            content=claim.content,
            tool_calls=tuple(effect.call for effect in claim.effects),
            status="building",
            model=claim.model,
        )
        self._compiler = compiler
        self._claim = claim
        self._failures = claim.tries
        self._written = claim.job.tries
        self._spent: Usage | None = None
        self._built: Built | None = None
        self._phase: tuple[JobPhase, float, int] | None = None
        """With when it was entered, by `time.monotonic` and by `time.time_ns`."""

    # --- the chapters, in order ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Tell readers that somebody builds."""
        claim = self._claim

        async def work() -> None:
            self.publisher.open_attempt(
                claim.lease,
                content=claim.content,
                tool_calls=tuple(effect.call for effect in claim.effects),
                reason="attempt",
            )
            self.publisher.status("building")
            self.publisher.start()

        self._workshop.streams.run(work())
        self._publish(notices.started(claim.lease, claim.model))

    def make(self) -> Outcome:
        """Have it written, check and bundle it; what is wrong with it is told to the model, a few times.

        Raises `Stopped`, `DeadlineOver`, `Fenced`, `StoreUnavailable`.
        """
        job, content = self._claim.job, self._claim.content
        messages = build_request(job.name, job.effect_description)
        for repairs in range(MOST_REPAIRS + 1):
            self._written += 1
            self._enter("writing")
            try:
                answer = self._ask(messages)
            except ProviderFailed as failure:
                return Failed(content=content, code=failure.error_code)
            if answer.refused:
                return Failed(content=content, code=ErrorCode.REFUSAL)
            if answer.finish_reason == "content_filter":
                return Failed(content=content, code=ErrorCode.CONTENT_FILTER)
            if answer.is_too_long or answer.finish_reason == "length":
                return Failed(content=content, code=ErrorCode.LENGTH)
            source = source_in(answer.text)
            try:
                self._built = self._compile(source)
            except CompileFailed as failed:
                _log.info("job %s, source %d: %d problems", job.id, repairs + 1, len(failed.problems))
                problems = [str(problem) for problem in failed.problems]
                messages += repair_request(answer.text, problems)
            else:
                return Succeeded(content=content or f"Built the component {job.name}.", kind=MessageKind.TOOL_RESULT)
        reason = f"{ErrorCode.BUILD_FAILED.detail}\n" + "\n".join(problems)
        return Failed(content=content, code=ErrorCode.BUILD_FAILED, reason=reason[:_MOST_REASON_CHARS])

    def finalize(self, outcome: Outcome) -> Ending:
        """Commit the end, with the component where there is one. Raises `Fenced`."""
        self._leave_phase()
        self._settled()
        first, lease, before, spent = self.publisher.next_id, self._lease, self._claim.usage, self._spent
        usage = before + spent if before and spent else before or spent
        with traces.span("commit"):
            ending = self._insist(
                lambda: self._store.finalize(
                    lease,
                    outcome,
                    first=first,
                    usage=usage,
                    first_token_ms=self._claim.first_token_ms,
                    spent_tokens=spent.total_tokens if spent else 0,
                    built=self._built,
                )
            )
        ended.tell(ending, self._claim.model)
        return ending

    def tell(self, ending: Ending) -> None:
        """Append the committed end. What fails here, the sweeper does."""
        try:
            append_ending(self._store, self._workshop.log, ending)
        except StoreUnavailable:
            return

    def _ring_again(self) -> None:
        self._workshop.doorbell.ring_builder(self._lease.message_id)

    # --- one source ----------------------------------------------------------------------------------------------

    def _enter(self, phase: JobPhase) -> None:
        """The job has come to this phase. Raises what `make` does."""
        self._leave_phase()
        self._check()
        self._phase = phase, time.monotonic(), time.time_ns()
        job_id = self._claim.job.id
        job = self._insist(lambda: self._store.write_phase(self._lease, job_id, phase, tries=self._written))
        self._publish(notices.job_changed(job))

    def _leave_phase(self) -> None:
        if self._phase is not None:
            (phase, since, began_at_ns), self._phase = self._phase, None
            traces.past(
                phase, began_at_ns, {"chatrelay.job.id": str(self._claim.job.id), "chatrelay.try": self._written}
            )
            metrics.BUILD_PHASE.observe(time.monotonic() - since, phase)

    def _compile(self, source: str) -> Built:
        """Raises `CompileFailed`."""
        self._enter("checking")
        self._compiler.check(source)
        self._enter("bundling")
        bundle = self._compiler.bundle(source)
        self._check()
        return Built(source=source, source_sha256=_sha256(source), bundle=bundle, bundle_sha256=_sha256(bundle))

    def _ask(self, messages: list[dict[str, Any]]) -> _Answer:
        """One source, with as many tries as the build has left. Raises `ProviderFailed` when none is."""
        request = ModelRequest(model=self._claim.model, messages=messages, tools=())
        for pause_s in pauses(first_s=self._settings.retry_first_s, most_s=self._settings.retry_most_s):
            answer = _Answer()
            try:
                self._check()
                with telling.model_call(self._settings.openai_base_url, request.model) as call:
                    self._workshop.streams.run(self._until_read(self._read(request, answer)))
                    self._check()
                    call.answered(answer)
                    self._count(answer.usage)
                    metrics.tokens_used(answer.usage, self._claim.model)
                    if answer.finish_reason is None and not answer.is_too_long:
                        raise ProviderFailed(ErrorCode.STREAM_INCOMPLETE, transient=True)
                    if not answer.text.strip() and answer.finish_reason not in ("length", "content_filter"):
                        raise ProviderFailed(ErrorCode.EMPTY_ANSWER, transient=True)
            except ProviderFailed as failure:
                metrics.provider_failed(failure.error_code, self._claim.model)
                self._failures += 1
                if not failure.transient or self._failures >= self._settings.max_tries:
                    raise
                wait_s = pause_s if failure.retry_after_s is None else failure.retry_after_s
                if time.monotonic() + wait_s > self._deadline:
                    raise
                self._tell_attempt("failed", tries=self._failures, code=failure.error_code)
                telling.provider_failed(failure.error_code, again_in_s=wait_s)
                self._insist(lambda: self._store.count_tries(self._lease, self._failures))
                self._pause(wait_s)
            else:
                return answer
        raise AssertionError("the pauses have no end")

    async def _read(self, request: ModelRequest, answer: _Answer) -> None:
        """The whole answer; readers are told phases, not text."""

        def take(data: bytes) -> bool:
            answer.take(data)
            if answer.failure is not None:
                raise answer.failure
            return answer.is_too_long or answer.is_done

        async with self._workshop.streams.model.stream(request) as incoming:
            await incoming.read(take)
            if answer.is_done:
                await incoming.read_out()
            elif not answer.is_too_long:
                answer.take_end()
                if answer.failure is not None:
                    raise answer.failure

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            self._spent = usage if self._spent is None else self._spent + usage


class _Answer(Assembler):
    """An answer whose text is wanted whole."""

    def __init__(self) -> None:
        super().__init__(max_text_bytes=MAX_SOURCE_BYTES + _AROUND_BYTES, max_arguments_bytes=0, max_calls=0)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def take(self, data: bytes) -> None:
        self._pieces += (output.content for output in self.feed(data))

    def take_end(self) -> None:
        self._pieces += (output.content for output in self.end())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
