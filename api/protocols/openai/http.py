"""The calls: each parses, asks what every other route asks, and answers in OpenAI's words.

Whoever is to wait for an answer is admitted as a reader before anything is stored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from flask import Response as HttpResponse
from flask import request

from api import announcing, messages, requests, throttle
from api.auth import Caller
from api.calls import EVENT_STREAM, Answer, Calls, Header
from api.close_codes import CloseCode
from api.messages import IDEMPOTENCY_KEY, NewMessage
from api.protocols import late, streams
from api.protocols.openai import asked, numbers, objects, refusals
from api.protocols.openai.asked import PROJECT_HEADER, PROJECT_MODEL, NewCompletion, NewResponse, ResponseQuery, Wanted
from api.protocols.openai.numbers import Told
from api.protocols.openai.objects import Completion, InputItems, InputMessage, InputText, Model, Models, Response
from api.protocols.openai.refusals import WORDS, Refusal
from api.protocols.openai.story import continues
from api.protocols.openai.telling import RESTARTS, ChunkTelling, ResponseTelling, failure_of
from api.refusals import InvalidFields, InvalidHeader
from api.relay import Admission, MessageTarget, TooManyReaders
from api.services import Services
from shared import errors, transcript
from shared.errors import LogUnavailable
from shared.events import decode, decode_all
from shared.lifecycle import FINAL, Role
from shared.records import Message, Principal
from shared.transcript import Transcript

calls = Calls()

PROJECT = Header(name=PROJECT_HEADER, description="The project's id, where nothing else names it.")
CANCEL_WAIT_S: Final = 4.0
"""How long the answer to a cancel waits for the end; that takes a second, or as long as this while Redis is away."""
MOST_PROJECTS: Final = 50
"""Of the newest, that are listed as models."""
_RECENT_MESSAGES: Final = 20
_RETRIES: Final = re.compile(r"[0-9]{1,3}")
_TIMEOUTS: Final = ("X-Stainless-Read-Timeout", "X-Stainless-Timeout")
_DEFAULT_TIMEOUT_S: Final = 600.0
_LONGEST_TIMEOUT_S: Final = 3600.0
_BACK_OFF_S: Final = 60.0
_SUBMIT_REFUSALS: Final = (
    InvalidHeader,
    errors.NotFound,
    errors.Forbidden,
    errors.IdempotencyMismatch,
    errors.TooManyUnfinished,
    errors.QuotaExceeded,
    TooManyReaders,
)


# --- responses --------------------------------------------------------------------------------------------------


@calls.add(
    "POST",
    "/v1/openai/responses",
    body=NewResponse,
    headers=(IDEMPOTENCY_KEY, PROJECT),
    answers={200: Response},
    refusals=_SUBMIT_REFUSALS,
    words=WORDS,
)
def create_response(services: Services, *, principal: Caller, body: NewResponse) -> Answer | HttpResponse:
    """Send a message and have its answer as a response of OpenAI's Responses protocol.

    With `stream` as Server-Sent Events; with `background` at once, as it is then; else once it is final.
    """
    wanted = asked.of_response(body, request.headers, services.settings.models)
    if wanted.previous is not None:
        previous = _answer_of(services, principal, wanted.previous)
        if wanted.project_id not in (None, previous.project_id):
            raise Refusal("previous_response_id is of another project.", param="previous_response_id")
        wanted = Wanted(text=wanted.text, project_id=previous.project_id, model=wanted.model)
    if body.background and not body.stream:
        return Answer(status=200, body=objects.of_row(_submit(services, principal, wanted, "input")))
    admission = services.relay.admit_caller(principal, throttle.place())
    message = _submit_admitted(services, principal, wanted, "input", admission)
    if body.stream:
        return _stream(services, principal, message, ResponseTelling(message), admission)

    def finish(code: CloseCode | None) -> Answer:
        return _finished(services, principal, message, code)

    return late.answer(services, _target(message, principal), finish, admission=admission)


@calls.add(
    "GET",
    "/v1/openai/responses/{responseId}",
    query=ResponseQuery,
    answers={200: Response},
    refusals=(TooManyReaders,),
    words=WORDS,
)
def get_response(
    services: Services, *, principal: Caller, response_id: UUID, query: ResponseQuery
) -> Answer | HttpResponse:
    """A response as it is now; with `stream` its events, from the first or behind the number `starting_after`."""
    message = _answer_of(services, principal, response_id)
    if not query.stream:
        return Answer(status=200, body=objects.of_row(message))
    if request.method == "HEAD":
        return HttpResponse(mimetype=EVENT_STREAM)
    return _stream(services, principal, message, _resumed(services, message, query.starting_after), None)


@calls.add(
    "POST",
    "/v1/openai/responses/{responseId}/cancel",
    answers={200: Response},
    refusals=(errors.Forbidden, TooManyReaders),
    words=WORDS,
)
def cancel_response(services: Services, *, principal: Caller, response_id: UUID) -> Answer | HttpResponse:
    """End a response, whose text so far is kept. One that has ended is answered as it is."""
    message = _answer_of(services, principal, response_id)
    admission = services.relay.admit_caller(principal, throttle.place())
    try:
        announcing.cancel(services.store, services.log, services.doorbell, principal, message.id)
    except errors.AlreadyFinal:
        admission.release()
        return Answer(status=200, body=objects.of_row(services.store.message(principal, message.id)))
    except BaseException:
        admission.release()
        raise

    def finish(code: CloseCode | None) -> Answer:
        return _finished(services, principal, message, code)

    return late.answer(services, _target(message, principal), finish, admission=admission, timeout_s=CANCEL_WAIT_S)


@calls.add("GET", "/v1/openai/responses/{responseId}/input_items", answers={200: InputItems}, words=WORDS)
def list_input_items(services: Services, *, principal: Principal, response_id: UUID) -> Answer:
    """What a response answers: the user's message."""
    message = _answer_of(services, principal, response_id)
    if message.reply_to is None:
        raise errors.NotFound
    said = services.store.message(principal, message.reply_to)
    item = InputMessage(id=f"msg_{said.id}", content=(InputText(text=said.content),))
    return Answer(status=200, body=InputItems(data=(item,), first_id=item.id, last_id=item.id))


