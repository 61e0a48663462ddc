"""Requests for a new scene: its type, its words and colours, and where it goes."""

import re
from typing import Any, Final

from dev.scripted_model import phrases
from dev.scripted_model import video_scenes as scenes
from dev.scripted_model.draft import CannotEdit, Draft
from shared import video

_NEW_SCENE_S: Final = 4

# A word in a request, and the scene type that it asks for; the first that is found decides.
_TYPE_WORDS: Final = (
    (r"text[- ]animation|animated (?:text|title)|typewriter|typing", "text-animation"),
    (r"split[- ]?screen|side[- ]by[- ]side", "split-screen"),
    (r"zoom(?:[- ](?:and[- ])?pan)?|pan|ken burns", "zoom-pan"),
    (r"svg(?:[- ]animation)?|drawing|check ?mark", "svg-animation"),
    (r"particles?|confetti|snow|sparkles?", "particles"),
    (r"gradient", "gradient"),
    (r"title|text|captions?|credits|intro|outro|words?", "text"),
    (r"shape|circle|ellipse|oval|rectangle|square|triangle|star|line", "shape"),
    (r"image|picture|photo", "image"),
    (r"custom|component", "custom"),
    (r"background(?:[- ]colou?r)?|colou?r|solid|plain", "background-color"),
)
THING: Final = "|".join(words for words, kind in _TYPE_WORDS if kind not in {"custom", "background-color"})
_SAYING = re.compile(
    r"(?:\b(?:saying|that says|which says|says|reading|that reads|with the (?:text|words?|title|message|caption)|"
    r"with text|"
    r"with title|titled|entitled|called|named)\b|:)\s*:?\s*(?P<text>.+)$",
    re.IGNORECASE | re.DOTALL,
)
_TRAILING_DETAIL = re.compile(
    rf"\s+(?:(?:for|lasting|that lasts|of)\s+{phrases.SECONDS}|at the (?:very )?(?:end|start|beginning))\s*$",
    re.IGNORECASE,
)


def add_scene(found: re.Match[str], draft: Draft) -> str | None:
    clause = found.group()
    plain = phrases.without_quotes(clause)
    saying = _SAYING.search(plain)
    description = plain[: saying.start()] if saying is not None else plain
    kind = _type_asked_for(description)
    if kind == "custom":
        return _add_custom_scene(plain, draft)
    return _place_scene(draft, kind, _scene_data(kind, clause, description, draft), clause=plain)


def _type_asked_for(description: str) -> str:
    for words, kind in _TYPE_WORDS:
        if re.search(rf"\b(?:{words})\b", description, re.IGNORECASE):
            return kind
    return "text"


def _place_scene(draft: Draft, kind: str, data: dict[str, Any], *, clause: str) -> str:
    if len(scenes.all_in(draft)) >= video.MAX_SCENES:
        raise CannotEdit(f"The video has {video.MAX_SCENES} scenes already, which is the most it can have.")
    duration_s = phrases.seconds(clause) or _NEW_SCENE_S
    scenes.check_duration(duration_s)
    scene: scenes.Scene = {
        "id": scenes.free_id(draft, kind),
        "type": kind,
        "start": 0,
        "duration": duration_s,
        "data": data,
    }
    at_start = re.search(r"\bat the (?:very )?(?:start|beginning|front)\b|\bas the first\b", clause, re.IGNORECASE)
    after = re.search(r"\bafter\s+(?P<scene>(?:the\s+\w+\s+scene|scene\s+\w+))", clause, re.IGNORECASE)
    if at_start is not None:
        scenes.shift(draft, from_s=0, by_s=duration_s)
        draft.insert("scenes", index=0, value=scene)
    elif after is not None and (before := scenes.find(after["scene"], draft)) is not None:
        scene["start"] = scenes.end(scenes.all_in(draft)[before])
        scenes.shift(draft, from_s=scene["start"], by_s=duration_s)
        draft.insert("scenes", index=before + 1, value=scene)
    else:
        scene["start"] = scenes.end_of_all(draft)
        draft.append("scenes", value=scene)
    scenes.close_duration(draft)
    words = f" saying “{data['text']}”" if "text" in data else ""
    article = "an" if kind.startswith(("image", "svg")) else "a"
    return f"Added {article} {kind} scene{words} at {scene['start']} s, {duration_s} s long."


def _scene_data(kind: str, clause: str, description: str, draft: Draft) -> dict[str, Any]:
    data = video.examples()[kind]
    named = phrases.colors(description) or phrases.colors(phrases.without_quotes(clause))
    match kind:
        case "text" | "text-animation":
            data["text"] = scenes.check_text(_words_for(clause, description, draft), video.MAX_TEXT_CHARACTERS, "text")
            named = phrases.colors(description)
            if named:
                data["color"] = named[0]
        case "shape":
            shape = re.search(
                r"\b(circle|ellipse|oval|rectangle|square|triangle|star|line)\b", description, re.IGNORECASE
            )
            word = shape.group().lower() if shape is not None else "circle"
            data["shape"] = {"oval": "ellipse", "square": "rectangle"}.get(word, word)
            if named:
                data["color"] = named[0]
        case "gradient":
            if len(named) >= 2:
                data["colors"] = named[:8]
            elif named:
                data["colors"] = [named[0], "#0f172a"]
            if "radial" in description.lower():
                data["kind"] = "radial"
        case "particles":
            if named:
                data["colors"] = named[:8]
            kind_of_particle = re.search(r"\b(confetti|snow|star)", description, re.IGNORECASE)
            if kind_of_particle is not None:
                data["shape"] = kind_of_particle.group().lower()
                data["direction"] = "down"
        case "background-color":
            if named:
                data["color"] = named[0]
        case "image" | "zoom-pan":
            address = re.search(r"https://[^\s\"'<>]+", clause)
            if address is not None:
                data["src"] = address.group()[: video.MAX_IMAGE_ADDRESS_CHARACTERS]
                data["alt"] = "A picture"
    return data


def _words_for(clause: str, description: str, draft: Draft) -> str:
    quoted = phrases.first_quoted(clause)
    if quoted:
        return quoted
    saying = _SAYING.search(clause)
    if saying is not None:
        text = saying["text"]
        while (shorter := _TRAILING_DETAIL.sub("", text)) != text:
            text = shorter
        return text
    if re.search(r"\b(?:outro|closing|ending|credits|end)\b", description, re.IGNORECASE):
        return "Thanks for watching"
    if re.search(r"\b(?:title|intro|opening)\b", description, re.IGNORECASE):
        title: str = draft.value("meta", "title")
        return title
    return "Something new"


def _add_custom_scene(clause: str, draft: Draft) -> str:
    component = re.search(
        r"\b(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b", clause, re.IGNORECASE
    )
    if component is None:
        raise CannotEdit(
            "A custom scene shows a component that was built before. Ask me to build a component first, then to add "
            "a custom "
            "scene with its id."
        )
    return _place_scene(draft, "custom", {"componentId": component["id"]}, clause=clause)
