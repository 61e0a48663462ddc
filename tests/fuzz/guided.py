"""Fuzzing led by what code is reached (atheris), of what reads strangers' bytes. Not part of the tests: for a release.

    .venv/bin/pip install atheris
    PYTHONPATH=. .venv/bin/python tests/fuzz/guided.py json --seconds 120

`json` is the strict reader, `event` the codec of events, `patch` a patch on a document, `frames` a socket's inbound side.
A finding ends it with the input's bytes; `--seed` repeats a run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from typing import Final

import atheris

with atheris.instrument_imports(include=["shared", "api", "jsonpatch", "jsonpointer", "wsproto", "json"]):
    import msgspec

    from api.inbound import Closed, Inbound, Misbehaved
    from shared import events, strict_json
    from shared.errors import InvalidJson, PatchRejected
    from shared.patching import PatchLimits, apply_patch, oversized, same_json

_LIMITS: Final = PatchLimits(max_operations=50, max_document_bytes=2_000)
_SEEDS: Final[dict[str, list[bytes]]] = {
    "json": [
        b'{"a":[1,-2.5e3,"\\u00e9\\ud83d\\ude00",true,null]}',
        b'{"a":1,"a":2}',
        b'"\\u0000"',
        b"[[[[]]]]",
        b"1e999",
    ],
    "event": [
        b'{"type":"delta","id":"1-2","messageId":"m","ts":1,"content":"x"}',
        b'{"type":"snapshot","id":"2-0","messageId":"m","ts":1,"content":"","status":"pending","toolCalls":[],"reason":"attempt"}',
        b'{"type":"finalized","id":"1-9","messageId":"m","ts":1,"status":"success"}',
    ],
    "patch": [
        b'[{"a":[1,{"b":2}]},[{"op":"move","from":"/a/0","path":"/a/1/b"},{"op":"copy","from":"","path":"/c"}]]',
        b'[[1,2],[{"op":"add","path":"/-","value":3},{"op":"test","path":"/0","value":1},{"op":"remove","path":"/~01"}]]',
    ],
    "frames": [
        b'\x81\x8f\x00\x00\x00\x00{"type":"ping"}',
        b"\x88\x82\x00\x00\x00\x00\x03\xe8",
        b"\x01\x81\x00\x00\x00\x00x\x80\x80\x00\x00\x00\x00",
    ],
}


def read_json(data: bytes) -> None:
    """What is read is what Python's own reader reads, and can be written and read again."""
    try:
        value = strict_json.load(data, max_depth=20)
    except InvalidJson:
        return
    assert value == json.loads(data)
    written = msgspec.json.encode(value)
    assert same_json(strict_json.load(written, max_depth=20), value)


def read_event(data: bytes) -> None:
    try:
        event = events.decode(data)
    except (ValueError, RecursionError):
        return
    assert events.decode(events.encode(event)) == event


def patch(data: bytes) -> None:
    """What is done keeps the limits and can be undone; what is refused changes nothing."""
    try:
        document, operations = msgspec.convert(strict_json.load(data, max_depth=70), tuple[object, list[object]])
    except (InvalidJson, msgspec.ValidationError):
        return
    if oversized(document, _LIMITS):
        return
    before = msgspec.json.encode([document, operations])
    try:
        done = apply_patch(document, operations, _LIMITS)
    except PatchRejected:
        done = None
    assert msgspec.json.encode([document, operations]) == before
    if done is not None:
        assert oversized(done.document, _LIMITS) is None
        roomy = PatchLimits()
        assert same_json(apply_patch(done.document, done.inverse, roomy).document, document)


def hear(data: bytes) -> None:
    """The same, whole and byte by byte."""
    assert _heard([data]) == _heard([data[at : at + 1] for at in range(len(data))])


def _heard(pieces: list[bytes]) -> list[object]:
    inbound = Inbound(max_bytes=1_000, max_frames_per_s=10_000)
    found: list[object] = []
    for piece in pieces:
        for said in inbound.feed(piece, 1.0):
            found.append(said)
            if isinstance(said, Misbehaved | Closed):
                return found
    return found


_TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "json": read_json,
    "event": read_event,
    "patch": patch,
    "frames": hear,
}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("target", choices=_TARGETS)
    given.add_argument("--seconds", type=int, default=120)
    given.add_argument("--seed", type=int, default=1)
    asked = given.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(_SEEDS[asked.target]):
            with open(f"{corpus}/{number}", "wb") as file:
                file.write(seed)
        options = [
            f"-max_total_time={asked.seconds}",
            f"-seed={asked.seed}",
            "-max_len=2000",
            "-print_final_stats=1",
            corpus,
        ]
        atheris.Setup([sys.argv[0], *options], _TARGETS[asked.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
