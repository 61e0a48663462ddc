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
    """`short` cases, the same in every run; in the long form `share` of what the environment asks for, others in each."""
    if not is_long():
        return hypothesis.settings(max_examples=short, derandomize=True)
    return hypothesis.settings(max_examples=max(short, int(int(os.environ[CASES]) * share)))
