"""The real worker, with a consumer that SIGUSR2 gets stuck for ever: Celery's main thread, which hears the bells."""

from __future__ import annotations

import signal
import threading

from celery import signals

from worker.celery_app import app

__all__ = ["app"]


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # celery is untyped
def _get_stuck_when_told(**_: object) -> None:
    signal.signal(signal.SIGUSR2, lambda *_: threading.Event().wait())
