"""RFC 6902 on a project's document, bounded, with the inverse of what was done. Pure.

jsonpatch applies the operations; what it leaves open is closed here: sizes and depths after every operation (a patch of
950 bytes of copies makes 28 MB), how much is carried about in between (one of 44,000 took 47 s of CPU), the pointer's
length, a root that stops being a container, `test` telling 1 from true, and error texts, which must not quote the document.
"""

from __future__ import annotations

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


_MOST_CARRIED: Final = 8
"""Documents' worth of what one patch may copy, and move to deeper places and to places above."""


def apply_patch(document: JsonValue, operations: list[JsonValue], limits: PatchLimits) -> Patched:
    """All of `operations` in order on a copy of `document`. Raises `PatchRejected` with the failing one's index.

    Takes time in proportion to the document, the operations, and what these may carry (`_MOST_CARRIED`).
    """
    if len(operations) > limits.max_operations:
        raise PatchRejected(f"a patch has at most {limits.max_operations} operations")
    draft = _Draft(document, limits)
    for index, operation in enumerate(operations):
        try:
            draft.apply(operation)
        except _NotDone as not_done:
            raise PatchRejected(not_done.why, index=index) from None
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
            raise PatchRejected(_why(operation), index=index) from None
        except (TypeError, KeyError, ValueError, IndexError, RecursionError):
            raise PatchRejected(_why(operation), index=index) from None
    if operations and (problem := oversized(draft.document, limits)):  # it may have been before, by former limits
        raise PatchRejected(problem, index=len(operations) - 1)
    return Patched(document=draft.document, inverse=draft.inverse_to(document))


