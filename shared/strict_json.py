"""JSON from strangers, read in one way: bodies and frames of clients, the arguments of a model's calls. Pure.

Stricter than RFC 8259 where readers of JSON differ or a database chokes. What is refused is named by its rule; nothing of
what was sent is said again. How many bytes there may be, callers see to before they read them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from shared.errors import InvalidJson

NOT_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
"""What neither Postgres nor UTF-8 has a place for."""
_INTEGER_BITS: Final = 63
"""JSON integers fit a signed 64-bit one: beyond that, programs disagree on what they read."""
_INTEGER_DIGITS: Final = 20
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string, also one without an end: nothing is looked at twice, whatever is sent."""
_NO_BRACKET: Final = re.compile(r"[^][{}]+")


def load(raw: bytes, *, max_depth: int, what: str = "The body") -> Any:
    """The JSON value of `raw`. Raises `InvalidJson`, in words about `what`.

    UTF-8 without a BOM, no key twice in an object, no NUL and no lone surrogate (neither as an escape), no NaN, no integer
    beyond 64 bits, no number that overflows, at most `max_depth` containers inside one another. Takes time and memory in
    proportion to `raw`.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidJson(f"{what} is not UTF-8.") from None
    if _depth(text) > max_depth:
        raise InvalidJson(f"{what} is nested deeper than {max_depth}.")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{what} is not JSON: line {error.lineno}, column {error.colno}.") from None
    if "\\u" in text:
        _check_strings(value)
    return value


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings, found without building anything."""
    deepest = depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidJson("An object has the same key twice.")
    return made


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= _INTEGER_DIGITS else None
    if value is None or value.bit_length() > _INTEGER_BITS:
        raise InvalidJson("A number is too large: an integer has at most 64 bits.")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise InvalidJson("A number is too large.")
    return value


def _constant(_: str) -> NoReturn:
    raise InvalidJson("NaN and Infinity are not JSON.")


def _check_strings(value: Any) -> None:
    left = [value]
    while left:
        at = left.pop()
        if isinstance(at, str):
            if NOT_TEXT.search(at):
                raise InvalidJson("A string has a NUL (U+0000) or a lone surrogate.")
        elif isinstance(at, dict):
            left.extend(at)
            left.extend(at.values())
        elif isinstance(at, list):
            left.extend(at)
