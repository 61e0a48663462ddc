"""Small pieces of English that requests are made of: quotes, colours, times, ordinals, and a request's clauses."""

import re
from typing import Final

COLORS: Final = {
    "black": "#000000",
    "white": "#ffffff",
    "red": "#ef4444",
    "orange": "#f97316",
    "amber": "#f59e0b",
    "yellow": "#facc15",
    "gold": "#eab308",
    "lime": "#84cc16",
    "green": "#22c55e",
    "teal": "#14b8a6",
    "turquoise": "#2dd4bf",
    "cyan": "#06b6d4",
    "blue": "#2563eb",
    "navy": "#1e3a8a",
    "indigo": "#4f46e5",
    "violet": "#8b5cf6",
    "purple": "#9333ea",
    "magenta": "#d946ef",
    "pink": "#ec4899",
    "brown": "#92400e",
    "beige": "#f5f5dc",
    "grey": "#6b7280",
    "gray": "#6b7280",
    "silver": "#c0c0c0",
}
_SHADES: Final = {
    "dark": {"red": "#7f1d1d", "green": "#14532d", "blue": "#1e3a8a", "grey": "#1f2937", "gray": "#1f2937"},
    "light": {"red": "#fecaca", "green": "#bbf7d0", "blue": "#bfdbfe", "grey": "#e5e7eb", "gray": "#e5e7eb"},
}
_NUMBER_WORDS: Final = {
    word: value
    for value, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=1
    )
}
_ORDINAL_WORDS: Final = {
    word: value
    for value, word in enumerate(
        ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), start=1
    )
}

NUMBER: Final = rf"\d+(?:\.\d+)?|{'|'.join(_NUMBER_WORDS)}"
SECONDS: Final = rf"(?:{NUMBER})[ -]*(?:s|secs?|seconds?)\b"

_QUOTED = re.compile(r"\"([^\"]*)\"|“([^”]*)”|«([^»]*)»|(?<!\w)'([^']*)'(?!\w)")
_COLOR = re.compile(
    rf"#[0-9a-f]{{8}}\b|#[0-9a-f]{{6}}\b|#[0-9a-f]{{3,4}}\b|\b(?:(?:dark|light)[ -])?(?:{'|'.join(COLORS)})\b",
    re.IGNORECASE,
)
_SECONDS = re.compile(rf"({NUMBER})[ -]*(?:s|secs?|seconds?)\b", re.IGNORECASE)
_VERB = (
    "add|append|insert|create|include|make|set|change|update|remove|delete|drop|swap|switch|rename|call|move|extend|"
    "lengthen|shorten|trim|duplicate|copy|use|put|turn|paint|give|replace"
)
_CLAUSE_BREAK = re.compile(
    rf"(?:\s*[,;.]\s*|\s+)(?:and\s+then|and\s+also|and|then|also)\s+(?=(?:{_VERB})\s)|[;.!]\s+(?=(?:{_VERB})\s)|\n+",
    re.IGNORECASE,
)
_COURTESY = re.compile(
    r"^(?:(?:hi|hello|hey|ok|okay|so|now|please|then|also|and|great|thanks|can you|could you|would you|will you|"
    r"i want you to|i'd like you to|i would like you to|you should|let's|let us|kindly|just)\b[\s,!.:]*)+",
    re.IGNORECASE,
)
_CLOSING_COURTESY = re.compile(r"[\s,]*\b(?:please|for me|thanks|thank you)\s*$", re.IGNORECASE)


def clauses(text: str) -> list[str]:
    """The requests that a message strings together with "and", "then" or full stops, without courtesies.

    What stands in quotes is never split, and " and " splits only before a verb of a request.
    """
    masked = _QUOTED.sub(lambda found: "\x01" * len(found.group()), text)
    bounds, start = [], 0
    for found in _CLAUSE_BREAK.finditer(masked):
        bounds.append((start, found.start()))
        start = found.end()
    bounds.append((start, len(text)))
    parts = (_plain_clause(text[begin:end]) for begin, end in bounds)
    return [part for part in parts if part]


def _plain_clause(text: str) -> str:
    text = _COURTESY.sub("", text.strip())
    text = _CLOSING_COURTESY.sub("", text.rstrip(" .!?\t\n"))
    return text.strip().rstrip(".!?").strip()


def first_quoted(text: str) -> str | None:
    """What stands in the text's first quotes."""
    found = _QUOTED.search(text)
    return None if found is None else next(group for group in found.groups() if group is not None).strip()


def without_quotes(text: str) -> str:
    """The text with everything quoted cut out, for looking at the rest."""
    return _QUOTED.sub(" ", text)


def unquoted(text: str) -> str:
    """The text without a pair of quotes around the whole of it."""
    text = text.strip()
    found = _QUOTED.fullmatch(text)
    return text if found is None else next(group for group in found.groups() if group is not None).strip()


def colors(text: str) -> list[str]:
    """All colours named in the text, as hex."""
    return [_hex(found.group().lower()) for found in _COLOR.finditer(text)]


def color(text: str) -> str | None:
    """The colour that the text is (`blue`, `dark green`, `#0af`, `a nice red`); None when it names none or several."""
    named = colors(text)
    return named[0] if len(named) == 1 else None


def _hex(name: str) -> str:
    if name.startswith("#"):
        return name
    shade, _, base = name.replace("-", " ").rpartition(" ")
    return _SHADES.get(shade, {}).get(base, COLORS[base])


def seconds(text: str) -> float | None:
    """The first time in seconds that the text states."""
    found = _SECONDS.search(text)
    return None if found is None else number(found.group(1))


def number(text: str) -> float:
    """The number that `NUMBER` matched; whole ones as int, so that they are written without a point."""
    word = text.strip().lower()
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    return tidy(float(word))


def tidy(value: float) -> float:
    """The number to a thousandth, an int where it is whole."""
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def ordinal(text: str) -> int | None:
    """The position, counted from 1, of "second", "2nd", "2" or "two"; None for anything else."""
    word = text.strip().lower().lstrip("#")
    if word in _ORDINAL_WORDS:
        return _ORDINAL_WORDS[word]
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    found = re.fullmatch(r"(\d{1,6})(?:st|nd|rd|th)?", word)
    return None if found is None else int(found.group(1))


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
