"""With every mechanism in place, no interleaving within the bounds breaks a promise."""

from __future__ import annotations

from functools import cache
from typing import Final

import pytest

from shared.lifecycle import MOVES
from tests.model import reader, sweeper, worker
from tests.model.search import Result, explore
from tests.model.state import Bounds, Fault, Story

BOUNDS: Final = {
    "a tool call with two faults of any kind": Bounds(story=Story.TOOL, faults=2),
    "a text that is retried, with one fault": Bounds(story=Story.TEXT, faults=1, retries=1),
    "a text whose events arrive late, with one fault": Bounds(story=Story.TEXT, faults=1, has_latency=True),
    "a component that is retried, with one worker killed and no try to spare": Bounds(
        story=Story.COMPONENT, faults=1, kinds=frozenset({Fault.KILL}), retries=1, max_tries=1
    ),
    "a component that is cancelled and retried": Bounds(story=Story.COMPONENT, faults=0, cancels=1, retries=1),
}


# seconds of CPU in all, and more on a machine that does other things as well
pytestmark = pytest.mark.timeout(900)


@cache
def explored(name: str) -> Result:
    return explore(BOUNDS[name])


@pytest.mark.parametrize("name", list(BOUNDS))
def test_no_interleaving_breaks_a_promise_of(name: str) -> None:
    """`promises.py` lists them; the last is that from everywhere the end can be reached."""
    result = explored(name)
    print(result)
    assert result.trace is None, str(result.trace)
    assert result.ends


def test_every_legal_move_of_the_lifecycle_happens_and_no_other() -> None:
    happened = {move for name in BOUNDS for move in explored(name).moves}
    assert happened == {(before, after) for before, moves in MOVES.items() for after in moves}


def test_every_step_and_every_fault_of_the_model_happens() -> None:
    """But for the one that exists only where effect and ledger are apart."""
    steps = {*worker.STANDS_FOR, *sweeper.STANDS_FOR, *reader.STANDS_FOR} - {worker.LEDGER_WRITTEN}
    assert steps <= {step for name in BOUNDS for step in explored(name).steps}
    assert set(Fault) == {fault for name in BOUNDS for fault in explored(name).faults}
