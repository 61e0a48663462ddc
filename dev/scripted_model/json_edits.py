"""Requests to edit any JSON document: set, add to a list, remove, rename, by JSON Pointer, dotted path or plain name."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from dev.scripted_model import phrases
from dev.scripted_model.draft import CannotEdit, Draft, Token, pointer

Path = tuple[Token, ...]


def edit(clause: str, draft: Draft) -> str | None:
    """Makes the change that the clause asks for and returns a sentence about it; None when it asks for none.

    Raises CannotEdit where the document does not allow it.
    """
    for pattern, intent in _INTENTS:
        found = pattern.fullmatch(clause)
        if found is not None:
            done = intent(found, draft)
            if done is not None:
                return done
    return None


def edit_by_pointer(clause: str, draft: Draft) -> str | None:
    """As `edit`, but only where the clause has a JSON Pointer."""
    return edit(clause, draft) if re.search(r"(?:^|\s)/\w", clause) else None


def _set(found: re.Match[str], draft: Draft) -> str | None:
    value = _value(found["value"])
    path = _existing_path(found["path"], draft) or _new_path(found["path"], draft)
    parent = draft.value(*path[:-1])
    if isinstance(parent, list) and not (isinstance(path[-1], int) and path[-1] < len(parent)):
        draft.append(*path[:-1], value=value)
    elif not path:
        raise CannotEdit("I change parts of the document, not the whole of it at once.")
    else:
        draft.set(*path, to=value)
    return f"Set `{pointer(*path)}` to {_shown(value)}."


def _change(found: re.Match[str], draft: Draft) -> str | None:
    return _set(found, draft) if _existing_path(found["path"], draft) else None


def _add(found: re.Match[str], draft: Draft) -> str | None:
    path = _list_path(found["path"], draft)
    value = _value(found["value"])
    items = draft.value(*path)
    if isinstance(value, str) and items and isinstance(items[-1], dict):
        value = _like(items[-1], value)
    draft.append(*path, value=value)
    return f"Added {_shown(value)} to `{pointer(*path)}`."


def _take(found: re.Match[str], draft: Draft) -> str | None:
    path = _list_path(found["path"], draft)
    wanted = _value(found["value"])
    for index, item in enumerate(draft.value(*path)):
        held = list(item.values()) if isinstance(item, dict) else [item]
        if any(_same(part, wanted) for part in held):
            draft.remove(*path, index)
            return f"Removed {_shown(wanted)} from `{pointer(*path)}`."
    raise CannotEdit(f"There's no {_shown(wanted)} in `{pointer(*path)}`.")


def _remove(found: re.Match[str], draft: Draft) -> str | None:
    path = _existing_path(found["path"], draft)
    if not path:
        return None
    draft.remove(*path)
    return f"Removed `{pointer(*path)}`."


def _rename(found: re.Match[str], draft: Draft) -> str | None:
    path = _existing_path(found["path"], draft)
    if not path or not isinstance(path[-1], str):
        return None
    name = phrases.unquoted(found["name"])
    if name in draft.value(*path[:-1]):
        raise CannotEdit(f"There's a `{name}` beside it already.")
    draft.rename_member(*path, name=name)
    return f"Renamed `{pointer(*path)}` to `{name}`."


def _value(text: str) -> Any:
    """The JSON value that the text is, else the text itself, without quotes around it."""
    text = text.strip()
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return phrases.unquoted(text)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return f"`{text if len(text) <= 120 else text[:119] + '…'}`"


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, str) and isinstance(wanted, str):
        return value.lower() == wanted.lower()
    return bool(value == wanted)


def _like(model: dict[str, Any], text: str) -> dict[str, Any]:
    """An item of the shape of another one: its first text is this one, its booleans are false."""
    main = next((key for key, value in model.items() if isinstance(value, str) and key != "id"), "name")
    return {main: text, **{key: False for key, value in model.items() if isinstance(value, bool)}}


def _key_form(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()


def _tokens(text: str) -> list[str] | None:
    """The tokens of a JSON Pointer or of a dotted path; None for a plain name."""
    text = phrases.unquoted(text).strip("`")
    if text.startswith("/"):
        return [token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/")]
    if re.fullmatch(r"[\w-]+(?:(?:\.[\w-]+)|(?:\[\d+\]))+", text):
        return re.findall(r"[\w-]+", text)
    return None


def _follow(tokens: list[str], document: Any) -> Path | None:
    """The path of the tokens in the document, list indexes as numbers; None where it ends before they do."""
    path: list[Token] = []
    value = document
    for token in tokens:
        if isinstance(value, dict) and token in value:
            path.append(token)
            value = value[token]
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            path.append(int(token))
            value = value[int(token)]
        else:
            return None
    return tuple(path)


def _existing_path(text: str, draft: Draft) -> Path | None:
    """The path that the text names, by itself or as the only member of that name anywhere; None when there is none."""
    tokens = _tokens(text)
    if tokens is not None:
        return _follow(tokens, draft.document)
    wanted = _key_form(phrases.unquoted(text).strip("`"))
    named = [path for path in _members(draft.document, ()) if _key_form(str(path[-1])) == wanted]
    shallow = [path for path in named if len(path) == 1]
    if shallow:
        return shallow[0]
    return named[0] if len(named) == 1 else None


def _members(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from _members(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _members(inner, (*path, index))


def _new_path(text: str, draft: Draft) -> Path:
    tokens = _tokens(text)
    if tokens is None:
        if not isinstance(draft.document, dict):
            raise CannotEdit("The document isn't an object, so I can't put a name into it.")
        words = re.findall(r"\w+", text)
        if not words:
            raise CannotEdit("I don't see what to set.")
        return (words[0] + "".join(word.capitalize() for word in words[1:]),)
    parent = _follow(tokens[:-1], draft.document)
    if parent is None:
        raise CannotEdit(f"There's no `{pointer(*tokens[:-1])}` in the document to put `{tokens[-1]}` into.")
    inside = draft.value(*parent)
    if isinstance(inside, dict) or (isinstance(inside, list) and tokens[-1] == "-"):
        return (*parent, tokens[-1])
    raise CannotEdit(f"`{pointer(*parent)}` can't hold `{tokens[-1]}`.")


def _list_path(text: str, draft: Draft) -> Path:
    path = _existing_path(re.sub(r"\s+list$", "", text, flags=re.IGNORECASE), draft) or _existing_path(text, draft)
    if path is not None and isinstance(draft.value(*path), list):
        return path
    lists = [member for member in _members(draft.document, ()) if isinstance(draft.value(*member), list)]
    if len(lists) == 1 and text.lower().strip() in {"list", "it", "items", "document", "end"}:
        return lists[0]
    raise CannotEdit(f"I can't find a list called “{text.strip()}” in the document.")


Intent = Callable[[re.Match[str], Draft], str | None]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_INTENTS: Final[tuple[tuple[re.Pattern[str], Intent], ...]] = (
    (_pattern(r"set\s+(?:the\s+)?(?P<path>.+?)(?:\s+to\s+|\s*=\s*)(?P<value>.+)"), _set),
    (_pattern(r"(?:change|update|make)\s+(?:the\s+)?(?P<path>.+?)(?:\s+to\s+|\s*=\s*)(?P<value>.+)"), _change),
    (
        _pattern(
            r"(?:add|append|put)\s+(?:an?\s+|the\s+|another\s+)?(?:new\s+)?(?:(?:item|entry|element|task|"
            r"todo)\s+)?(?P<value>.+?)\s+"
            r"(?:to|on|onto|in|into)\s+(?:the\s+|my\s+)?(?P<path>[^\s\"]+(?:\s+list)?)"
        ),
        _add,
    ),
    (
        _pattern(
            r"(?:remove|delete|drop|take)\s+(?:the\s+)?(?:(?:item|entry|element|task|"
            r"todo)\s+)?(?P<value>.+?)\s+(?:from|off)\s+"
            r"(?:the\s+|my\s+)?(?P<path>[^\s\"]+(?:\s+list)?)"
        ),
        _take,
    ),
    (_pattern(r"rename\s+(?:the\s+)?(?P<path>.+?)\s+to\s+(?P<name>\S+)"), _rename),
    (_pattern(r"(?:remove|delete|drop)\s+(?:the\s+)?(?P<path>.+)"), _remove),
)