@calls.add("DELETE", "/v1/openai/responses/{responseId}", answers={}, refusals=(errors.Forbidden,), words=WORDS)
def delete_response(services: Services, *, principal: Principal, response_id: UUID) -> Answer:
    """Refused to everybody: a response is a message of its project, and goes when that is deleted."""
    _answer_of(services, principal, response_id)
    raise errors.Forbidden("A response is a message of its project, and goes when that is deleted.")


# --- completions and models -------------------------------------------------------------------------------------


@calls.add(
    "POST",
    "/v1/openai/chat/completions",
    body=NewCompletion,
    headers=(IDEMPOTENCY_KEY, PROJECT),
    answers={200: Completion},
    refusals=_SUBMIT_REFUSALS,
    words=WORDS,
)
def create_completion(services: Services, *, principal: Caller, body: NewCompletion) -> HttpResponse:
    """Send a message and have its answer's text, as a chat completion; with `stream` as chunks.

    The project's messages are the conversation: of those that are sent the last counts.
    """
    wanted = asked.of_completion(body, request.headers, services.settings.models)
    admission = services.relay.admit_caller(principal, throttle.place())
    message = _submit_admitted(services, principal, wanted, "messages", admission)
    if body.stream:
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return _stream(services, principal, message, ChunkTelling(message, include_usage=include_usage), admission)

    def finish(code: CloseCode | None) -> Answer:
        return _completed(services, principal, message, code)

    return late.answer(services, _target(message, principal), finish, admission=admission)


@calls.add("GET", "/v1/openai/models", answers={200: Models}, words=WORDS)
def list_models(services: Services, *, principal: Principal) -> Answer:
    """The models that may be asked for, and each of the newest projects as `chatrelay:<projectId>`, owned by its name."""
    projects, _ = services.store.projects(principal, limit=MOST_PROJECTS)
    models = [
        *(Model(id=name, owned_by="chatrelay") for name in (PROJECT_MODEL, *services.settings.models)),
        *(
            Model(
                id=f"{PROJECT_MODEL}:{project.id}",
                owned_by=project.name,
                created=int(project.created_at.timestamp()),
            )
            for project in projects
        ),
    ]
    return Answer(status=200, body=Models(data=tuple(models)))


# --- submitting -------------------------------------------------------------------------------------------------


def _submit(services: Services, principal: Principal, wanted: Wanted, param: str) -> Message:
    """The assistant's message that answers `wanted`: made now, or before where this request is a repetition."""
    project_id, key = wanted.project_id, requests.idempotency_key(request.headers)
    assert project_id is not None
    if key is None and (known := _sent_before(services, principal, project_id, wanted.text)) is not None:
        return known
    try:
        body = NewMessage(content=wanted.text, model=wanted.model)
        return messages.submit(services, principal, project_id, body, key=key).assistant_message
    except InvalidFields as error:
        raise InvalidFields([(path.replace("/content", f"/{param}"), words) for path, words in error.errors]) from None


def _submit_admitted(
    services: Services, principal: Principal, wanted: Wanted, param: str, admission: Admission
) -> Message:
    try:
        return _submit(services, principal, wanted, param)
    except BaseException:
        admission.release()
        raise


