"""Edits the project's document with RFC 6902 operations."""

from __future__ import annotations

from typing import Any, ClassVar

from shared.store import EditDocument, Effect
from worker.tools import Situation


class ApplyJsonPatch:
    name: str = "applyJsonPatch"
    description: str = (
        "Change the project's JSON document with RFC 6902 (JSON Patch) operations, applied in order, all or nothing. "
        "Paths are JSON Pointers into the document as it was shown to you."
    )
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "operations": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
                        "path": {"type": "string"},
                        "from": {"type": "string"},
                        "value": {},
                    },
                    "required": ["op", "path"],
                },
            },
            "explanation": {
                "type": "string",
                "description": "one short sentence for the person: what this changes",
            },
        },
        "required": ["operations"],
        "additionalProperties": False,
    }

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        operations = arguments["operations"]
        return EditDocument(
            operations=operations,
            words=arguments.get("explanation", "").strip()[:1000] or _in_words(operations),
            expected_version=situation.document_version,
            limits=situation.limits,
        )


def _in_words(operations: list[dict[str, Any]]) -> str:
    shown = [f"{operation['op']} {operation['path'][:100] or '/'}" for operation in operations[:3]]
    more = len(operations) - len(shown)
    return "Changed the document: " + ", ".join(shown) + (f" and {more} more." if more else ".")
