"""python -m tests.model --faults 3 [--story tool] [--cancels 1] [--retries 1] [--max-tries 2] [--latency] [--without NAME …]

Walks through every interleaving within these bounds; prints how many states there are, or the shortest way to a broken
promise (and then ends with 1).
"""

from __future__ import annotations

import argparse

from tests.model.search import explore
from tests.model.state import Bounds, Mechanisms, Story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--story", type=Story, choices=list(Story), default=Story.TOOL)
    parser.add_argument("--faults", type=int, default=2)
    parser.add_argument("--cancels", type=int, default=0)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--max-tries", type=int, default=2)
    parser.add_argument("--latency", action="store_true", help="published events may arrive late at a live reader")
    parser.add_argument("--without", nargs="+", choices=Mechanisms._fields, default=[], metavar="NAME")
    said = parser.parse_args()
    bounds = Bounds(
        story=said.story,
        faults=said.faults,
        cancels=said.cancels,
        retries=said.retries,
        max_tries=said.max_tries,
        has_latency=said.latency,
    )
    result = explore(bounds, Mechanisms().without(*said.without))
    print(result)
    if result.trace is None:
        return 0
    print(result.trace)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
