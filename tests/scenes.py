"""One scene for each way in which an answer comes about, for the tests of every client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.clients.chat import Chat

PATCH: Final = {"operations": [{"op": "add", "path": "/colour", "value": "green"}], "explanation": "Grass"}
TEXT: Final = "Ünïcödé, 漢字\u2028and 🦀: every character arrives. " * 5
COMPONENT: Final = {
    "name": "generateRemotionComponent",
    "arguments": {"effectDescription": "confetti", "name": "Confetti"},
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An answer. `rounds` are the model's, as in its script; `status`, `content` and `code` the row's in the end.

    `tools` are the calls with whether they succeed. A `held` answer does not end by itself: somebody cancels it once there is
    text. One that is `begun_anew` takes back what was shown. A `building` one goes on as a component job.
    """

    name: str
    rounds: list[dict[str, Any]]
    status: str
    content: str
    code: str | None = None
    tools: tuple[tuple[str, bool], ...] = ()
    held: bool = False
    begun_anew: bool = False

    def script(self, chat: Chat) -> str:
        """A message to send, which is answered so."""
        content = chat.script([])
        chat.stack.model.on(content, {"rounds": self.rounds})
        return content


ANSWERS: Final = (
    Scene(
        name="text",
        rounds=[{"steps": [{"text": TEXT, "chunk_size": 3, "pace": 0.002}]}],
        status="success",
        content=TEXT,
    ),
    Scene(
        name="a patch",
        rounds=[
            {
                "steps": [
                    {"text": "I paint it. "},
                    {"tool": {"name": "applyJsonPatch", "arguments": PATCH, "split": 4}},
                ]
            },
            {"steps": [{"text": "It is green now."}]},
        ],
        status="success",
        content="I paint it. \n\nIt is green now.",
        tools=(("applyJsonPatch", True),),
    ),
    Scene(
        name="an error of the provider",
        rounds=[{"steps": [{"text": "As far as this"}, {"finish": "content_filter"}]}],
        status="error",
        content="As far as this",
        code="content_filter",
    ),
    Scene(
        name="begun anew",
        rounds=[
            {
                "attempts": [
                    {"steps": [{"text": "It was a dark and st", "pace": 0.002}, {"cut": "rst"}]},
                    {"steps": [{"text": "It was a bright morning.", "pace": 0.002}]},
                ]
            }
        ],
        status="success",
        content="It was a bright morning.",
        begun_anew=True,
    ),
    Scene(
        name="cancelled",
        rounds=[{"steps": [{"text": "As far as this"}, {"hold": "for ever"}]}],
        status="cancelled",
        content="As far as this",
        held=True,
    ),
)

JOB: Final = Scene(
    name="a component job",
    rounds=[{"steps": [{"text": "I build it."}, {"tool": COMPONENT}]}],
    status="building",
    content="I build it.",
    tools=(("generateRemotionComponent", True),),
)
