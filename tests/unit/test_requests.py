"""Untrusted fields, queries and headers: what is let through is what was meant, and nothing refused is said again."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from werkzeug.datastructures import Headers, MultiDict

from api import requests
from api.refusals import InvalidFields, InvalidHeader, InvalidQuery
from shared.errors import InvalidJson, NotFound, Refused
from shared.lifecycle import OnBusy

CANARY = "canary-7f3a"


# --- fields -----------------------------------------------------------------------------------------------------


class Sample(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    content: Annotated[str, msgspec.Meta(min_length=1)]
    on_busy: OnBusy = OnBusy.QUEUE
    numbers: list[int] = []


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({}, "/content"),
        ({"content": ""}, "/content"),
        ({"content": 1}, "/content"),
        ({"content": "x", CANARY: 1}, ""),
        ({"content": "x", "onBusy": CANARY}, "/onBusy"),
        ({"content": "x", "onBusy": f"{CANARY} - at `$.content`"}, "/onBusy"),
        ({"content": "x", f"{CANARY}` - at `$.content": 1}, ""),
        ({"content": "x", "numbers": [1, CANARY]}, "/numbers/1"),
        ([CANARY], ""),
        (CANARY, ""),
        (None, ""),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_by_its_place_and_its_value_is_not_said_again(value: Any, path: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        requests.parse(value, Sample)
    ((found, message),) = caught.value.errors
    assert found == path
    assert message
    assert CANARY not in repr(caught.value.errors) + caught.value.detail


class SampleQuery(msgspec.Struct, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    status: OnBusy | None = None


def test_a_query_is_read_as_its_types_and_others_parameters_are_ignored() -> None:
    read = requests.parse_query(MultiDict([("limit", "7"), ("status", "queue"), ("ticket", "x")]), SampleQuery)
    assert (read.limit, read.status) == (7, OnBusy.QUEUE)
    assert requests.parse_query(MultiDict(), SampleQuery).limit == 50


@pytest.mark.parametrize("value", ["0", "201", "-1", "1_0", " 5", "x", "", "1e3", "٣", CANARY])
def test_a_query_that_is_not_valid_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        requests.parse_query(MultiDict([("limit", value)]), SampleQuery)
    ((path, message),) = caught.value.errors
    assert path == "/limit"
    assert CANARY not in message


class EverySort(msgspec.Struct, kw_only=True):
    number: int | None = None
    before: UUID | None = None
    stream: bool | None = None
    after: Annotated[str, msgspec.Meta(pattern=r"^[1-9]-[0-9]$")] | None = None
    since: requests.Moment | None = None
    status: OnBusy | None = None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("number", text) for text in ("null", "01", "+1", "1.0", "1e1", "1_0", " 1", "٣", "1\n", "-0", "9" * 5000)),
        *(("before", text) for text in ("null", "0198c2a46f3e7c119b1a5d0c3c1f2e77", "x")),
        *(("stream", text) for text in ("null", "1", "0", "TRUE", "yes", "")),
        *(("after", text) for text in ("1-0\n", "1-0\x00", "null")),
        *(
            ("since", text)
            for text in ("null", "0.5", "1795673906", "2026-11-26", "2026-13-01T00:00:00Z", "2026-11-26T00:00:00")
        ),
        *(("status", text) for text in ("null", "QUEUE", "queue\r")),
    ],
)
def test_a_parameter_is_written_in_one_way(name: str, value: str) -> None:
    """What some readers take for a value and others do not, and line breaks that a pattern's `$` lets pass."""
    with pytest.raises(InvalidQuery) as caught:
        requests.parse_query(MultiDict([(name, value)]), EverySort)
    assert [place for place, _ in caught.value.errors] == [f"/{name}"]


def test_parameters_of_every_sort_are_read() -> None:
    given = {
        "number": "-1",
        "before": "0198C2A4-6f3e-7c11-9b1a-5d0c3c1f2e77",
        "stream": "true",
        "after": "1-0",
        "since": "2026-11-26T00:00:00Z",
        "status": "queue",
    }
    read = requests.parse_query(MultiDict(given.items()), EverySort)
    assert (read.number, str(read.before), read.stream, read.after) == (-1, given["before"].lower(), True, "1-0")
    assert requests.parse_query(MultiDict(), EverySort) == EverySort()


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(InvalidQuery):
        requests.parse_query(MultiDict([("limit", "1"), ("limit", "2")]), SampleQuery)


# --- path and headers -------------------------------------------------------------------------------------------


def test_an_id_is_a_uuid_as_rfc_9562_writes_it() -> None:
    text = "0197A1B2-C3D4-7E5F-8A6B-7C8D9E0F1A2B"
    assert str(requests.path_id(text)) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0197a1b2c3d47e5f8a6b7c8d9e0f1a2b",
        "{0197a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b}",
        "x" * 36,
        "٠" * 36,
        "0197a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b\n",
    ],
)
def test_what_is_no_id_names_nothing(text: str) -> None:
    with pytest.raises(NotFound):
        requests.path_id(text)


def test_an_idempotency_key_is_visible_ascii() -> None:
    assert requests.idempotency_key(Headers({"Idempotency-Key": "k" * 200})) == "k" * 200
    assert requests.idempotency_key(Headers()) is None


@pytest.mark.parametrize("key", ["", "k" * 201, "two words", "ké", "tab\t"])
def test_another_idempotency_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidHeader):
        requests.idempotency_key(Headers({"Idempotency-Key": key}))


@pytest.mark.parametrize(("tag", "version"), [('"7"', 7), ('"0"', 0), ("*", None), (' "12" ', 12)])
def test_if_match_is_one_strong_tag_or_any(tag: str, version: int | None) -> None:
    assert requests.if_match(Headers({"If-Match": tag})) == version


@pytest.mark.parametrize(
    "tag", ["7", 'W/"7"', '"7", "8"', '"x"', '"-1"', '"07"', '""', "", f'"{CANARY}"', f'"{"9" * 30}"']
)
def test_another_if_match_is_refused(tag: str) -> None:
    with pytest.raises(InvalidHeader) as caught:
        requests.if_match(Headers({"If-Match": tag}))
    assert CANARY not in caught.value.detail


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=10", 10),
        ("respond-async; wait = 5", 5),
        ('WAIT="3"', 3),
        ("wait=0", 0),
        ("wait=100000", requests.LONGEST_WAIT_S),
        ("wait=x", None),
        ("wait=-1", None),
        ("wait", None),
        ("return=minimal", None),
        ("", None),
    ],
)
def test_a_wait_is_honoured_up_to_a_limit_and_other_preferences_are_ignored(prefer: str, seconds: float | None) -> None:
    """RFC 7240: a preference that is not understood is no error."""
    assert requests.wait_s(Headers({"Prefer": prefer})) == seconds


def test_every_refusal_is_of_the_callers_family() -> None:
    assert all(issubclass(kind, Refused) for kind in (InvalidJson, InvalidFields, InvalidQuery, InvalidHeader))
