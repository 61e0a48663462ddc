"""The operations that make one document of another. Pure.

Linear in the documents' size: ends that two lists have in common are kept, what is between them is compared place by
place. (A search for the shortest patch is quadratic: 90 s for a list that fills a document.)
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared.patching import PatchLimits, same_json
from shared.records import JsonValue


def difference(old: JsonValue, new: JsonValue, limits: PatchLimits) -> list[JsonValue]:
    """A patch within `limits` that makes `new` of `old`; one replacement of the whole where it would be longer."""
    found = _Found(limits)
    try:
        found.compare(old, new, "", 0)
    except _TooLong:
        return [{"op": "replace", "path": "", "value": new}]
    return found.operations


class _TooLong(Exception):
    """The patch is longer than it may be."""


class _Found:
    def __init__(self, limits: PatchLimits) -> None:
        self.operations: list[JsonValue] = []
        self._limits = limits
        self._bytes_left = limits.max_document_bytes

    def compare(self, old: JsonValue, new: JsonValue, path: str, segments: int) -> None:
        """`path` leads to both, in as many `segments`."""
        if same_json(old, new):
            return
        is_deep = segments >= self._limits.max_segments
        if isinstance(old, dict) and isinstance(new, dict) and not is_deep:
            self._compare_objects(old, new, path, segments + 1)
        elif isinstance(old, list) and isinstance(new, list) and not is_deep:
            self._compare_lists(old, new, path, segments + 1)
        else:
            self._put("replace", path, new)

    def _compare_objects(self, old: dict[str, Any], new: dict[str, Any], path: str, segments: int) -> None:
        for key in old:
            if key not in new:
                self._put("remove", _below(path, key))
        for key, value in new.items():
            if key in old:
                self.compare(old[key], value, _below(path, key), segments)
            else:
                self._put("add", _below(path, key), value)

    def _compare_lists(self, old: list[Any], new: list[Any], path: str, segments: int) -> None:
        shorter = min(len(old), len(new))
        start = 0
        while start < shorter and same_json(old[start], new[start]):
            start += 1
        tail = 0
        while tail < shorter - start and same_json(old[-1 - tail], new[-1 - tail]):
            tail += 1
        both = shorter - tail
        for index in range(start, both):
            self.compare(old[index], new[index], f"{path}/{index}", segments)
        for index in reversed(range(both, len(old) - tail)):
            self._put("remove", f"{path}/{index}")
        for index in range(both, len(new) - tail):
            self._put("add", f"{path}/{index}", new[index])

    def _put(self, kind: str, path: str, *value: JsonValue) -> None:
        operation = {"op": kind, "path": path, **({"value": value[0]} if value else {})}
        self._bytes_left -= len(msgspec.json.encode(operation))
        if self._bytes_left < 0 or len(self.operations) == self._limits.max_operations:
            raise _TooLong
        self.operations.append(operation)


def _below(path: str, key: str) -> str:
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
