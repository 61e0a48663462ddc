"""How long to wait before the provider is asked again: exponential, with jitter."""

from __future__ import annotations

from collections.abc import Iterator

from tenacity import RetryCallState, Retrying, wait_exponential_jitter


def pauses(*, first_s: float, most_s: float) -> Iterator[float]:
    """Seconds to wait after the first failure, the second, and so on, without end."""
    wait = wait_exponential_jitter(multiplier=first_s, max=most_s, jitter=first_s)
    state = RetryCallState(Retrying(), None, (), {})
    while True:
        yield wait(state)
        state.attempt_number += 1
