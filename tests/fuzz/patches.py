"""JSON Patch written from RFC 6902's text without the libraries, on immutable trees: as slow and as plain as can be."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from shared.records import JsonValue
from tests.strategies import json_documents, json_values


class Impossible(Exception):
    """The patch does not apply."""


def tokens_of(pointer: str) -> list[str]:
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise Impossible
    if re.search("~(?![01])", pointer):
        raise Impossible
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _index(token: str, most: int) -> int:
    if token != "0" and (token[:1] not in tuple("123456789") or not (token.isascii() and token.isdigit())):
        raise Impossible
    if int(token) > most:
        raise Impossible
    return int(token)


def same(left: JsonValue, right: JsonValue) -> bool:
    """RFC 6902, section 4.6."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return set(left) == set(right) and all(same(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, str) is isinstance(right, str) and bool(left == right)


def depth(value: JsonValue) -> int:
    """Steps from a value to what is deepest in it."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + max(map(depth, parts)) if parts else 0


def look(tree: JsonValue, tokens: list[str]) -> JsonValue:
    for token in tokens:
        if isinstance(tree, dict):
            if token not in tree:
                raise Impossible
            tree = tree[token]
        elif isinstance(tree, list):
            tree = tree[_index(token, len(tree) - 1)]
        else:
            raise Impossible
    return tree


def _put(tree: JsonValue, tokens: list[str], value: JsonValue) -> JsonValue:
    if not tokens:
        return value
    token, rest = tokens[0], tokens[1:]
    if isinstance(tree, dict):
        if rest and token not in tree:
            raise Impossible
        return {**tree, token: _put(tree.get(token), rest, value)}
    if isinstance(tree, list):
        if rest:
            at = _index(token, len(tree) - 1)
            return [*tree[:at], _put(tree[at], rest, value), *tree[at + 1 :]]
        at = len(tree) if token == "-" else _index(token, len(tree))
        return [*tree[:at], value, *tree[at:]]
    raise Impossible


def _take(tree: JsonValue, tokens: list[str]) -> JsonValue:
    if not tokens:
        raise Impossible
    token, rest = tokens[0], tokens[1:]
    if isinstance(tree, dict):
        if token not in tree:
            raise Impossible
        if rest:
            return {**tree, token: _take(tree[token], rest)}
        return {name: value for name, value in tree.items() if name != token}
    if isinstance(tree, list):
        at = _index(token, len(tree) - 1)
        return [*tree[:at], *([_take(tree[at], rest)] if rest else []), *tree[at + 1 :]]
    raise Impossible


def patched(tree: JsonValue, operation: dict[str, Any]) -> JsonValue:
    path = tokens_of(operation["path"])
    match operation["op"]:
        case "add":
            made = _put(tree, path, operation["value"])
        case "remove":
            made = _take(tree, path)
        case "replace":
            look(tree, path)
            made = operation["value"] if not path else _put(_take(tree, path), path, operation["value"])
        case "test":
            if not same(look(tree, path), operation["value"]):
                raise Impossible
            made = tree
        case "copy":
            made = _put(tree, path, look(tree, tokens_of(operation["from"])))
        case _:
            source = tokens_of(operation["from"])
            value = look(tree, source)
            if path[: len(source)] == source and path != source:
                raise Impossible
            made = tree if path == source else _put(_take(tree, source), path, value)
    if not isinstance(made, dict | list):
        raise Impossible
    return made


def _places(tree: JsonValue) -> list[str]:
    """The pointers of everything in a document."""
    found = [""]
    children: list[tuple[str, JsonValue]] = []
    if isinstance(tree, dict):
        children = list(tree.items())
    elif isinstance(tree, list):
        children = [(str(at), value) for at, value in enumerate(tree)]
    for name, value in children:
        token = name.replace("~", "~0").replace("/", "~1")
        found += [f"/{token}{rest}" for rest in _places(value)]
    return found


_LAST = ["-", "0", "1", "2", "01", "-1", "1.0", "٣", "9" * 20, "a", "", "~0", "~1x", "~", "~2"]


@st.composite
def patches(draw: st.DrawFn) -> tuple[JsonValue, list[dict[str, Any]]]:
    """A document and operations on places that are there, beside ones that are, or nowhere near."""
    document = draw(json_documents)
    tree = document
    operations = []
    for _ in range(draw(st.integers(0, 6))):
        known = st.sampled_from(_places(tree))
        beside = st.builds(
            lambda at, last: f"{at}/{last}",
            known,
            st.sampled_from(_LAST),
        )
        pointers = known | beside
        operation: dict[str, Any] = {
            "op": draw(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])),
            "path": draw(pointers),
        }
        if operation["op"] in ("add", "replace"):
            operation["value"] = draw(json_values)
        elif operation["op"] == "test":
            try:
                there = look(tree, tokens_of(operation["path"]))
            except Impossible:
                there = None
            operation["value"] = draw(st.just(there) | json_values)
        elif operation["op"] != "remove":
            operation["from"] = draw(pointers)
        operations.append(operation)
        try:
            tree = patched(tree, operation)
        except Impossible:
            if draw(st.booleans()):
                operations.pop()
            else:
                break
    return document, operations
