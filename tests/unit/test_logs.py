"""Log lines: what they bear, and that nothing which a user, a provider or a secret's owner wrote gets into one."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
import uvloop
from sqlalchemy.exc import DBAPIError

from shared import log_context, logs
from shared.errors import PatchRejected
from shared.lifecycle import ErrorCode
from worker.model import ProviderFailed

CANARY: Final = "canary-7f3a"
PATIENCE_S: Final = 30.0


class Lines:
    """What a process that logs would have written."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lines]]:
    """Logs as a process does, on a standard error of its own; all of it is undone."""
    root = logging.getLogger()
    loggers = [
        root,
        *(logging.getLogger(name) for name in (*logs.OURS, "openai", "gunicorn.error", "celery.app.trace")),
    ]
    levels = [(logger, logger.level) for logger in loggers]
    handlers, hooks = root.handlers, (sys.excepthook, threading.excepthook)

    def configured(style: logs.Format = "json", level: logs.Level = "DEBUG") -> Lines:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("worker", style=style, level=level)
        return Lines(stream)

    yield configured
    logging.captureWarnings(False)
    root.handlers = handlers
    sys.excepthook, threading.excepthook = hooks
    for logger, level in levels:
        logger.setLevel(level)


def raised(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_a_line_tells_when_who_and_what_it_is_about(configure: Callable[..., Lines]) -> None:
    """Whoever writes it: the fields are those of docs/logs-and-traces.md."""
    lines = configure()
    message_id = uuid4()
    with log_context.about(message_id=message_id, attempt=2):
        logging.getLogger("worker.turn").info("message went to a newer attempt %d", 3)
        logs.get_logger("shared.ended").info("message ended", status="success")
    first, second = lines.all
    assert first.keys() == {
        *("timestamp", "level", "logger", "event", "process", "pid"),
        *("message_id", "attempt"),
    }
    assert (first["event"], first["logger"], first["level"], first["process"]) == (
        "message went to a newer attempt 3",
        "worker.turn",
        "info",
        "worker",
    )
    assert first["message_id"] == second["message_id"] == str(message_id)
    assert (second["event"], second["status"], second["attempt"]) == ("message ended", "success", 2)


def test_a_scope_follows_its_thread_to_the_event_loop_and_what_is_noted_there_is_seen_here(
    configure: Callable[..., Lines],
) -> None:
    """A turn's SQL is on its own thread and its stream on the loop's: both are in one scope."""
    lines = configure()
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    log = logging.getLogger("worker.streams")

    async def work() -> None:
        log.info("on the loop")
        await asyncio.get_running_loop().create_task(later())

    async def later() -> None:
        log_context.note(attempt=2)
        log.info("in a task of the loop")

    try:
        with log_context.about(message_id="m", attempt=1):
            asyncio.run_coroutine_threadsafe(work(), loop).result(PATIENCE_S)
            log.info("back on the thread")
        log.info("beyond")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()
    assert [(line["event"], line.get("message_id"), line.get("attempt")) for line in lines.all] == [
        ("on the loop", "m", 1),
        ("in a task of the loop", "m", 2),
        ("back on the thread", "m", 2),
        ("beyond", None, None),
    ]


QUOTING: Final[dict[str, Callable[[], BaseException]]] = {
    "plain": lambda: raised(ValueError(CANARY)),
    "key": lambda: raised(KeyError(CANARY)),
    "statement": lambda: raised(DBAPIError(f"INSERT {CANARY}", {"content": CANARY}, Exception(CANARY))),
    "cause": lambda: raised(RuntimeError("harmless"), cause=raised(ValueError(CANARY))),
    "of ours": lambda: raised(PatchRejected(CANARY, index=0)),
    "file": lambda: raised(FileNotFoundError(2, CANARY, CANARY)),
    "group": lambda: raised(ExceptionGroup(CANARY, [ValueError(CANARY), KeyError(CANARY)])),
    "syntax": lambda: raised(SyntaxError(CANARY, (CANARY, 1, 1, CANARY))),
}


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("quoting", QUOTING)
def test_an_exceptions_text_is_never_told(configure: Callable[..., Lines], quoting: str, style: logs.Format) -> None:
    """Neither where it is raised, nor where it stands in a line as a value, nor where it is the line."""
    lines = configure(style)
    error = QUOTING[quoting]()
    error.add_note(CANARY)
    log = logging.getLogger("shared.store")
    log.error("it broke", exc_info=error)
    log.error("it broke: %s %r", error, error)
    log.error("it broke: %(error)s", {"error": error})
    log.error(error)
    logs.get_logger("api").error("it broke", exc_info=error)
    try:
        raise error
    except BaseException:
        log.exception("it broke")
    told = lines.text
    assert CANARY not in told
    assert type(error).__qualname__ in told
    assert "in raised" in told, "the place is told"


def test_an_exceptions_codes_are_told() -> None:
    """They say what is wrong, and quote nothing."""
    assert logs.told(ConnectionRefusedError(111, CANARY)) == "ConnectionRefusedError errno=ECONNREFUSED"
    failed = ProviderFailed(ErrorCode.PROVIDER_AUTH, transient=False)
    assert logs.told(failed) == "worker.model.ProviderFailed code=provider_auth"


def test_what_libraries_say_for_debugging_is_not_heard(configure: Callable[..., Lines]) -> None:
    """The provider's package then says whole requests. Also where it set its own level, as OPENAI_LOG has it do."""
    lines = configure(level="DEBUG")
    for name in ("openai._base_client", "httpx2", "kombu", "sqlalchemy.engine.Engine"):
        logger = logging.getLogger(name)
        before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.debug("Request options: %s", CANARY)
        if name in ("openai._base_client", "httpx2"):
            logger.info("HTTP Request: POST %s", CANARY)
        logger.setLevel(before)
    assert lines.text == ""
    logging.getLogger("worker.turn").debug("ours")
    logging.getLogger("celery.worker").info("theirs")
    assert [line["event"] for line in lines.all] == ["ours", "theirs"]


def test_the_level_is_of_everybody(configure: Callable[..., Lines]) -> None:
    lines = configure(level="WARNING")
    for name in ("worker.turn", "celery.worker"):
        logging.getLogger(name).info("less")
        logging.getLogger(name).warning("more")
    assert [line["event"] for line in lines.all] == ["more", "more"]


@pytest.mark.parametrize(
    ("logger", "line", "left"),
    [
        (
            "gunicorn.error",
            f"Invalid request from ip=10.0.0.1: Invalid HTTP request line: 'GET /?ticket={CANARY}'",
            "Invalid request from ip=10.0.0.1",
        ),
        ("gunicorn.error", f"Error handling request GET /v1/x?ticket={CANARY}", "Error handling request"),
        ("celery.app.trace", f"Task chatrelay.run_message[1] raised unexpected: {CANARY}\n{CANARY}", None),
        ("py.warnings", f"x.py:1: UserWarning: careful\n  call({CANARY!r})", "x.py:1: UserWarning: careful"),
    ],
)
def test_lines_of_libraries_are_cut_before_what_they_quote(
    configure: Callable[..., Lines], logger: str, line: str, left: str | None
) -> None:
    lines = configure()
    logging.getLogger(logger).error("%s", line)
    (told,) = lines.all
    assert told["event"] == (left or "Task chatrelay.run_message[1] raised unexpected")


def test_a_task_whose_error_nobody_took_is_told_without_its_text(configure: Callable[..., Lines]) -> None:
    lines = configure()

    async def main() -> None:
        async def fails() -> None:
            raise ValueError(CANARY)

        task = asyncio.get_running_loop().create_task(fails())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(main())
    (told,) = lines.all
    assert told["event"] == "Task exception was never retrieved"
    assert "ValueError" in told["exception"]
    assert CANARY not in lines.text


def test_an_error_that_ends_a_thread_is_a_line(configure: Callable[..., Lines]) -> None:
    lines = configure()
    logs.catch_what_nobody_caught()

    def fails() -> None:
        raise ValueError(CANARY)

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join(PATIENCE_S)
    (told,) = lines.all
    assert told["event"] == "a thread ended by an error"
    assert "in fails" in told["exception"]
    assert CANARY not in lines.text


def test_for_a_person_a_line_is_text(configure: Callable[..., Lines]) -> None:
    lines = configure("text")
    with log_context.about(message_id=UUID(int=7)):
        logging.getLogger("worker.turn").warning("message left: the database is away")
    assert "message left: the database is away" in lines.text
    assert f"message_id={UUID(int=7)}" in lines.text
    assert not lines.text.startswith("{")


@pytest.mark.parametrize("given", ["abc-1.2_3", "Root=1-67891233-abcdef012345678912345678", "a" * 128])
def test_a_request_may_bring_its_id(given: str) -> None:
    assert log_context.sane_request_id(given) == given


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", "line\nbreak", '"', "{}", "é", None, 7, ["a"]])
def test_an_id_that_is_none_is_not_taken(given: object) -> None:
    assert log_context.sane_request_id(given) is None
