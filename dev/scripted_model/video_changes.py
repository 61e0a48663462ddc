"""Requests to change scenes that are there, or the whole video.

Each function takes a request that its pattern has matched, makes the change on the draft and says in a sentence what it did;
None where the request means something else. Raises CannotEdit where the document does not allow it.
"""

import re
from typing import Final

from dev.scripted_model import phrases
from dev.scripted_model import video_scenes as scenes
from dev.scripted_model.draft import CannotEdit, Draft
from shared import video

_STRETCH_S: Final = 2


def duplicate(found: re.Match[str], draft: Draft) -> str | None:
    index = scenes.find(found["scene"], draft)
    if index is None:
        return None
    if len(scenes.all_in(draft)) >= video.MAX_SCENES:
        raise CannotEdit(f"The video has {video.MAX_SCENES} scenes already, which is the most it can have.")
    original = scenes.all_in(draft)[index]
    copied = {**original, "id": scenes.free_id(draft, original["id"]), "start": scenes.end_of_all(draft)}
    draft.append("scenes", value=copied)
    scenes.close_duration(draft)
    return f"Copied the scene “{original['id']}” to the end as “{copied['id']}”."


# Removing and ordering


def remove_scenes(found: re.Match[str], draft: Draft) -> str | None:
    phrase = found["scene"]
    count = len(scenes.all_in(draft))
    if re.fullmatch(r"(?:all|every)(?:\s+of)?(?:\s+the)?\s+scenes?|everything", phrase, re.IGNORECASE):
        if not count:
            raise CannotEdit("There are no scenes to remove.")
        draft.set("scenes", to=[])
        return f"Removed all {phrases.plural(count, 'scene')}."
    several = re.fullmatch(rf"(?:the\s+)?(first|last)\s+({phrases.NUMBER})\s+scenes", phrase, re.IGNORECASE)
    if several is not None:
        wanted = int(phrases.number(several.group(2)))
        if not 1 <= wanted <= count:
            raise CannotEdit(f"I can't remove that many. {scenes.inventory(draft)}")
        for _ in range(wanted):
            _take_out(draft, 0 if several.group(1).lower() == "first" else len(scenes.all_in(draft)) - 1)
        return f"Removed the {several.group(1).lower()} {phrases.plural(wanted, 'scene')}."
    index = scenes.find(phrase, draft)
    if index is None:
        return None
    return f"Removed the scene “{_take_out(draft, index)['id']}”."


def _take_out(draft: Draft, index: int) -> scenes.Scene:
    """Removes a scene; what came after it moves forward."""
    scene: scenes.Scene = draft.remove("scenes", index)
    scenes.shift(draft, from_s=scenes.end(scene), by_s=-scene["duration"])
    scenes.close_duration(draft)
    return scene


def swap(found: re.Match[str], draft: Draft) -> str | None:
    pair = scenes.pair(found["scenes"], draft)
    if pair is None:
        return None
    first, second = pair
    names = [scenes.all_in(draft)[index]["id"] for index in pair]
    start_s, gaps = scenes.spacing(draft, first, second)
    draft.move_item("scenes", origin=second, target=first)
    draft.move_item("scenes", origin=first + 1, target=second)
    scenes.lay_out(draft, first, start_s, gaps)
    return f"Swapped the scenes “{names[0]}” and “{names[1]}”."


def move(found: re.Match[str], draft: Draft) -> str | None:
    index = scenes.find(found["scene"], draft)
    if index is None:
        return None
    name = scenes.all_in(draft)[index]["id"]
    if found["where"] in {"before", "after"}:
        other = scenes.find(found["other"] or "", draft)
        if other is None or other == index:
            raise CannotEdit("I don't see which scene it is to stand next to.")
        target = other - (index < other) if found["where"] == "before" else other + (index > other)
    else:
        target = len(scenes.all_in(draft)) - 1 if found["side"].lower() in {"end", "back", "last"} else 0
    if target == index:
        raise CannotEdit(f"The scene “{name}” is there already.")
    low, high = min(index, target), max(index, target)
    start_s, gaps = scenes.spacing(draft, low, high)
    draft.move_item("scenes", origin=index, target=target)
    scenes.lay_out(draft, low, start_s, gaps)
    return f"Moved the scene “{name}” to place {target + 1}."


