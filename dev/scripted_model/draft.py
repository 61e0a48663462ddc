"""A document being edited: every change is made on a copy and written down as an RFC 6902 operation."""

import copy
from typing import Any

Operation = dict[str, Any]
Token = str | int


class CannotEdit(Exception):
    """What was asked for can't be done on this document; the text is a sentence to answer with."""


def pointer(*tokens: Token) -> str:
    """The JSON Pointer (RFC 6901) of the tokens."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


class Draft:
    """`document` is the copy as the operations so far leave it; the original is not touched."""

    def __init__(self, document: Any) -> None:
        self.document = copy.deepcopy(document)
        self.operations: list[Operation] = []

    def value(self, *tokens: Token) -> Any:
        """The value there. Raises KeyError, IndexError or TypeError where there is none."""
        value = self.document
        for token in tokens:
            value = value[token]
        return value

    def set(self, *tokens: Token, to: Any) -> None:
        """Puts a member into an object: `replace` where it exists and differs, `add` where it doesn't, else nothing."""
        parent, last = self.value(*tokens[:-1]), tokens[-1]
        exists = last in parent if isinstance(parent, dict) else True
        if exists and parent[last] == to and type(parent[last]) is type(to):
            return
        self.operations.append(
            {"op": "replace" if exists else "add", "path": pointer(*tokens), "value": copy.deepcopy(to)}
        )
        parent[last] = to

    def append(self, *tokens: Token, value: Any) -> None:
        self.operations.append({"op": "add", "path": pointer(*tokens, "-"), "value": copy.deepcopy(value)})
        self.value(*tokens).append(value)

    def insert(self, *tokens: Token, index: int, value: Any) -> None:
        self.operations.append({"op": "add", "path": pointer(*tokens, index), "value": copy.deepcopy(value)})
        self.value(*tokens).insert(index, value)

    def remove(self, *tokens: Token) -> Any:
        """Takes the value out and returns it."""
        self.operations.append({"op": "remove", "path": pointer(*tokens)})
        return self.value(*tokens[:-1]).pop(tokens[-1])

    def move_item(self, *tokens: Token, origin: int, target: int) -> None:
        """Moves a list's item so that it is at index `target` afterwards."""
        if origin == target:
            return
        self.operations.append({"op": "move", "from": pointer(*tokens, origin), "path": pointer(*tokens, target)})
        items = self.value(*tokens)
        items.insert(target, items.pop(origin))

    def coarse_operations(self, original: Any) -> list[Operation]:
        """The same change as one operation for each member of the root that differs, for when there are too many."""
        if not isinstance(original, dict):
            return [{"op": "replace", "path": "", "value": copy.deepcopy(self.document)}]
        changes: list[Operation] = [
            {"op": "remove", "path": pointer(key)} for key in original if key not in self.document
        ]
        for key, value in self.document.items():
            if key not in original:
                changes.append({"op": "add", "path": pointer(key), "value": copy.deepcopy(value)})
            elif original[key] != value:
                changes.append({"op": "replace", "path": pointer(key), "value": copy.deepcopy(value)})
        return changes

    def rename_member(self, *tokens: Token, name: str) -> None:
        """Moves an object's member to another name in the same object."""
        parent = self.value(*tokens[:-1])
        self.operations.append({"op": "move", "from": pointer(*tokens), "path": pointer(*tokens[:-1], name)})
        parent[name] = parent.pop(tokens[-1])
