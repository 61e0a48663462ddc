"""Whoever runs the system sees whether a sweeper comes round."""

from __future__ import annotations

from typing import Any

from tests.people import eventually
from tests.stack import Stack


def _sweepers(stack: Stack) -> str:
    answer: dict[str, Any] = stack.client().get("/readyz").json()
    said: str = answer["checks"]["sweepers"]
    return said


def test_a_sweeper_that_is_gone_is_told_as_late_and_takes_no_api_process_away(fragile: Stack) -> None:
    """`/readyz` stays ready: requests are answered as before, only what died is not seen to."""
    eventually(lambda: _sweepers(fragile) == "ok")
    fragile.kill("sweeper")
    eventually(lambda: _sweepers(fragile).startswith("late: none has come round for"))
    assert fragile.client().get("/readyz").status_code == 200
    fragile.restart("sweeper")
    eventually(lambda: _sweepers(fragile) == "ok")
