"""The scenes of a document of the `video` template: finding one by what people call it, and keeping their times in order.

What the edits rely on and keep: `meta.duration` ends with the last scene, ids are unique, limits are kept.
"""

import re
from itertools import pairwise
from typing import Any, Final

from dev.scripted_model import phrases
from dev.scripted_model.draft import CannotEdit, Draft
from shared import video

Scene = dict[str, Any]

TEXT_TYPES: Final = frozenset({"text", "text-animation"})


def is_video(document: object) -> bool:
    """Whether the document is of the template, as far as the edits rely on it."""
    match document:
        case {"meta": {"duration": int() | float(), "title": str()}, "scenes": list() as scenes}:
            return all(_is_scene(scene) for scene in scenes)
        case _:
            return False


def _is_scene(scene: object) -> bool:
    match scene:
        case {"id": str(), "type": str(), "start": int() | float(), "duration": int() | float(), "data": dict()}:
            return True
        case _:
            return False


def all_in(draft: Draft) -> list[Scene]:
    scenes: list[Scene] = draft.value("scenes")
    return scenes


def end(scene: Scene) -> float:
    return phrases.tidy(scene["start"] + scene["duration"])


def end_of_all(draft: Draft) -> float:
    return max((end(scene) for scene in all_in(draft)), default=0)


def find(phrase: str, draft: Draft) -> int | None:
    """The index of the scene that a phrase means; None when it names no scene. Raises CannotEdit for one that isn't there."""
    scenes = all_in(draft)
    words = re.sub(r"^(?:the|my|that|this)\s+|(?:'s|’s)$", "", phrase.strip().lower())
    words = phrases.unquoted(words)
    by_id = next((index for index, scene in enumerate(scenes) if scene["id"].lower() == words), None)
    if by_id is not None:
        return by_id
    words = re.sub(r"^scenes?\s+(?:number\s+|no\.?\s*)?|\s+scene$", "", words).strip()
    words = phrases.unquoted(words)
    if words in {"last", "final", "ending"}:
        return _existing(len(scenes) - 1, "a last scene", draft)
    if words in {"second to last", "second-to-last", "next to last", "penultimate"}:
        return _existing(len(scenes) - 2, "a second to last scene", draft)
    position = phrases.ordinal(words)
    if position is not None:
        return _existing(position - 1, f"scene {position}", draft)
    for index, scene in enumerate(scenes):
        if words in (scene["id"].lower(), scene["type"], scene["type"].replace("-", " ")):
            return index
    if "scene" in phrase.lower():
        raise CannotEdit(f"I can't find {phrase.strip()}. {inventory(draft)}")
    return None


def _existing(index: int, name: str, draft: Draft) -> int:
    if not 0 <= index < len(all_in(draft)):
        raise CannotEdit(f"There's no {name.removeprefix('a ')}. {inventory(draft)}")
    return index


def inventory(draft: Draft) -> str:
    scenes = all_in(draft)
    if not scenes:
        return "The video has no scenes yet."
    return f"The video has {phrases.plural(len(scenes), 'scene')}: {', '.join(scene['id'] for scene in scenes)}."


def pair(phrase: str, draft: Draft) -> tuple[int, int] | None:
    """The two scenes of "the first two scenes", "scenes 1 and 3", "the intro with scene 2"."""
    count = len(all_in(draft))
    found = re.fullmatch(r"(?:the\s+)?(?P<side>first|last)\s+(?:two|2)(?:\s+scenes)?", phrase.strip(), re.IGNORECASE)
    if found is not None:
        if count < 2:
            raise CannotEdit(f"Swapping takes two scenes. {inventory(draft)}")
        return (0, 1) if found["side"].lower() == "first" else (count - 2, count - 1)
    halves = re.split(r"\s+(?:and|with|for)\s+|\s*&\s*", phrase.strip(), maxsplit=1)
    if len(halves) != 2:
        return None
    indexes = [find(re.sub(r"\bscenes\b", "scene", half), draft) for half in halves]
    if indexes[0] is None or indexes[1] is None:
        return None
    if indexes[0] == indexes[1]:
        raise CannotEdit("Those are the same scene.")
    return min(indexes[0], indexes[1]), max(indexes[0], indexes[1])


def close_duration(draft: Draft) -> None:
    """Lets the video end with its last scene; a video without scenes keeps its duration."""
    end = end_of_all(draft)
    if end > video.MAX_VIDEO_DURATION_S:
        raise CannotEdit(f"The video would be longer than {video.MAX_VIDEO_DURATION_S} s.")
    if end > 0:
        draft.set("meta", "duration", to=end)


def shift(draft: Draft, *, from_s: float, by_s: float, except_index: int | None = None) -> None:
    """Moves the start of every scene that begins at or after `from_s`."""
    for index, scene in enumerate(all_in(draft)):
        if index != except_index and scene["start"] >= from_s:
            draft.set("scenes", index, "start", to=phrases.tidy(max(0, scene["start"] + by_s)))


def free_id(draft: Draft, wanted: str) -> str:
    taken = {scene["id"] for scene in all_in(draft)}
    base = re.sub(r"[^A-Za-z0-9_.]+", "-", wanted).strip("-_.")[: video.MAX_SCENE_ID_CHARACTERS - 6] or "scene"
    if base not in taken:
        return base
    return next(name for name in (f"{base}-{number}" for number in range(2, len(taken) + 3)) if name not in taken)


def check_text(text: str, limit: int, what: str) -> str:
    text = text.strip()
    if not text:
        raise CannotEdit(f"The {what} can't be empty.")
    if len(text) > limit:
        raise CannotEdit(f"The {what} can have at most {limit} characters; this has {len(text)}.")
    return text


def spacing(draft: Draft, first: int, last: int) -> tuple[float, list[float]]:
    """When a stretch of scenes begins, and the gaps (overlaps below zero) between them: what an exchange of scenes keeps."""
    stretch = all_in(draft)[first : last + 1]
    gaps = [after["start"] - end(before) for before, after in pairwise(stretch)]
    return stretch[0]["start"], gaps


def lay_out(draft: Draft, first: int, start_s: float, gaps: list[float]) -> None:
    for index, gap_s in enumerate([*gaps, 0.0], start=first):
        draft.set("scenes", index, "start", to=phrases.tidy(max(0, start_s)))
        start_s = end(all_in(draft)[index]) + gap_s
    close_duration(draft)


def check_duration(wanted_s: float) -> None:
    if not 0 < wanted_s <= video.MAX_SCENE_DURATION_S:
        raise CannotEdit(f"A scene lasts more than 0 and at most {video.MAX_SCENE_DURATION_S} s, not {wanted_s} s.")
