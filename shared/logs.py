"""How every process logs: one line for each thing that happened, as JSON or for a person, on its standard error.

All of it goes through the standard library's loggers, whoever writes: `configure` gives them one handler. Nothing that a
user or a provider wrote, and no secret, gets into a line: an exception is told by its type, its place and its codes, never
by its text, which may quote a statement's parameters or a provider's answer; and what libraries say for debugging, which is
whole requests, is not heard at any level.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import msgspec
import structlog

from shared import log_context, traces
from shared.errors import ChatrelayError

Format: TypeAlias = Literal["json", "text"]
Level: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

OURS: Final = ("api", "worker", "shared", "ops", "dev", "migrations", "chatrelay")
"""The first parts of our loggers' names."""
_TALKATIVE: Final = (
    # two lines for each bell
    "celery.worker.strategy",
    "celery.app.trace",
    # each plugin that is loaded
    "alembic.runtime.plugins",
    # addresses, and at their debug level whole requests
    "aiohttp",
    "httpcore2",
    "httpx2",
    "openai",
    "urllib3",
)
"""Libraries that are heard from `WARNING` up; the others from `INFO`."""
_CUT: Final = (
    # a request line or header that could not be read, and the address of one that broke, with its query
    ("gunicorn.error", re.compile(r"(Invalid request from ip=[^:]*).*", re.DOTALL), r"\1"),
    ("gunicorn.error", re.compile(r"(Error handling request)\b.*", re.DOTALL), r"\1"),
    # what its exception says, which is told beside it
    ("celery.app.trace", re.compile(r"(Task [^:]*).*", re.DOTALL), r"\1"),
    # a task or future with the text of what ended it; a line of source
    ("asyncio", re.compile(r"(.*)\n.*", re.DOTALL), r"\1"),
    ("py.warnings", re.compile(r"([^\n]*)\n.*", re.DOTALL), r"\1"),
)
"""Which libraries' lines may quote what they were handling, and what is left of them."""
_MOST_CAUSES: Final = 10

_process = "chatrelay"


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """For lines with fields: ``log.info("request", status=200)``. Others are the standard library's as everywhere."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=(structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter),
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return cast(structlog.stdlib.BoundLogger, wrapped.bind())


def configure(process: str, *, style: Format | None, level: Level) -> None:
    """Have every logger of this process write so. `style` None: for a person where standard error is a terminal.

    Harmless again, also in a process that was forked from one in which it was done.
    """
    global _process
    _process = process
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(style or ("text" if sys.stderr.isatty() else "json")))
    handler.addFilter(_is_heard)
    root = logging.getLogger()
    root.handlers = [handler]
    number = logging.getLevelNamesMapping()[level]
    root.setLevel(max(number, logging.INFO))
    for name in OURS:
        logging.getLogger(name).setLevel(number)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


def configure_by(environment: Mapping[str, str], process: str) -> None:
    """For the command line, whose settings nobody checks: what is no format or level is as if unset. From `WARNING` up."""
    style, level = environment.get("CHATRELAY_LOG_FORMAT"), environment.get("CHATRELAY_LOG_LEVEL")
    configure(
        process,
        style=cast(Format, style) if style in get_args(Format) else None,
        level=cast(Level, level) if level in get_args(Level) else "WARNING",
    )


def catch_what_nobody_caught() -> None:
    """Errors that end a thread or the process are log lines, and their texts as secret as elsewhere."""
    log = logging.getLogger("chatrelay.process")

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("the process ends by an error", exc_info=error)

    def of_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None and not issubclass(told.exc_type, SystemExit):
            log.error("a thread ended by an error", exc_info=told.exc_value)

    sys.excepthook = of_process
    threading.excepthook = of_thread


# --- what is heard ------------------------------------------------------------------------------------------------


def _is_heard(record: logging.LogRecord) -> bool:
    """Libraries may set their loggers' levels themselves, from the environment say."""
    if record.name.partition(".")[0] in OURS:
        return True
    talkative = any(record.name == name or record.name.startswith(f"{name}.") for name in _TALKATIVE)
    return record.levelno >= (logging.WARNING if talkative else logging.INFO)


def told(error: BaseException) -> str:
    """An exception in words that quote nothing: its type, and the codes that it bears."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return " ".join([name, *(f"{fact}={value}" for fact, value in _codes(error))])


def _codes(error: BaseException) -> Iterator[tuple[str, object]]:
    if isinstance(error, ChatrelayError):
        # an error code of ours is an enum beside the class's own word
        yield "code", getattr(error, "error_code", error.code)
    if isinstance(error, OSError) and isinstance(error.errno, int):
        yield "errno", errno.errorcode.get(error.errno, error.errno)
    state = getattr(error, "pgcode", None)
    if isinstance(state, str) and re.fullmatch(r"[0-9A-Z]{5}", state):
        yield "sqlstate", state
    for name in ("status_code", "returncode"):
        if isinstance(number := getattr(error, name, None), int):
            yield name, number


def traceback_of(error: BaseException) -> str:
    """Where an exception, and what led to it, was raised. Without any text that it bears."""
    return "\n".join(_trace(error, _MOST_CAUSES))


def _trace(error: BaseException, left: int) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and left:
        yield from _trace(cause, left - 1)
        yield "which led to:"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__))
        yield from (line.rstrip("\n") for line in frames.format())
    yield told(error)
    if isinstance(error, BaseExceptionGroup) and left:
        for number, one in enumerate(error.exceptions, start=1):
            yield f"of which {number}:"
            yield from _trace(one, left - 1)


# --- how it is written --------------------------------------------------------------------------------------------


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(_without_texts(record))


def _without_texts(record: logging.LogRecord) -> logging.LogRecord:
    """The record with each exception that stands in it in the words of `told`."""
    quiet = logging.makeLogRecord(record.__dict__)
    if isinstance(quiet.msg, BaseException):
        quiet.msg, quiet.args = told(quiet.msg), ()
    if isinstance(quiet.args, Mapping):
        quiet.args = {name: _quiet(value) for name, value in quiet.args.items()}
    elif quiet.args:
        quiet.args = tuple(map(_quiet, quiet.args))
    quiet.exc_text = None  # another formatter's, with the exception's text
    if not isinstance(quiet.msg, dict):
        text = quiet.getMessage()
        for logger, pattern, left in _CUT:
            if record.name == logger:
                text = pattern.sub(left, text)
        quiet.msg, quiet.args = text, ()
    return quiet


def _quiet(value: object) -> object:
    return told(value) if isinstance(value, BaseException) else value


def _formatter(style: Format) -> logging.Formatter:
    Formatter = structlog.stdlib.ProcessorFormatter
    processors: list[Any] = [_with_facts, Formatter.remove_processors_meta]
    if style == "json":
        processors.append(structlog.processors.JSONRenderer(serializer=_json))
    else:
        colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        processors += [
            _for_a_person,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
        ]
    return _Formatter(processors=processors)


def _with_facts(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    record: logging.LogRecord = event["_record"]
    line = {
        "timestamp": datetime.fromtimestamp(record.created, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event", ""),
        "process": _process,
        "pid": record.process,
        **log_context.facts(),
        **traces.ids(),
        **event,
    }
    error = line.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        line["exception"] = traceback_of(error)
    return line


def _for_a_person(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`chatrelay dev` and who looks at a terminal know which process it is."""
    del event["process"], event["pid"]
    return event


def _json(event: Mapping[str, Any], **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