def _sent_before(services: Services, principal: Principal, project_id: UUID, text: str) -> Message | None:
    """The answer to what a client's earlier try of this request has sent.

    OpenAI's clients repeat a request that was not answered, and say so, but send no key with it. So where one is a
    repetition, the newest message of the user's in the project is taken for what it repeats, if it has the same text
    and is no older than the client's tries can be.
    """
    said = request.headers.get("X-Stainless-Retry-Count", "")
    retries = int(said) if _RETRIES.fullmatch(said) else 0
    if not retries:
        return None
    found, _ = services.store.messages(principal, project_id, limit=_RECENT_MESSAGES)
    mine = next((one for one in found if one.role is Role.USER and one.author == principal.user), None)
    oldest = datetime.now(UTC) - timedelta(seconds=min(retries * (_timeout_s() + _BACK_OFF_S), _LONGEST_TIMEOUT_S))
    if mine is None or mine.content != text or mine.created_at < oldest:
        return None
    return next((one for one in found if one.reply_to == mine.id), None)


def _timeout_s() -> float:
    """After which the client takes a request for lost."""
    for name in _TIMEOUTS:
        try:
            return min(max(float(request.headers[name]), 0.0), _LONGEST_TIMEOUT_S)
        except (KeyError, ValueError):
            continue
    return _DEFAULT_TIMEOUT_S


# --- answering --------------------------------------------------------------------------------------------------


def _answer_of(services: Services, principal: Principal, message_id: UUID) -> Message:
    """Raises `NotFound`, also for a user's message: that is no response."""
    message = services.store.message(principal, message_id)
    if message.role is not Role.ASSISTANT:
        raise errors.NotFound
    return message


def _target(message: Message, principal: Principal) -> MessageTarget:
    """From the newest attempt's start, wherever the client goes on: a telling has to know the text."""
    return MessageTarget(message_id=message.id, project_id=message.project_id, user_id=principal.user_id)


def _stream(
    services: Services,
    principal: Caller,
    message: Message,
    telling: ResponseTelling | ChunkTelling,
    admission: Admission | None,
) -> HttpResponse:
    """Owns `admission`."""
    if message.status in FINAL:
        if admission is not None:
            admission.release()
        body = b"".join([*telling.begin(), *telling.tell_row(message)])
        return HttpResponse(body, mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
    return streams.answer(
        services,
        principal,
        _target(message, principal),
        telling,
        admission=admission,
        breaks_off=isinstance(telling, ResponseTelling),
        retry=b"",
    )


def _resumed(services: Services, message: Message, starting_after: int | None) -> ResponseTelling:
    """Raises `Refusal` for what is the number of no event."""
    if starting_after is None:
        return ResponseTelling(message)
    if not 0 <= starting_after <= numbers.LARGEST:
        raise Refusal("starting_after is the number of no event.", param="starting_after")
    told = numbers.read(starting_after)
    told = told._replace(line=numbers.attempt_of(told.line, message.attempt))
    return ResponseTelling(message, told=told, shown=_shown(services, message, told))


def _shown(services: Services, message: Message, told: Told) -> str | None:
    """The text that the client was told of, where the row or the log still has it."""
    if not told.chars:
        return ""
    if message.status in FINAL and message.attempt == told.line:
        text: str | None = message.content
    else:
        try:
            text = _logged(services, message.id, told)
        except LogUnavailable:
            text = None
    return None if text is None or len(text) < told.chars else text[: told.chars]


def _logged(services: Services, message_id: UUID, told: Told) -> str | None:
    """The text of the attempt that the client was told of, or what the next one goes on with. Raises `LogUnavailable`."""
    entries = services.log.attempt(message_id, told.line)
    if entries and not entries[0].id.n:
        return transcript.fold(Transcript(), decode_all(entries.payloads)).content
    following = services.log.attempt(message_id, told.line + 1)
    opening = decode(following[0].payload) if following else None
    return opening.content if opening is not None and continues(opening, told.chars) else None


def _finished(services: Services, principal: Principal, message: Message, code: CloseCode | None) -> Answer:
    """The response at last, or as it is where its time is up."""
    if code is CloseCode.RESTART:
        return _restarts()
    try:
        return Answer(status=200, body=objects.of_row(services.store.message(principal, message.id)))
    except Exception as error:
        return refusals.answer(error)


def _completed(services: Services, principal: Principal, message: Message, code: CloseCode | None) -> Answer:
    """The completion; an answer that did not come to one is an error, which is not repeated for it."""
    if code is CloseCode.RESTART:
        return _restarts()
    try:
        row = services.store.message(principal, message.id)
    except Exception as error:
        return refusals.answer(error)
    if row.status not in FINAL:
        return refusals.answer(
            Refusal("The answer takes longer than is waited here; it goes on.", code="timeout", status=504)
        )
    ending = objects.ending_of(row)
    reason = objects.finish_reason(ending)
    if reason is None:
        failure, words = failure_of(ending)
        return refusals.final(refusals.answer(Refusal(words, code=failure, status=502)))
    return Answer(status=200, body=objects.completion(row, reason))


def _restarts() -> Answer:
    """Clients come back by themselves, and are told what they were waiting for."""
    code, words = RESTARTS
    made = refusals.answer(Refusal(words, code=code, status=503))
    return Answer(status=made.status, body=made.body, headers={"Retry-After": "1"})
