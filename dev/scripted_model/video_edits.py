"""Requests to edit a document of the `video` template, one clause at a time: the patterns, and what each one means.

Whatever is done, the draft stays valid. The first pattern that matches, and whose function makes something of it, decides.
"""

import re
from collections.abc import Callable
from typing import Final

from dev.scripted_model import phrases, video_additions, video_changes
from dev.scripted_model.draft import Draft

Intent = Callable[[re.Match[str], Draft], str | None]

_N = rf"(?P<number>{phrases.NUMBER})[ -]*(?:s|secs?|seconds?)"
_VIDEO = r"(?:video|movie|film|clip|project|document)(?:'s|’s)?"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text + r"\s*$", re.IGNORECASE | re.DOTALL)


_INTENTS: Final[tuple[tuple[re.Pattern[str], Intent], ...]] = (
    (
        _pattern(
            rf"(?:add|use|set|make|put|insert)\s+(?:an?\s+|the\s+)?(?:{phrases.SECONDS}\s+)?(?P<transition>fade|"
            rf"slide|wipe|zoom)s?\s+"
            rf"transitions?(?:\s+of\s+{phrases.SECONDS})?(?:\s+(?:after|to|on|for|between|"
            rf"at the end of)\s+(?P<where>.+?))?"
        ),
        video_changes.set_transition,
    ),
    (
        _pattern(r"(?:remove|delete|drop)\s+(?:all\s+)?(?:of\s+)?(?:the\s+)?transitions"),
        video_changes.remove_transitions,
    ),
    (
        _pattern(r"(?:remove|delete|clear|drop)\s+(?:the\s+)?background(?:[ -]?colou?r)?"),
        video_changes.remove_background,
    ),
    (
        _pattern(
            r"(?:make|set|change|turn|paint|colou?r)\s+(?:the\s+)?background(?:[ -]?colou?r)?\s+(?:of|in|for|on)\s+"
            r"(?P<scene>.+?)\s+(?:to\s+|into\s+)?(?P<color>(?:(?:dark|light)[ -])?[\w#]+)"
        ),
        video_changes.set_background,
    ),
    (
        _pattern(
            rf"(?:make|set|change|turn|paint|colou?r)\s+(?:the\s+)?(?:{_VIDEO}\s+)?background(?:[ -]?colou?r)?\s+"
            r"(?:to\s+|into\s+)?(?P<color>.+)"
        ),
        video_changes.set_background,
    ),
    (
        _pattern(
            r"(?:make|set|change|turn)\s+(?P<scene>(?:the\s+\w+\s+)?scene(?:\s+\w+)?)(?:'s|"
            r"’s)\s+background(?:[ -]?colou?r)?\s+"
            r"(?:to\s+)?(?P<color>.+)"
        ),
        video_changes.set_background,
    ),
    (
        _pattern(
            r"(?:use|give (?:it|the video)|i want|i'd like|add|"
            r"make it)\s+an?\s+(?P<color>[\w# -]+?)\s+background(?:[ -]?colou?r)?"
        ),
        video_changes.set_background,
    ),
    (
        _pattern(
            r"(?:change|set|update|edit|replace)\s+(?:the\s+)?(?:text|words|wording|caption|title)\s+(?:of|in|on)\s+"
            r"(?P<scene>(?:the\s+)?(?:\w+\s+scene|scene\s+\w+))\s+(?:to|with|as|:)\s*:?\s*(?P<text>.+)"
        ),
        video_changes.set_scene_text,
    ),
    (
        _pattern(
            r"(?:change|set|update)\s+(?P<scene>(?:the\s+)?(?:\w+\s+scene|scene\s+\w+))(?:'s|’s)\s+(?:text|caption|"
            r"title)\s+to\s+"
            r"(?P<text>.+)"
        ),
        video_changes.set_scene_text,
    ),
    (
        _pattern(r"(?:make|let)\s+(?P<scene>(?:the\s+)?(?:\w+\s+scene|scene\s+\w+))\s+say\s*:?\s*(?P<text>.+)"),
        video_changes.set_scene_text,
    ),
    (
        _pattern(
            r"rename\s+(?P<scene>(?:the\s+)?(?:[\w.-]+\s+scene|scene\s+[\w.\"“”-]+))\s+(?:to|as|into)\s+(?P<name>.+)"
        ),
        video_changes.rename_scene,
    ),
    (
        _pattern(
            rf"(?:change|set|update|edit|make|rename)\s+(?:the\s+|my\s+)?(?:{_VIDEO}\s+)?(?:title|name)"
            rf"(?:\s+of\s+(?:the\s+|this\s+)?{_VIDEO})?\s+(?:to\s+be|to|as|into|be|:|=)?\s*:?\s*(?P<title>.+)"
        ),
        video_changes.set_title,
    ),
    (
        _pattern(rf"rename\s+(?:the\s+|this\s+|my\s+)?(?:{_VIDEO}|it)\s+(?:to|as|into)?\s*(?P<title>.+)"),
        video_changes.set_title,
    ),
    (
        _pattern(rf"(?:call|title|name)\s+(?:the\s+|this\s+|my\s+)?(?:{_VIDEO}|it)\s+(?P<title>.+)"),
        video_changes.set_title,
    ),
    (
        _pattern(
            r"(?:make)\s+(?P<scene>.+?)\s+(?:(?P<by_before>"
            + phrases.NUMBER
            + r")[ -]*(?:s|secs?|seconds?)\s+)?(?P<direction>longer|shorter)(?:\s+by\s+(?P<by_after>"
            + phrases.NUMBER
            + r")[ -]*(?:s|secs?|seconds?))?"
        ),
        video_changes.stretch,
    ),
    (_pattern(rf"(?:extend|lengthen|shorten|trim|cut)\s+(?P<scene>.+?)\s+to\s+{_N}"), video_changes.set_duration),
    (
        _pattern(
            r"(?P<direction>extend|lengthen|shorten|"
            rf"trim)\s+(?P<scene>.+?)(?:\s+by\s+(?P<by>{phrases.NUMBER})[ -]*(?:s|secs?|seconds?))?"
        ),
        video_changes.stretch,
    ),
    (
        _pattern(
            rf"(?:set|change|make)\s+(?:the\s+)?(?:total\s+|overall\s+)?(?:{_VIDEO}\s+)?(?:duration|length)"
            rf"(?:\s+of\s+(?P<scene>.+?))?\s+(?:to\s+|be\s+)?{_N}?"
        ),
        video_changes.set_duration,
    ),
    (
        _pattern(rf"(?:set|change|make)\s+(?P<scene>.+?)(?:'s|’s)?\s+(?:duration|length)\s+(?:to\s+|be\s+)?{_N}?"),
        video_changes.set_duration,
    ),
    (
        _pattern(rf"(?:make|let|set)\s+(?P<scene>.+?)\s+(?:to\s+|be\s+|last\s+(?:for\s+)?|take\s+)?{_N}(?:\s+long)?"),
        video_changes.set_duration,
    ),
    (_pattern(r"(?:swap|switch|exchange)\s+(?:the\s+order\s+of\s+)?(?P<scenes>.+)"), video_changes.swap),
    (
        _pattern(
            r"(?:move|put)\s+(?P<scene>(?:the\s+)?(?:[\w-]+\s+scene|scene\s+[\w-]+))\s+(?:(?P<where>before|"
            r"after)\s+(?P<other>.+)|"
            r"(?:to|at)\s+(?:the\s+)?(?:very\s+)?(?P<side>end|back|last|start|beginning|front|first)(?:\s+place)?)"
        ),
        video_changes.move,
    ),
    (_pattern(r"(?:duplicate|copy|repeat)\s+(?P<scene>.+)"), video_changes.duplicate),
    (
        _pattern(r"(?:change|set)\s+(?:the\s+)?colou?r\s+of\s+(?P<scene>.+?)\s+to\s+(?P<color>.+)"),
        video_changes.set_scene_color,
    ),
    (
        _pattern(
            r"(?:make|turn|paint|colou?r)\s+(?:the\s+text\s+(?:of|in)\s+)?(?P<scene>(?:the\s+)?(?:[\w-]+\s+scene|"
            r"scene\s+[\w-]+))\s+"
            r"(?:to\s+)?(?P<color>.+)"
        ),
        video_changes.set_scene_color,
    ),
    (
        _pattern(
            r"(?:add|append|insert|create|include)\s+(?:in\s+)?(?:an?\s+|another\s+|one more\s+|"
            r"the\s+)?(?:new\s+)?(?:.*?)\bscene\b.*"
        ),
        video_additions.add_scene,
    ),
    (
        _pattern(r"(?:make|put|give me|i want|i need|i'd like)\s+(?:an?|another|one more)\s+(?:[^:]*?)\bscene\b.*"),
        video_additions.add_scene,
    ),
    (
        _pattern(
            r"(?:add|append|insert|create|include|put)\s+(?:in\s+)?(?:an?\s+|some\s+|another\s+|"
            rf"new\s+)?(?:[\w#-]+\s+){{0,3}}?(?:{video_additions.THING})\b.*"
        ),
        video_additions.add_scene,
    ),
    (
        _pattern(r"(?:remove|delete|drop|get rid of|erase|take out)\s+(?P<scene>.+)"),
        video_changes.remove_scenes,
    ),
)


def edit(clause: str, draft: Draft) -> str | None:
    """Makes the change that the clause asks for and returns a sentence about it; None when it asks for none.

    Raises CannotEdit where the document does not allow it.
    """
    for pattern, intent in _INTENTS:
        found = pattern.match(clause)
        if found is not None:
            done = intent(found, draft)
            if done is not None:
                return done
    return None
