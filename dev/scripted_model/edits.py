"""From a request in words and a document to a patch: pure, and the same every time."""

import re
from dataclasses import dataclass
from typing import Any, Final

from dev.scripted_model import json_edits, phrases, video_edits, video_scenes
from dev.scripted_model.draft import CannotEdit, Draft, Operation

MAX_OPERATIONS: Final = 50
"""The most operations of one patch; a model's larger ones are refused."""

_QUESTION = re.compile(
    r"^(?:(?:hi|hello|hey|so|ok|okay|and|please)[\s,!.]+)*(?:how|what|why|when|where|who|which|is|are|does|do|did|should|"
    r"tell me (?:how|about)|explain|describe|can i|could i|may i)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`operations` apply to the document that was given, in order; `explanation` says in sentences what they do."""

    operations: list[Operation]
    explanation: str


def plan_edit(text: str, document: Any) -> Edit | None:
    """The edit that a message asks for; None when it asks for none. Raises CannotEdit where it can't be done.

    A message of several requests is one edit, all or nothing; sentences around them that ask for nothing are passed over.
    """
    if _QUESTION.match(text.strip()):
        return None
    draft = Draft(document)
    sentences: list[str] = []
    for clause in phrases.clauses(text):
        done = _edit_clause(clause, draft)
        if done is not None:
            sentences.append(done)
    if not sentences:
        return None
    if not draft.operations:
        raise CannotEdit("The document is like that already, so there's nothing to change.")
    operations = draft.operations if len(draft.operations) <= MAX_OPERATIONS else draft.coarse_operations(document)
    return Edit(operations=operations, explanation=" ".join(sentences))


def _edit_clause(clause: str, draft: Draft) -> str | None:
    if video_scenes.is_video(draft.document):
        return json_edits.edit_by_pointer(clause, draft) or video_edits.edit(clause, draft)
    return json_edits.edit(clause, draft)