# Times


def set_duration(found: re.Match[str], draft: Draft) -> str | None:
    wanted_s = phrases.number(found["number"])
    phrase = found.groupdict().get("scene")
    if phrase is None or re.fullmatch(
        r"(?:the\s+)?(?:whole\s+|entire\s+|total\s+)?(?:video|movie|film|clip|it|everything|project)(?:'s|’s)?",
        phrase,
        re.IGNORECASE,
    ):
        return _set_whole_duration(draft, wanted_s)
    index = scenes.find(phrase, draft)
    return None if index is None else _resize(draft, index, wanted_s)


def _set_whole_duration(draft: Draft, wanted_s: float) -> str:
    if not 0 < wanted_s <= video.MAX_VIDEO_DURATION_S:
        raise CannotEdit(f"A video lasts more than 0 and at most {video.MAX_VIDEO_DURATION_S} s.")
    for index, scene in enumerate(scenes.all_in(draft)):
        if scene["start"] >= wanted_s:
            raise CannotEdit(
                f"The scene “{scene['id']}” begins at {scene['start']} s, so the video can't end at {wanted_s} s. "
                "Remove or shorten scenes first."
            )
        if scenes.end(scene) > wanted_s:
            draft.set("scenes", index, "duration", to=phrases.tidy(wanted_s - scene["start"]))
    draft.set("meta", "duration", to=wanted_s)
    return f"Set the video's duration to {wanted_s} s."


def stretch(found: re.Match[str], draft: Draft) -> str | None:
    index = scenes.find(found["scene"], draft)
    if index is None:
        return None
    old_s = scenes.all_in(draft)[index]["duration"]
    amount = next((value for key, value in found.groupdict().items() if key.startswith("by") and value), None)
    by_s = _STRETCH_S if amount is None else phrases.number(amount)
    if found["direction"].lower() in {"longer", "extend", "lengthen"}:
        return _resize(draft, index, phrases.tidy(old_s + by_s))
    if amount is None:
        by_s = min(by_s, old_s / 2)
    return _resize(draft, index, phrases.tidy(old_s - by_s))


def _resize(draft: Draft, index: int, wanted_s: float) -> str:
    """Gives a scene another duration; what came after it moves along."""
    scenes.check_duration(wanted_s)
    scene = scenes.all_in(draft)[index]
    old_end_s, old_s = scenes.end(scene), scene["duration"]
    draft.set("scenes", index, "duration", to=wanted_s)
    scenes.shift(draft, from_s=old_end_s, by_s=wanted_s - old_s, except_index=index)
    scenes.close_duration(draft)
    return f"The scene “{scene['id']}” now lasts {wanted_s} s (it was {old_s} s)."


# Words and colours


def set_title(found: re.Match[str], draft: Draft) -> str | None:
    title = scenes.check_text(phrases.unquoted(found["title"]), video.MAX_TITLE_CHARACTERS, "title")
    old = draft.value("meta", "title")
    draft.set("meta", "title", to=title)
    return f"Changed the title from “{old}” to “{title}”."


def rename_scene(found: re.Match[str], draft: Draft) -> str | None:
    index = scenes.find(found["scene"], draft)
    if index is None:
        return None
    old = scenes.all_in(draft)[index]["id"]
    name = scenes.free_id(draft, phrases.unquoted(found["name"]))
    draft.set("scenes", index, "id", to=name)
    return f"Renamed the scene “{old}” to “{name}”."


def set_scene_text(found: re.Match[str], draft: Draft) -> str | None:
    index = scenes.find(found["scene"], draft)
    if index is None:
        return None
    scene = scenes.all_in(draft)[index]
    if scene["type"] not in scenes.TEXT_TYPES:
        raise CannotEdit(f"The scene “{scene['id']}” is of type {scene['type']} and has no text of its own.")
    text = scenes.check_text(phrases.unquoted(found["text"]), video.MAX_TEXT_CHARACTERS, "text")
    draft.set("scenes", index, "data", "text", to=text)
    return f"The scene “{scene['id']}” now says “{text}”."


