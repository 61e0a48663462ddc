"""RFC 6902 on a project's document, bounded, with the inverse of what was done. Pure.

jsonpatch applies the operations; what it leaves open is closed here: sizes and depths after every operation (a patch of
950 bytes of copies makes 28 MB), the pointer's length, a root that stops being a container, `test` telling 1 from true,
and error texts, which must not quote the document.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import jsonpatch
import jsonpointer
import msgspec

from shared.errors import PatchRejected
from shared.records import JsonValue

_FIELDS: Final = {
    "add": {"value"},
    "remove": set[str](),
    "replace": {"value"},
    "move": {"from"},
    "copy": {"from"},
    "test": {"value"},
}
_MISSING: Final = object()


class PatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_operations: int = 1000
    max_segments: int = 16
    max_depth: int = 64
    max_document_bytes: int = 256 * 1024


class Patched(msgspec.Struct, frozen=True, kw_only=True):
    """The new document, and the operations that make the old one of it again: not many more bytes than a document may have.

    Where they would be (a patch of copies and replacements takes a value away with each operation) it is one replacement of
    the whole.
    """

    document: JsonValue
    inverse: list[JsonValue]


def apply_patch(document: JsonValue, operations: list[JsonValue], limits: PatchLimits) -> Patched:
    """All of `operations` in order on a copy of `document`. Raises `PatchRejected` with the failing one's index."""
    if len(operations) > limits.max_operations:
        raise PatchRejected(f"a patch has at most {limits.max_operations} operations")
    result = copy.deepcopy(document)
    inverse: list[JsonValue] = []
    inverse_bytes = 0
    for index, operation in enumerate(operations):
        problem = _malformed(operation, limits)
        if problem is not None:
            raise PatchRejected(problem, index=index)
        try:
            undo = _undo(result, operation)
            if operation["op"] == "test":
                _test(result, operation, index)
            else:
                result = jsonpatch.JsonPatch([operation]).apply(result, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
            raise PatchRejected(_why(operation), index=index) from None
        except (TypeError, KeyError, ValueError, IndexError, RecursionError):
            raise PatchRejected(_why(operation), index=index) from None
        inverse_bytes += len(msgspec.json.encode(undo))
        if inverse_bytes <= limits.max_document_bytes:
            inverse[:0] = undo
        problem = oversized(result, limits)
        if problem is not None:
            raise PatchRejected(problem, index=index)
    if inverse_bytes > limits.max_document_bytes:
        inverse = [{"op": "replace", "path": "", "value": copy.deepcopy(document)}]
    return Patched(document=result, inverse=inverse)


def replay(document: JsonValue, operations: list[JsonValue]) -> JsonValue:
    """`document` after operations that are known to apply, such as a stored inverse. Neither is the caller's any more."""
    return jsonpatch.JsonPatch(operations).apply(document, in_place=True)


def oversized(document: JsonValue, limits: PatchLimits) -> str | None:
    """Why `document` can't be a project's document, or None."""
    if not isinstance(document, dict | list):
        return "the document must be an object or an array"
    if _deeper_than(document, limits.max_depth):
        return f"the document is nested deeper than {limits.max_depth}"
    if len(msgspec.json.encode(document)) > limits.max_document_bytes:
        return f"the document is larger than {limits.max_document_bytes} bytes"
    return None


def same_json(left: JsonValue, right: JsonValue) -> bool:
    """Equality of JSON values: 1 is 1.0 and is not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same_json(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def _malformed(operation: JsonValue, limits: PatchLimits) -> str | None:
    if not isinstance(operation, dict):
        return "an operation is an object"
    kind = operation.get("op")
    if not isinstance(kind, str) or kind not in _FIELDS:
        return "op must be one of add, remove, replace, move, copy, test"
    for field in ("path", *sorted(_FIELDS[kind])):
        if field not in operation:
            return f"{kind} needs {field}"
    for field in ("path", "from"):
        pointer = operation.get(field, "")
        if not isinstance(pointer, str):
            return f"{field} must be a JSON Pointer"
        if pointer.count("/") > limits.max_segments:
            return f"{field} has more than {limits.max_segments} segments"
        try:
            jsonpointer.JsonPointer(pointer)
        except jsonpointer.JsonPointerException:
            return f"{field} must be a JSON Pointer"
    if "value" in operation and _deeper_than(operation["value"], limits.max_depth):
        return f"value is nested deeper than {limits.max_depth}"
    if kind == "move" and operation["path"].startswith(operation["from"] + "/"):
        return "a value cannot be moved into itself"
    return None


def _why(operation: dict[str, Any]) -> str:
    """What failed, in none of the patch's words or the document's: its index says which operation it was."""
    place = "its from or its path" if operation["op"] in ("move", "copy") else "its path"
    return f"{operation['op']} does not apply at {place}"


def _test(document: JsonValue, operation: dict[str, Any], index: int) -> None:
    if not same_json(jsonpointer.resolve_pointer(document, operation["path"]), operation["value"]):
        raise PatchRejected("test failed: another value stands at its path", index=index)


def _undo(document: JsonValue, operation: dict[str, Any]) -> list[JsonValue]:
    """The operations that take `operation` back, computed on the document before it."""
    kind, path = operation["op"], operation["path"]
    match kind:
        case "test":
            return []
        case "remove" | "replace":
            old = copy.deepcopy(jsonpointer.resolve_pointer(document, path))
            return [{"op": "add" if kind == "remove" else "replace", "path": path, "value": old}]
        case "add" | "copy":
            return [_undo_add(document, path)]
        case _:
            source = operation["from"]
            if source == path:
                return []
            without = jsonpatch.JsonPatch([{"op": "remove", "path": source}]).apply(document)
            undone = _undo_add(without, path)
            if source.startswith(f"{path}/"):
                return _undo_rise(document, source, path, undone)
            back = {"op": "move", "from": undone["path"], "path": source}
            return [back] if undone["op"] == "remove" else [back, {**undone, "op": "add"}]


def _undo_rise(document: JsonValue, source: str, path: str, undone: dict[str, Any]) -> list[JsonValue]:
    """What takes back a move to a place above its source: no move does, since nothing is moved into itself."""
    if undone["op"] == "remove":
        value = copy.deepcopy(jsonpointer.resolve_pointer(document, source))
        return [undone, {"op": "add", "path": source, "value": value}]
    return [{"op": "replace", "path": path, "value": copy.deepcopy(jsonpointer.resolve_pointer(document, path))}]


def _undo_add(document: JsonValue, path: str) -> dict[str, Any]:
    if not path:
        return {"op": "replace", "path": "", "value": copy.deepcopy(document)}
    pointer = jsonpointer.JsonPointer(path)
    parent, last = pointer.to_last(document)
    if isinstance(parent, list):
        where = len(parent) if last == "-" else last
        return {"op": "remove", "path": jsonpointer.JsonPointer.from_parts([*pointer.parts[:-1], where]).path}
    known = parent.get(last, _MISSING)
    if known is _MISSING:
        return {"op": "remove", "path": path}
    return {"op": "replace", "path": path, "value": copy.deepcopy(known)}


def _deeper_than(value: JsonValue, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for container in level
            if isinstance(container, dict | list)
            for child in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return True
