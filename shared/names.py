"""How users are called. Pure."""

from __future__ import annotations

import re
from typing import Final

USER_NAME_RULE: Final = "1 to 200 characters, without spaces and slashes"

USER_NAME_PATTERN: Final = r"^(?!\.{1,2}$)[^\x00-\x20\x7f/]{1,200}$"
"""The rule as JSON Schema writes it."""
_USER_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x20\x7f/\ud800-\udfff]{1,200}")


def is_user_name(name: str) -> bool:
    """Whether a token's subject may be called so. It stands in addresses, where `.` and `..` would mean something else."""
    return _USER_NAME.fullmatch(name) is not None
