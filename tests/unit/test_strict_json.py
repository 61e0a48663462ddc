"""Untrusted JSON: what is let through is what was meant, and nothing refused is said again."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import strict_json
from shared.errors import InvalidJson

DEPTH = 64

_LARGEST = 2**63 - 1
_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-_LARGEST, _LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4), max_leaves=30
)


def load(text: str | bytes, max_depth: int = DEPTH) -> Any:
    return strict_json.load(
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text, max_depth=max_depth
    )


@given(value=_values, ascii_only=st.booleans())
def test_every_json_value_that_is_sane_is_read_as_it_was_written(value: Any, ascii_only: bool) -> None:
    """With escapes and without; types too: 1 stays an integer, 1.0 a float."""
    read = load(json.dumps(value, ensure_ascii=ascii_only))
    assert read == value
    assert repr(read) == repr(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nul",
        "[1,]",
        "{'a': 1}",
        '"\t"',
        "[1] [2]",
        '{"a": 1} trailing',
        "\ufeff{}",
        "01",
        "[" * 100_000,
        '"' * 10_001,
        '"' + '\\"' * 500_000,
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidJson):
        load(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '[{"b": {"a": 1, "\\u0061": 2}}]',
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "[-1e400]",
        "9223372036854775808",
        "-9223372036854775809",
        "1" * 5000,
        '"a\\u0000b"',
        '{"\\u0000": 1}',
        '["\\ud800"]',
        '["\\udc00\\ud800"]',
        '{"\\udfff": 1}',
        '"\ud800"',
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_what_readers_of_json_disagree_on_is_refused(text: str) -> None:
    """Keys twice, NaN, numbers that overflow, NUL and lone surrogates: as characters and as escapes."""
    with pytest.raises(InvalidJson):
        load(text)


def test_escaped_pairs_and_escaped_backslashes_are_not_taken_for_what_is_refused() -> None:
    assert load(r'["\ud83d\ude00", "\\u0000", "\\ud800", "\u00e9"]') == ["😀", r"\u0000", r"\ud800", "é"]


@pytest.mark.parametrize("encoded", [b"\xff", b'"\xc3\x28"', '"é"'.encode("latin-1"), '"é"'.encode("utf-16")])
def test_what_is_not_utf8_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidJson):
        load(encoded)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_is_counted_before_anything_is_built(opening: str, closing: str) -> None:
    """Exactly the limit is let through, one more is refused, and a hundred thousand more are no worse."""
    times = DEPTH // (opening.count("[") + opening.count("{"))
    assert load(opening * times + "1" + closing * times) is not None
    for more in (times + 1, 100_000):
        with pytest.raises(InvalidJson):
            load(opening * more + "1" + closing * more)


def test_brackets_in_strings_are_no_nesting() -> None:
    assert load(json.dumps(["[" * 1000, '\\"[[[' * 1000, "{" * 1000]))


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    """What is read can be encoded, which is what a database and a reader need."""
    try:
        value = load(raw)
    except InvalidJson:
        return
    assert b"\x00" not in msgspec.json.encode(value)


def test_floats_stay_finite() -> None:
    assert load("1e308") == 1e308
    assert not math.isinf(load("-1.7976931348623157e308"))
