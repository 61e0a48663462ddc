"""JSON Schemas that users bring: checked, bounded, fetching nothing, giving nothing away."""

from __future__ import annotations

import json
import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from shared import schema_process
from shared.errors import InvalidSchema, SchemaViolation
from shared.schema import check_document, check_schema
from shared.schema_process import Checkers

_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 5},
        "scenes": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["title"],
    "additionalProperties": False,
}


def test_a_document_that_fits_passes() -> None:
    check_schema(_SCHEMA)
    check_document({"title": "a", "scenes": [{}]}, _SCHEMA)


def test_without_a_schema_everything_fits() -> None:
    check_document({"any": [1, None]}, None)


@pytest.mark.parametrize("schema", [True, {}])
def test_a_schema_may_allow_everything(schema: Any) -> None:
    check_schema(schema)
    check_document({"any": 1}, schema)


def test_every_place_that_breaks_it_is_told_by_its_pointer() -> None:
    with pytest.raises(SchemaViolation) as violated:
        check_document({"title": 1, "scenes": [{}, 2]}, _SCHEMA)
    assert {path for path, _ in violated.value.errors} == {"/title", "/scenes/1"}


def test_at_most_ten_places_are_told() -> None:
    with pytest.raises(SchemaViolation) as violated:
        check_document({"title": "a", "scenes": [1] * 50}, _SCHEMA)
    assert len(violated.value.errors) == 10


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"type": "integer"}, "canary-7f3a"),
        ({"properties": {"a": {"maxLength": 3}}}, {"a": "canary-7f3a"}),
        ({"properties": {"a": {"enum": ["b"]}}}, {"a": "canary-7f3a"}),
        ({"properties": {"a": {"const": 1}}}, {"a": {"deep": "canary-7f3a"}}),
        ({"properties": {"a": {"pattern": "^x"}}}, {"a": "canary-7f3a"}),
        ({"uniqueItems": True}, ["canary-7f3a", "canary-7f3a"]),
        ({"properties": {"a": {"format": "email"}}, "not": {}}, {"a": "canary-7f3a"}),
    ],
)
def test_no_value_of_the_document_is_shown(schema: Any, document: Any) -> None:
    with pytest.raises(SchemaViolation) as violated:
        check_document(document, schema)
    assert violated.value.errors
    assert "canary" not in f"{violated.value} {violated.value.errors}"


@pytest.mark.parametrize(
    "schema",
    [
        None,
        1,
        "text",
        [],
        {"type": "nothing"},
        {"type": 1},
        {"properties": []},
        {"$ref": "https://example.org/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "http://127.0.0.1:1/"}}},
        {"$ref": "#/nowhere"},
        {"pattern": "("},
        {"minLength": -1},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: Any) -> None:
    """An address is refused and never fetched: sockets are closed here."""
    with pytest.raises(InvalidSchema):
        check_schema(schema)


def test_a_schema_may_refer_to_itself() -> None:
    schema = {
        "$defs": {"tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}}},
        "$ref": "#/$defs/tree",
    }
    check_schema(schema)
    check_document({"a": {"b": {}}}, schema)
    with pytest.raises(SchemaViolation):
        check_document({"a": {"b": 1}}, schema)


def test_a_pattern_takes_linear_time() -> None:
    """A backtracking engine would take longer than the test may run."""
    with pytest.raises(SchemaViolation):
        check_document(["a" * 5000 + "!"], {"items": {"pattern": "^(a+)+$"}})
    with pytest.raises(InvalidSchema):
        check_schema({"pattern": "(?=look)ahead"})


def test_a_schema_nested_very_deep_is_refused_or_used_but_breaks_nothing() -> None:
    schema: dict[str, Any] = {}
    for _ in range(60):
        schema = {"properties": {"a": schema}}
    check_schema(schema)
    check_document({"a": {"a": 1}}, schema)


def _doubling(times: int) -> dict[str, Any]:
    """A few kilobytes that ask for 2 ** `times` looks at one value."""
    steps: dict[str, Any] = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/s0", "$defs": {**steps, f"s{times}": {"type": "object"}}}


_SLOW_CHECKS: list[tuple[Any, Any]] = [
    (_doubling(60), {}),
    ({"items": {"anyOf": [{"const": n} for n in range(5000)]}}, list(range(-40_000, 0))),
]


@pytest.mark.parametrize(("schema", "document"), _SLOW_CHECKS, ids=["doubling references", "many alternatives"])
def test_a_check_that_would_take_long_is_given_up_and_holds_no_other_thread_up(schema: Any, document: Any) -> None:
    """Run here, it would keep the whole process waiting for hours: every socket, every lease."""
    check_schema(schema)
    seen: list[BaseException] = []

    def check() -> None:
        try:
            check_document(document, schema)
        except SchemaViolation as error:
            seen.append(error)

    checking = threading.Thread(target=check)
    checking.start()
    turns = 0
    while checking.is_alive():
        checking.join(0.01)
        turns += 1
    assert [error.errors for error in seen if isinstance(error, SchemaViolation)] == [
        (("", "takes too long to check against the schema"),)
    ]
    assert turns > 10, "this thread came round only when the check was over"
    check_document({"title": "a"}, _SCHEMA)


def test_a_schema_that_takes_long_to_read_is_refused() -> None:
    patterns = [{"pattern": f"((a{{100}}){{100}}){{10}}{'b' * n}"} for n in range(300)]
    with pytest.raises(InvalidSchema, match="too long"):
        check_schema({"allOf": patterns})
    check_schema(_SCHEMA)


def test_more_checks_at_once_than_there_are_processes_are_all_made() -> None:
    found: list[int] = []

    def check(number: int) -> None:
        with pytest.raises(SchemaViolation) as violated:
            check_document([number] * number, {"maxItems": 0, "$comment": "at once"})
        found.append(len(violated.value.errors))

    threads = [threading.Thread(target=check, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 12


def test_a_checker_that_was_killed_is_replaced() -> None:
    checkers = Checkers()
    schema, document = b'{"type":"object"}', b"[]"
    first = checkers.ask(schema, document)
    assert first.problems
    (checker,) = checkers._idle
    checker._process.kill()
    checker._process.wait()
    assert checkers.ask(schema, document) == first
    checkers.close()


def test_a_forked_process_has_checkers_of_its_own() -> None:
    """Two processes on one pair of pipes would read each other's answers."""
    check_document({"title": "a"}, _SCHEMA)
    ours = schema_process._checkers
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"own" if schema_process._checkers is not ours else b"shared")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"own"
    os.close(reading)
    os.close(writing)


def test_what_one_schema_takes_is_not_lacking_for_the_next_one() -> None:
    """Compiled schemas are kept: a process that has grown by them ends after its answer, within its own memory."""
    checkers = Checkers()
    pids = set()
    for number in range(9):
        schema = {"$comment": str(number), "properties": {f"p{n}": {"minLength": 1} for n in range(20_000)}}
        assert checkers.ask(json.dumps(schema).encode(), b"{}").is_usable
        for checker in checkers._idle:
            pids.add(checker._process.pid)
            data_bytes = int(Path(f"/proc/{checker._process.pid}/statm").read_text().split()[5]) * os.sysconf(
                "SC_PAGESIZE"
            )
            assert data_bytes <= schema_process.GROWN_BYTES
            limits = resource.prlimit(checker._process.pid, resource.RLIMIT_DATA)
            assert limits == (schema_process.MEMORY_BYTES, schema_process.MEMORY_BYTES)
    assert len(pids) > 1
    checkers.close()
