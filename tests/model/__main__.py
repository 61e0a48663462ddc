"""A model of one message: every interleaving of who writes, sweeps and reads it, with so many faults, is walked through.

python -m tests.model --faults 3 [--story tool] [--cancels 1] [--retries 1] [--max-tries 2] [--latency] [--without NAME …]

Prints how many states there are, or the shortest way to a broken promise (and then ends with 1).

Modelled, each call of the store and each append as one step that happens or does not:

- two workers (`worker.py`): claim, open, delta, store the round, take effect, end, tell; renewal of the attempt, the lease,
  cancel, drain; a provider that breaks off. A builder is a worker whose row is `building`.
- the sweeper, whoever closes, and users (`sweeper.py`): lapsed leases, closings, stored endings; cancel and retry.
- the log with its append rule (`append.py`, `log.py`) and its channel.
- one reader in an API process (`reader.py`): subscribe, read the row, read the log, live, gaps, idle check, patience, too
  slow, reconnect. What it is sent and what it shows are the product's own functions (`product.py`).
- faults (`Fault` in `state.py`), so many in all. `promises.py` is what is checked, `search.py` how.

Not modelled: bells (what may be claimed may be claimed at any moment), the queue of a project, time (what takes long may take
for ever; a lease runs out only where somebody is killed, paused or cut off), batches of deltas, several calls a round, usage,
jobs beyond their being there, the log's expiry (as if emptied), Postgres away for a writer (its step comes later), two
turns of one message in one process, several readers (they share nothing but the subscription).

What holds the model to the code: every step names a function that must exist; the append rule and the script answer every
append to every small log alike; shortest ways to every kind of step are walked on a real Postgres and a real Valkey, which
then hold what the model says.

How large: a tool call with 2 faults 409,444 states (17 s of CPU), with 3 faults 6,775,224 (322 s, 3.2 GB); a text with
3 faults 1,217,425 (57 s, 0.6 GB).
"""

from __future__ import annotations

import argparse

from tests.model.search import explore
from tests.model.state import Bounds, Mechanisms, Story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.partition("\n")[0])
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
