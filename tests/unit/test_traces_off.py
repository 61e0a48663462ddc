"""Traces that nobody asked for cost nothing: the library is not even loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared import traces

SET = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

EVERY_PROCESS = """
import os, sys
os.environ.update(environment)
if not installed:
    sys.modules["opentelemetry"] = None  # its import fails, as without the extra
import api.wsgi, worker.celery_app, worker.sweep, ops.cli
from shared import settings, traces
read = settings.load(environment)
somewhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
traces.start("web", environment, wanted=read.traces)
traces.start("worker", somewhere, wanted=False if installed else None)
worker.celery_app.build(read, worker.celery_app.app)
with traces.span("claim") as span, traces.request("GET", {}), traces.continued({"traceparent": "nonsense"}):
    span.note({"a": 1})
assert traces.carried() == traces.ids() == {}
traces.stop()
never = ("shared.trace_export", "opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf", "requests")
loaded = [name for name in never if name in sys.modules]
assert not loaded, loaded
if not installed:
    try:
        settings.load({**environment, "CHATRELAY_TRACES": "1"})
    except settings.InvalidSettings as error:
        assert "chatrelay[otel]" in str(error)
    else:
        raise AssertionError("traces that cannot be are not refused")
"""


@pytest.mark.parametrize("installed", [True, False], ids=["with the extra", "without it"])
def test_without_traces_no_process_loads_them(installed: bool) -> None:
    """Starting takes no longer and no memory for them. (What redis-py loads, where the extra is installed, is its own.)"""
    environment = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    program = f"environment, installed = {environment!r}, {installed}\n{EVERY_PROCESS}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("environment", "wanted", "on"),
    [
        ({}, None, False),
        ({}, True, True),
        (SET, None, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, None, True),
        (SET, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None, False),
        ({**SET, "OTEL_SDK_DISABLED": "true"}, None, False),
        ({**SET, "OTEL_TRACES_EXPORTER": "none"}, None, False),
    ],
)
def test_traces_are_on_where_they_are_asked_for_or_have_somewhere_to_go(
    environment: dict[str, str], wanted: bool | None, on: bool
) -> None:
    assert traces.is_wanted(environment, wanted) is on
