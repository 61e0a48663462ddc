"""How often Redis was asked for what, by its own count."""

from __future__ import annotations

from typing import Final

import redis

_OWN: Final = frozenset({"info", "config|resetstat"})
"""What looking costs."""


class RedisCalls:
    """Since it was made. Commands that a script runs are counted beside the script's own call."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._before = self._look()

    def calls(self) -> dict[str, int]:
        """By command, in lower case; those that were not called are missing."""
        now = self._look()
        grown = {name: count - self._before.get(name, 0) for name, count in now.items()}
        return {name: count for name, count in grown.items() if count and name not in _OWN}

    def _look(self) -> dict[str, int]:
        found = self._client.info("commandstats")
        assert isinstance(found, dict)
        return {name.removeprefix("cmdstat_"): int(stats["calls"]) for name, stats in found.items()}
