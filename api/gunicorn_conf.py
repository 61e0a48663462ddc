"""gunicorn's configuration: one process, request threads, and the relay's life in step with the worker's."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from gunicorn import glogging

from api.patient_worker import Bounds
from shared import exporter, heap, logs, traces
from shared.settings import InvalidSettings, load

try:
    _settings = load(os.environ)
except InvalidSettings as error:
    sys.exit(f"chatrelay: the settings are not valid\n{error}")

bind = f"0.0.0.0:{_settings.port}"
worker_class = "api.patient_worker.PatientWorker"
workers = 1
threads = _settings.api_threads
worker_connections = _settings.max_connections
keepalive = 30
timeout = 60
graceful_timeout = int(_settings.drain_s) + 1
control_socket_disable = True  # nobody uses it, and it wants a home to be written to
forwarded_allow_ips = ",".join(map(str, _settings.trusted_proxies))
sendfile = False  # what a client does not take at once is kept, and no thread waits for it
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
logs.configure("web", style=_settings.log_format, level=_settings.log_level)
logs.catch_what_nobody_caught()
accesslog = None  # `api.access_log` tells requests
loglevel = "warning"


class logger_class(glogging.Logger):  # type: ignore[misc]  # gunicorn is untyped, and asks for this name
    """gunicorn's own lines, among those of everybody."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers = []
        self.error_log.propagate = True


def on_starting(server: Any) -> None:
    """In gunicorn's own process: whichever of its workers is scraped tells of all of them."""
    exporter.share()


def post_worker_init(worker: Any) -> None:
    """Start the relay, and let it send its readers away as soon as the worker is told to stop."""
    worker.bounds = Bounds(
        head_s=_settings.request_head_s, body_s=_settings.request_body_s, most_body_bytes=_settings.max_body_bytes
    )
    relay = _relay(worker)
    relay.start()
    provider = _services(worker).authenticator.provider
    if provider is not None:
        provider.keys.prepare()
    heap.settle()
    stop_worker = signal.getsignal(signal.SIGTERM)

    def on_stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=relay.stop, args=(_settings.drain_s,), name="relay-stop").start()
        if callable(stop_worker):
            stop_worker(number, frame)

    signal.signal(signal.SIGTERM, on_stop)


def worker_exit(server: Any, worker: Any) -> None:
    """However the worker ends, its readers are told."""
    if getattr(worker, "wsgi", None) is not None:
        _relay(worker).stop(1.0)
    traces.stop()


def on_exit(server: Any) -> None:
    """gunicorn itself ends."""
    exporter.unshare()


def _services(worker: Any) -> Any:
    return worker.wsgi.extensions["chatrelay"]


def _relay(worker: Any) -> Any:
    return _services(worker).relay
