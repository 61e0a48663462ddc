"""What goes wrong, each as one step that takes one from the faults that may still happen.

Lost replies, lost messages and drains are where they happen: in `log.py` and `worker.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.log import may_happen
from tests.model.reader import joined
from tests.model.state import Chapter, Fault, Label, Link, Phase, Rules, State
from tests.model.worker import sends_next

BACK = "Redis is back"


def steps(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    if not state.redis_is_up:
        yield Label(BACK), state._replace(redis_is_up=True)
    if not state.faults:
        return
    one_less = state._replace(faults=state.faults - 1)
    reader = state.reader
    if may_happen(rules, state, Fault.KILL):
        for worker in state.workers:
            others = tuple(other for other in state.workers if other is not worker)
            yield Label("", worker.name, Fault.KILL), one_less._replace(workers=others)
    if may_happen(rules, state, Fault.PAUSE):
        yield from _pauses(state)
    if may_happen(rules, state, Fault.WIPE) and state.log and state.redis_is_up:
        yield Label("", 0, Fault.WIPE), one_less._replace(log=(), log_is_whole=False)
    if may_happen(rules, state, Fault.AWAY) and state.redis_is_up:
        cut = reader if reader.phase is Phase.LEFT else reader._replace(link=Link.DOWN)
        if cut.phase is Phase.LIVE:
            cut = cut._replace(backlog=())  # it was still on the wire
        yield (
            Label("", 0, Fault.AWAY),
            one_less._replace(redis_is_up=False, reader=cut, log_is_whole=False),
        )
    if reader.phase is not Phase.LEFT and may_happen(rules, state, Fault.RECONNECT):
        yield Label("", 0, Fault.RECONNECT), one_less._replace(reader=joined(state))
    if reader.phase is Phase.LIVE and may_happen(rules, state, Fault.SLOW):
        slow = reader._replace(phase=Phase.SLOW, backlog=())
        yield Label("", 0, Fault.SLOW), one_less._replace(reader=slow)


def _pauses(state: State) -> Iterator[tuple[Label, State]]:
    for worker in state.workers:
        if worker.is_expired or worker.chapter >= Chapter.TELL:
            continue
        for is_past_check in (False, True) if sends_next(state, worker) else (False,):
            paused = worker._replace(is_expired=True, is_past_check=is_past_check)
            workers = tuple(paused if other is worker else other for other in state.workers)
            yield (
                Label("", worker.name, Fault.PAUSE),
                state._replace(workers=workers, faults=state.faults - 1, log_is_whole=False),
            )
