"""How a text is cut into the pieces of a stream, and when each is due: pure, and the same for the same seed."""

import random
import re
from collections.abc import Iterator
from itertools import cycle, pairwise
from typing import Final

TOKENS_PER_SECOND: Final = 40
FIRST_TOKEN_S: Final = 0.25

_TOKEN = re.compile(r"\s*(?:\w{1,7}|[^\w\s]{1,3})|\s+")


def tokens(text: str) -> list[str]:
    """Pieces of about a token's length, a word's leading blanks with the word; joined they are `text`."""
    return _TOKEN.findall(text)


def sized(text: str, size: int) -> list[str]:
    """Pieces of `size` characters, the last one shorter."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def split(text: str, count: int) -> list[str]:
    """`count` pieces whose lengths differ by at most one; fewer where the text has fewer characters."""
    count = min(count, len(text))
    bounds = [len(text) * index // count for index in range(count + 1)] if count else [0]
    return [text[start:end] for start, end in pairwise(bounds)]


def count_tokens(text: str) -> int:
    """A stand-in for a tokenizer's count: one for every four bytes begun."""
    return (len(text.encode()) + 3) // 4


def human_delays(seed: int) -> Iterator[float]:
    """Seconds before each piece, for ever: the first one longer, then around 1/40 s, varied by the seed alone."""
    variation = random.Random(seed)
    yield FIRST_TOKEN_S * (0.7 + 0.6 * variation.random())
    while True:
        yield (0.4 + 1.2 * variation.random()) / TOKENS_PER_SECOND


def even_delays(pace_s: float) -> Iterator[float]:
    """The same delay before each piece but the first, for ever."""
    yield 0.0
    yield from cycle((pace_s,))