class _NotDone(Exception):
    """An operation cannot be done; `why` is safe to show."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class _Draft:
    """A document while a patch is applied.

    To walk or to copy the whole document after each operation would let a small patch take minutes. So only what an operation
    puts in or takes out is looked at: what came with the patch once, what was in the document as far as `_carry` allows.
    """

    def __init__(self, document: JsonValue, limits: PatchLimits) -> None:
        self._limits = limits
        encoded = msgspec.json.encode(document)
        self.document: JsonValue = msgspec.json.decode(encoded)
        self._bytes = len(encoded)
        """The document's, or more: what a removed key and its comma took is not taken off. Counted anew at the limit."""
        self._carried_bytes = 0
        self._inverse: list[JsonValue] = []
        self._inverse_bytes = 0

    def inverse_to(self, before: JsonValue) -> list[JsonValue]:
        """What makes the document that all began with, `before`, of the present one."""
        if self._inverse_bytes > self._limits.max_document_bytes:
            return [{"op": "replace", "path": "", "value": _copied(before)}]
        return self._inverse

    def apply(self, operation: JsonValue) -> None:
        """Raises `_NotDone`, and what the libraries raise; the draft is then good for nothing."""
        if (problem := _malformed(operation, self._limits)) is not None:
            raise _NotDone(problem)
        path = operation["path"]
        match operation["op"]:
            case "test":
                if not same_json(jsonpointer.resolve_pointer(self.document, path), operation["value"]):
                    raise _NotDone("test failed: another value stands at its path")
            case "remove":
                old = jsonpointer.resolve_pointer(self.document, path)
                self._do(operation)
                self._took_out(old)
                self._note_undo({"op": "add", "path": path, "value": old})
            case "replace":
                old = jsonpointer.resolve_pointer(self.document, path)
                self._do(operation)
                self._took_out(old)
                self._put_in(path, operation["value"])
                self._note_undo({"op": "replace", "path": path, "value": old})
            case "move":
                self._move(operation, operation["from"], path)
            case _:
                if operation["op"] == "copy":
                    value = self._carry(jsonpointer.resolve_pointer(self.document, operation["from"]))
                else:
                    value = operation["value"]
                undo = _undo_of_add(self.document, path)
                self._put_in(
                    path, value
                )  # before it is done: a copy of what is around its place becomes a part of that
                self._do(operation)
                self._took_out_by(undo)
                self._note_undo(undo)
        if not isinstance(self.document, dict | list):
            raise _NotDone("the document must be an object or an array")
        if self._bytes > self._limits.max_document_bytes:
            self._bytes = len(msgspec.json.encode(self.document))
        if self._bytes > self._limits.max_document_bytes:
            raise _NotDone(f"the document is larger than {self._limits.max_document_bytes} bytes")

    def _move(self, operation: JsonValue, source: str, path: str) -> None:
        value = jsonpointer.resolve_pointer(self.document, source)
        if source == path:
            self._do(operation)
            return
        rises_from: JsonValue = _MISSING
        if source.startswith(f"{path}/"):
            rises_from = _copied(self._carry(jsonpointer.resolve_pointer(self.document, path)))
        elif path.count("/") > source.count("/"):
            self._carry(value)
        undo, stood_in_array = self._undo_of_add_without(source, path)
        self._do(operation)
        if path.count("/") > source.count("/"):
            self._check_depth(path, value)
        self._bytes += _key_bytes(path)
        if rises_from is _MISSING:
            self._took_out_by(undo)
            back = {"op": "move", "from": undo["path"], "path": source}
            if undo["op"] == "remove":
                self._note_undo(back)
            else:
                place = _with_element(path, source) if stood_in_array else path
                self._note_undo(back, {"op": "add", "path": place, "value": undo["value"]})
        elif undo["op"] == "remove":  # no move takes it back, since nothing is moved into itself
            self._note_undo(undo, {"op": "add", "path": source, "value": _copied(value)})
        else:
            self._note_undo({"op": "replace", "path": path, "value": rises_from})

    def _undo_of_add_without(self, source: str, path: str) -> tuple[dict[str, Any], bool]:
        """What takes back an add at `path` to the document without what is at `source`, and whether that is in an array."""
        parent: Any
        last: Any
        parent, last = jsonpointer.JsonPointer(source).to_last(self.document)
        value = parent.pop(last)
        undo = _undo_of_add(self.document, path)
        if isinstance(parent, list):
            parent.insert(last, value)
        else:
            parent[last] = value
        return undo, isinstance(parent, list)

    def _do(self, operation: JsonValue) -> None:
        self.document = jsonpatch.JsonPatch([operation]).apply(self.document, in_place=True)

    def _put_in(self, path: str, value: JsonValue) -> None:
        self._check_depth(path, value)
        self._bytes += len(msgspec.json.encode(value)) + _key_bytes(path)

    def _check_depth(self, path: str, value: JsonValue) -> None:
        if _deeper_than(value, self._limits.max_depth - path.count("/")):
            raise _NotDone(f"the document is nested deeper than {self._limits.max_depth}")

    def _took_out(self, value: JsonValue) -> None:
        self._bytes -= len(msgspec.json.encode(value))

    def _took_out_by(self, undo: dict[str, Any]) -> None:
        """`undo` says what an add took the place of."""
        if undo["op"] == "replace":
            self._took_out(undo["value"])

    def _carry(self, value: JsonValue) -> JsonValue:
        """`value`, which stands in the document and is to be looked at or copied as a whole."""
        self._carried_bytes += len(msgspec.json.encode(value))
        if self._carried_bytes > _MOST_CARRIED * self._limits.max_document_bytes:
            raise _NotDone("the patch copies and moves too much")
        return value

    def _note_undo(self, *operations: JsonValue) -> None:
        """What takes back the newest change. Values in it are the document's no more, so that nothing changes them."""
        self._inverse_bytes += len(msgspec.json.encode(operations))
        if self._inverse_bytes <= self._limits.max_document_bytes:
            self._inverse[:0] = operations


def _copied(value: JsonValue) -> JsonValue:
    """A copy, ten times as fast as `copy.deepcopy`."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _with_element(path: str, element: str) -> str:
    """`path` as it is while `element` stands in its array; it is given as it is without that."""
    *around, index = jsonpointer.JsonPointer(element).parts
    parts = jsonpointer.JsonPointer(path).parts
    at = len(around)
    if len(parts) <= at or parts[:at] != around or int(parts[at]) < int(index):
        return path
    moved: str = jsonpointer.JsonPointer.from_parts([*around, int(parts[at]) + 1, *parts[at + 1 :]]).path
    return moved


def _key_bytes(path: str) -> int:
    """At most so many bytes are added to a container beside the value at `path`: quotes, colon, comma, escapes."""
    return 6 * len(path.rpartition("/")[2]) + 4


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


def _undo_of_add(document: JsonValue, path: str) -> dict[str, Any]:
    """The operation that takes back an add at `path`, as seen before it."""
    if not path:
        return {"op": "replace", "path": "", "value": document}
    pointer = jsonpointer.JsonPointer(path)
    parent, last = pointer.to_last(document)
    if isinstance(parent, list):
        where = len(parent) if last == "-" else last
        return {"op": "remove", "path": jsonpointer.JsonPointer.from_parts([*pointer.parts[:-1], where]).path}
    known = parent.get(last, _MISSING)
    if known is _MISSING:
        return {"op": "remove", "path": path}
    return {"op": "replace", "path": path, "value": known}


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
