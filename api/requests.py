"""Untrusted bytes to types: the one place where a request's body, query and headers are read.

Pure but for `read_body`. What is refused is named by place and rule; nothing of what was sent is said again.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from typing import IO, Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request

from api.refusals import (
    BodyTooLarge,
    InvalidFields,
    InvalidHeader,
    InvalidQuery,
    UnsupportedMediaType,
)
from shared import names
from shared.errors import InvalidJson, NotFound
from shared.records import JsonValue

T = TypeVar("T")
Struct = TypeVar("Struct", bound=msgspec.Struct)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339, with its zone."""

LONGEST_WAIT_S: Final = 120.0
"""Of ``Prefer: wait``."""
PARAMETER_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""No parameter has one; and the ``$`` of a pattern lets a line break at the end pass."""
_PIECE_BYTES: Final = 64 * 1024
_DISCARDED_BYTES: Final = 4 * 1024 * 1024
"""Of a body that is too large so much is read and forgotten: the client then sees the refusal, not a reset."""


# --- the body ---------------------------------------------------------------------------------------------------


def read_body(request: Request, media_type: str, *, max_bytes: int) -> bytes:
    """The body as it came, at most `max_bytes` of it, whether or not its length was announced.

    Raises `UnsupportedMediaType`, also for one that is compressed, `BodyTooLarge`, and `InvalidJson` for one that breaks
    off. (werkzeug's own limit cuts a chunked body off silently.)
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != media_type or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"The body must be {media_type} in UTF-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    try:
        if (request.content_length or 0) <= max_bytes:
            raw = _read(request.stream, max_bytes + 1)
            if len(raw) <= max_bytes:
                if len(raw) < (request.content_length or 0):
                    raise InvalidJson("The body is shorter than its Content-Length.")
                return raw
    except (OSError, ClientDisconnected):
        raise InvalidJson("The body broke off.") from None
    try:
        _read(request.stream, _DISCARDED_BYTES)
    except (OSError, ClientDisconnected):
        pass  # it is too large all the same; what is still to come is the web server's
    raise BodyTooLarge(f"The body has more than {max_bytes} bytes.")


def _read(stream: IO[bytes], most_bytes: int) -> bytes:
    pieces: list[bytes] = []
    while most_bytes > 0 and (piece := stream.read(min(most_bytes, _PIECE_BYTES))):
        pieces.append(piece)
        most_bytes -= len(piece)
    return b"".join(pieces)


def parse(value: JsonValue, kind: type[T]) -> T:
    """`value` as `kind`. Raises `InvalidFields`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidFields([_problem(str(error), kind)]) from None


_fields: Final = functools.cache(msgspec.structs.fields)
"""To look a kind's fields up takes longer than to read a query."""


def parse_query(arguments: MultiDict[str, str], kind: type[Struct]) -> Struct:
    """The fields of `kind` out of a query; other parameters are ignored. Raises `InvalidQuery`."""
    given: dict[str, str] = {}
    for field in _fields(kind):
        values = arguments.getlist(field.encode_name)
        if len(values) > 1:
            raise InvalidQuery([(f"/{field.encode_name}", "is given more than once")])
        if values and _CONTROL.search(values[0]):
            raise InvalidQuery([(f"/{field.encode_name}", "has a control character")])
        if values:
            given[field.encode_name] = values[0]
    try:
        query = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidQuery([_problem(str(error), kind)]) from None
    for field in _fields(kind):
        name = field.encode_name
        if name in given and not _is_written_so(getattr(query, field.name), given[name]):
            raise InvalidQuery([(f"/{name}", "is not one of the values allowed")])
    return query


def _is_written_so(value: Any, text: str) -> bool:
    """Whether `text` is the one way to write `value`: msgspec also takes ``01``, ``TRUE``, and ``null`` for nothing."""
    match value:
        case None:
            return False
        case bool():
            return text == ("true" if value else "false")
        case int() | UUID():
            return text.lower() == str(value)
        case datetime():
            return text[4:5] == "-"  # not the number of seconds since 1970
        case _:
            return True


def in_utc(moment: datetime | None, refusal: InvalidFields | InvalidQuery) -> datetime | None:
    """The same moment in UTC: Postgres reads no zone beyond 16 hours. Raises `refusal` where UTC has no such year."""
    try:
        return None if moment is None else moment.astimezone(UTC)
    except OverflowError:
        raise refusal from None


_UNKNOWN_FIELD: Final = "Object contains unknown field `"
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(\w+)`")
_INVALID_ENUM: Final = re.compile(r"Invalid enum value .*", re.DOTALL)
_PLACE: Final = re.compile(r" - at `\$([^`]*)`$")


def _problem(message: str, kind: type) -> tuple[str, str]:
    """(JSON Pointer, message) of a `msgspec.ValidationError`, without the field names and values that were sent."""
    if message.startswith(_UNKNOWN_FIELD):  # its name may hold anything; our bodies have no types inside their fields
        return "", f"has a field that is not known; known are {', '.join(_field_names(kind))}"
    place = ""
    if (match := _PLACE.search(message)) is not None:
        place = re.sub(r"\.(\w+)|\[(\d+)\]", lambda part: f"/{part[1] or part[2]}", match[1])
        message = message[: match.start()]
    if (match := _MISSING_FIELD.fullmatch(message)) is not None:
        return f"{place}/{match[1]}", "is required"
    if _INVALID_ENUM.fullmatch(message):
        return place, "is not one of the values allowed"
    return place, message


def _field_names(kind: type) -> list[str]:
    return [field.encode_name for field in _fields(kind)]


# --- the path and the headers -----------------------------------------------------------------------------------

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_VERSION_TAG: Final = re.compile(r'"(0|[1-9][0-9]{0,8})"')
_WAIT: Final = re.compile(r'wait\s*=\s*"?([0-9]{1,6})"?', re.IGNORECASE)


def path_id(text: str) -> UUID:
    """The UUID in an address. Raises `NotFound`: what is no id names nothing."""
    if _UUID.fullmatch(text) is None:
        raise NotFound
    return UUID(text)


def path_version(text: str) -> int:
    """The number of a version in an address. Raises `NotFound`."""
    if _VERSION.fullmatch(text) is None:
        raise NotFound
    return int(text)


def path_user(text: str) -> str:
    """A user's name in an address. Raises `InvalidFields`."""
    if not names.is_user_name(text):
        raise InvalidFields([("/user", f"must have {names.USER_NAME_RULE}")])
    return text


def idempotency_key(headers: Headers) -> str | None:
    """Raises `InvalidHeader` unless it is 1 to 200 visible ASCII characters."""
    key = headers.get("Idempotency-Key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise InvalidHeader("Idempotency-Key must be 1 to 200 visible ASCII characters.")
    return key


def if_match(headers: Headers) -> int | None:
    """The document's version that the caller expects; None for any. Raises `InvalidHeader`."""
    tag = headers.get("If-Match")
    if tag is None or tag.strip() == "*":
        return None
    if (match := _VERSION_TAG.fullmatch(tag.strip())) is None:
        raise InvalidHeader('If-Match must be one strong entity tag, "<version>", or *.')
    return int(match[1])


def wait_s(headers: Headers) -> float | None:
    """Seconds of ``Prefer: wait=<s>`` (RFC 7240), at most `LONGEST_WAIT_S`; None where there is none to honour."""
    for preference in re.split("[,;]", headers.get("Prefer", "")):
        if (match := _WAIT.fullmatch(preference.strip())) is not None:
            return min(float(match[1]), LONGEST_WAIT_S)
    return None
