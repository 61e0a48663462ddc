"""Batches, as far as nothing is needed to know it: rates, slots, and which bell is heard first."""

from __future__ import annotations

from typing import Any

import pytest

from shared import keys
from shared.batches import FASTEST, rate_per_s
from shared.doorbell import InteractiveFirst
from worker.tasks import slots_for_batches


def test_a_rate_is_a_number_and_a_unit() -> None:
    assert [rate_per_s(text) for text in ("5/s", "90/m", "36/h", "0.5/s")] == [5, 1.5, 0.01, 0.5]
    for text in ("", "5", "/s", "0/s", "-1/s", "1e3/s", "5/d", "5 /s", f"{FASTEST + 1:g}/s", "nan/s"):
        with pytest.raises(ValueError, match="5/s"):
            rate_per_s(text)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.999])
def test_a_slot_is_always_left_to_people_and_one_to_batches_where_there_are_two(concurrency: int, share: float) -> None:
    slots = slots_for_batches(concurrency, share)
    assert slots < concurrency
    assert slots >= min(1, concurrency - 1)
    assert slots <= max(1, concurrency * share)


@pytest.mark.parametrize(
    "given", [[keys.BATCH_QUEUE, keys.INTERACTIVE_QUEUE], [keys.INTERACTIVE_QUEUE, keys.BATCH_QUEUE]]
)
def test_a_batchs_bell_is_heard_once_no_other_waits_however_many_were_heard_before(given: list[str]) -> None:
    """The order of the queues in what a worker asks Redis for: BRPOP takes of the first that has something."""
    kind: Any = InteractiveFirst  # its base has no types
    order = kind()
    order.update(given)
    for heard in (keys.INTERACTIVE_QUEUE, keys.BATCH_QUEUE, keys.BATCH_QUEUE):
        order.rotate(heard)
        assert order.consume(2) == [keys.INTERACTIVE_QUEUE, keys.BATCH_QUEUE]
