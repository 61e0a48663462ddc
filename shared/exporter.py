"""Tells scrapers what `shared.metrics` counted, in the text format of Prometheus, with what the database says.

One scrape answers for every process that shares a directory: an API process of gunicorn for all of them, a builder's parent
for its children. What a process counted stays when it dies; what it had (gauges) goes with it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

import prometheus_client
import tenacity
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared import metrics
from shared.errors import NotMigrated, StoreUnavailable
from shared.records import Figures

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST
ASKED_EVERY_S: Final = 5.0
"""The database is asked no more often, whoever scrapes."""
_PREFIX: Final = "chatrelay-metrics"

_log = logging.getLogger(__name__)


class FigureSource(Protocol):
    """What the exporter asks of the store."""

    def figures(self) -> Figures: ...


class Exporter:
    """`store` None: nothing is asked of the database."""

    def __init__(self, store: FigureSource | None = None) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Counted())
        if store is not None:
            self._registry.register(_Asked(store))
        for metric in metrics.ALL:
            metric.touch()

    def scrape(self) -> bytes:
        return prometheus_client.generate_latest(self._registry)

    def serve(self, port: int | None) -> None:
        """Answer ``GET /metrics`` on `port` from a thread; None or 0: nobody asks.

        A port that is taken costs the metrics, and no answer: the process goes on.
        """
        if not port:
            return
        try:
            prometheus_client.start_http_server(port, registry=self._registry)
        except OSError as error:
            _log.error("metrics are not told on port %d: %s", port, error)
        else:
            _log.info("metrics on port %d", port)


class _Counted(Collector):
    """What this process counted, or all that share its directory."""

    def collect(self) -> Iterator[Metric]:
        directory = metrics.shared_directory()
        if directory is None:
            yield from metrics.REGISTRY.collect()
            return
        yield from _of_all(directory)


class _Asked(Collector):
    """What the database says: asked once in a while, by one scrape at a time, and left out where it does not answer."""

    def __init__(self, store: FigureSource) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._figures: Figures | None = None

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at >= ASKED_EVERY_S:
                self._figures = self._ask()
                self._asked_at = time.monotonic()
            return [] if self._figures is None else list(_families(self._figures))

    def _ask(self) -> Figures | None:
        try:
            return self._store.figures()
        except (StoreUnavailable, NotMigrated):
            return None


def _families(figures: Figures) -> Iterator[Metric]:
    unfinished = _family(metrics.UNFINISHED)
    for status, count in figures.unfinished.items():
        unfinished.add_metric([status], count)
    depth, oldest = _family(metrics.QUEUE_DEPTH), _family(metrics.QUEUE_OLDEST)
    for name, queue in figures.queues.items():
        depth.add_metric([name], queue.depth)
        oldest.add_metric([name], queue.oldest_s)
    yield from (unfinished, depth, oldest)
    if figures.sweepers_silent_s is not None:
        silent = _family(metrics.SWEEPER_SILENT)
        silent.add_metric([], figures.sweepers_silent_s)
        yield silent
    if figures.disagreements is not None:
        audit = _family(metrics.AUDIT)
        audit.add_metric([], figures.disagreements)
        yield audit


def _family(metric: metrics.Asked) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)


# --- the directory that processes share ---------------------------------------------------------------------------


def share() -> None:
    """Have this process and those that it forks keep their figures together. To be called before anything is counted."""
    if metrics.shared_directory() is None:
        parent = Path(tempfile.gettempdir())
        _clear_abandoned(parent)
        metrics.share(Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-", dir=parent)))


def unshare() -> None:
    """The process that called `share` ends."""
    directory = metrics.shared_directory()
    if directory is not None and directory.name.startswith(f"{_PREFIX}-{os.getpid()}-"):
        shutil.rmtree(directory, ignore_errors=True)


def _clear_abandoned(parent: Path) -> None:
    """Directories of processes that were killed. One of this process's id was somebody's before it."""
    for directory in parent.glob(f"{_PREFIX}-*-*"):
        match = re.match(rf"{_PREFIX}-([0-9]+)-", directory.name)
        if match is not None and (int(match[1]) == os.getpid() or not _lives(int(match[1]))):
            shutil.rmtree(directory, ignore_errors=True)


# a process that begins makes its files empty first, and another one that is asked may have taken a dead one's away just now
@tenacity.retry(
    retry=tenacity.retry_if_exception_type((FileNotFoundError, struct.error)),
    stop=tenacity.stop_after_attempt(20),
    wait=tenacity.wait_fixed(0.02),
    reraise=True,
)
def _of_all(directory: Path) -> list[Metric]:
    """What all processes counted that share the directory."""
    _forget_gauges_of_the_dead(directory)
    together = multiprocess.MultiProcessCollector(None, path=str(directory))  # type: ignore[no-untyped-call]
    return list(together.collect())  # type: ignore[no-untyped-call]


def _forget_gauges_of_the_dead(directory: Path) -> None:
    for path in directory.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not _lives(pid):
            multiprocess.mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
