"""What the calls stand on: made once per process, by whoever makes the real clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore

from api.auth import Authenticator
from api.figures import Figures
from api.rates import Rates
from api.relay import Relay
from shared.doorbell import Doorbell
from shared.event_log import EventLog
from shared.exporter import Exporter
from shared.patching import PatchLimits
from shared.settings import Settings
from shared.store import Store, SubmitLimits


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One thing that `/readyz` looks at. `look` answers in a few words and raises what its client raises."""

    name: str
    look: Callable[[], str]
    failures: tuple[type[Exception], ...]
    """What `look` raises where the thing is away."""


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: Settings
    store: Store
    authenticator: Authenticator
    """Who asks is found out by nobody else."""
    log: EventLog
    doorbell: Doorbell
    relay: Relay
    exporter: Exporter
    probes: tuple[Probe, ...]
    figures: Figures
    """What operators are told of the whole system."""
    rates: Rates
    waiting: BoundedSemaphore
    """Held by each request that waits for an answer's end: at most half of the request threads do."""

    @property
    def patch_limits(self) -> PatchLimits:
        return PatchLimits(
            max_operations=self.settings.max_patch_operations,
            max_segments=self.settings.max_pointer_segments,
            max_depth=self.settings.max_json_depth,
            max_document_bytes=self.settings.max_document_bytes,
        )

    @property
    def submit_limits(self) -> SubmitLimits:
        return SubmitLimits(
            max_unfinished=self.settings.max_unfinished_per_user,
            max_tokens_per_day=self.settings.max_tokens_per_day,
        )
