"""Has a React component for Remotion written and built, as a job of its own."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from shared.store import Effect, StartJob
from worker.tools import Situation, ToolRefused

_MOST_NAME_CHARS: Final = 60


class GenerateRemotionComponent:
    name: str = "generateRemotionComponent"
    description: str = (
        "Have a React component for Remotion written and built from a description, for an effect or animation that the "
        "document's built-in scene types do not offer. One component an answer; it ends your turn: the component is "
        "built afterwards."
    )
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "effectDescription": {
                "type": "string",
                "minLength": 1,
                "maxLength": 4000,
                "description": "what the component shows and how it moves, with its colors, texts and timing",
            },
            "name": {
                "type": "string",
                "maxLength": 200,
                "description": "the component's name in PascalCase",
            },
        },
        "required": ["effectDescription"],
        "additionalProperties": False,
    }

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        description = arguments["effectDescription"].strip()
        if not description:
            raise ToolRefused("The effectDescription is empty.")
        return StartJob(name=component_name(arguments.get("name", "")), effect_description=description)


def component_name(wished: str) -> str:
    """A name that JavaScript takes for a component: PascalCase, ASCII; ``GeneratedComponent`` where nothing is left."""
    words = re.findall(r"[A-Za-z0-9]+", wished)
    name = "".join(word[:1].upper() + word[1:] for word in words).lstrip("0123456789")[:_MOST_NAME_CHARS]
    return name[:1].upper() + name[1:] or "GeneratedComponent"
