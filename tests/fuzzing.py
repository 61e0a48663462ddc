"""How hard the fuzz tests try: a short form for every run of the tests, a long one for a release (docs/fuzzing.md)."""

from __future__ import annotations

import os
from typing import Final

import hypothesis

CASES: Final = "CHATRELAY_FUZZ_CASES"
"""The environment's name for how many cases each property is tried with; unset: the short form."""


def is_long() -> bool:
    return CASES in os.environ


def cases(short: int, *, share: float = 1.0) -> hypothesis.settings:
    """`short` cases; in the long form `share` of what the environment asks for."""
    most = max(short, int(int(os.environ[CASES]) * share)) if is_long() else short
    return hypothesis.settings(max_examples=most)
