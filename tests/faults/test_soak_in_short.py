"""The soak, in short: the same code as `python -m benchmarks.soak`, with few messages and a few kinds of faults."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from benchmarks.soak.run import Options, soak

SEED: Final = 7
KINDS: Final = ("kill", "stop", "flush", "clients", "bells", "backends", "valkey-empty", "postgres")


@pytest.mark.timeout(300)
def test_nothing_is_lost_stuck_doubled_or_told_wrongly_while_things_fail(tmp_path: Path) -> None:
    """Sixty messages with tools, cancels, retries and four readers each; every kind of fault comes at least once."""
    report = soak(
        Options(
            messages=60,
            seed=SEED,
            minutes=2.0,
            people=12,
            chunks=16,
            kinds=KINDS,
            pause_s=(0.3, 1.0),
            artifacts=tmp_path,
        )
    )
    print(report)
    assert not report.violations, f"seed {SEED}: {report.violations}"
    assert set(report.faults) == set(KINDS)
    assert sum(report.statuses.values()) == report.messages >= 50
    assert report.effects == report.document_versions == report.document_items > 0
    assert report.readers >= report.messages * 4
    assert report.reconnects > 0