def set_background(found: re.Match[str], draft: Draft) -> str | None:
    color = phrases.color(found["color"])
    phrase = found.groupdict().get("scene")
    if color is None:
        return None
    if phrase is not None and not re.fullmatch(
        r"(?:the\s+|this\s+)?(?:whole\s+)?(?:video|it|project)(?:'s|’s)?", phrase
    ):
        return _set_scene_background(phrase, color, draft)
    draft.set("meta", "backgroundColor", to=color)
    return f"Made the background {found['color'].strip()} ({color})."


def _set_scene_background(phrase: str, color: str, draft: Draft) -> str | None:
    index = scenes.find(phrase, draft)
    if index is None:
        return None
    scene = scenes.all_in(draft)[index]
    if scene["type"] == "background-color":
        draft.set("scenes", index, "data", "color", to=color)
    elif scene["type"] in scenes.TEXT_TYPES:
        draft.set("scenes", index, "data", "backgroundColor", to=color)
    else:
        raise CannotEdit(
            f"The scene “{scene['id']}” is of type {scene['type']} and has no background of its own; "
            "I can change the whole video's background."
        )
    return f"Gave the scene “{scene['id']}” the background {color}."


def remove_background(found: re.Match[str], draft: Draft) -> str | None:
    if "backgroundColor" not in draft.value("meta"):
        raise CannotEdit("The video has no background colour to remove.")
    draft.remove("meta", "backgroundColor")
    return "Removed the video's background colour."


def set_scene_color(found: re.Match[str], draft: Draft) -> str | None:
    color = phrases.color(found["color"])
    if color is None:
        return None
    index = scenes.find(found["scene"], draft)
    if index is None:
        return None
    scene = scenes.all_in(draft)[index]
    if scene["type"] in {"text", "text-animation", "shape", "background-color", "svg-animation"}:
        draft.set("scenes", index, "data", "color", to=color)
    elif scene["type"] == "gradient":
        draft.set("scenes", index, "data", "colors", to=[color, "#0f172a"])
    elif scene["type"] == "particles":
        draft.set("scenes", index, "data", "colors", to=[color])
    else:
        raise CannotEdit(f"The scene “{scene['id']}” is of type {scene['type']} and has no colour.")
    return f"Coloured the scene “{scene['id']}” {found['color'].strip()} ({color})."


def set_transition(found: re.Match[str], draft: Draft) -> str | None:
    all_scenes = scenes.all_in(draft)
    duration_s = min(phrases.seconds(found.group()) or 0.5, video.MAX_TRANSITION_DURATION_S)
    transition = {"type": found["transition"].lower(), "duration": duration_s}
    if len(all_scenes) < 2:
        raise CannotEdit(f"A transition stands between two scenes. {scenes.inventory(draft)}")
    where = found["where"] or "all scenes"
    if re.fullmatch(r"(?:all|every|each)(?:\s+of)?(?:\s+the)?(?:\s+scenes?)?|(?:the\s+)?scenes", where, re.IGNORECASE):
        for index in range(len(all_scenes) - 1):
            draft.set("scenes", index, "transitionToNext", to=dict(transition))
        return f"Put a {transition['type']} transition of {duration_s} s between all scenes."
    pair = scenes.pair(where, draft)
    only = pair[0] if pair is not None else scenes.find(where, draft)
    if only is None:
        return None
    draft.set("scenes", only, "transitionToNext", to=transition)
    return f"Put a {transition['type']} transition of {duration_s} s after the scene “{all_scenes[only]['id']}”."


def remove_transitions(found: re.Match[str], draft: Draft) -> str | None:
    with_transition = [index for index, scene in enumerate(scenes.all_in(draft)) if "transitionToNext" in scene]
    if not with_transition:
        raise CannotEdit("There are no transitions to remove.")
    for index in with_transition:
        draft.remove("scenes", index, "transitionToNext")
    return f"Removed {phrases.plural(len(with_transition), 'transition')}."
