"""The benchmarks run, their load's readers notice what is wrong, and what came out can be read again."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks import attacks
from benchmarks.machine import this_machine
from benchmarks.programs.readers import Reader, Readers
from benchmarks.report import BEGIN, END, write_into
from benchmarks.results import Results
from benchmarks.row import Bench, run_row
from benchmarks.rows import ROWS
from tests.stack import StackStarter


def test_a_row_is_measured_in_turn_written_and_read_again(tmp_path: Path) -> None:
    """Both sides as often as was asked for; the page has its ratio between the marks, and keeps what is around them."""
    done: list[tuple[str, int]] = []
    with StackStarter() as stacks:
        bench = Bench(stacks=stacks, is_quick=True)
        result = run_row(
            ROWS["append"],
            bench,
            repeats=2,
            watch=lambda what, count, of: done.append((what.partition(": ")[2], count)),
        )
    assert done == [("starting", 0), ("ours", 0), ("the reference", 1), ("the reference", 2), ("ours", 3)]
    results = Results(
        began_at="2026-11-26T00:00:00+00:00", repeats=2, is_quick=True, machine=this_machine(), rows=[result]
    )
    results.write(tmp_path / "results.json")
    read = Results.read(tmp_path / "results.json")
    assert read == results
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nwhat was there\n{END}\nafter\n")
    write_into(page, read)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| `append` | Redis CPU per append |" in text
    assert "what was there" not in text


@pytest.mark.parametrize(
    ("told", "events", "problems"),
    [
        (["1-0", "1-1", "1-2"], 3, 0),
        (["1-0", "1-2"], 1, 1),
        (["1-0", "1-1", "1-1"], 2, 1),
        (["1-0", "1-1", "2-0"], 3, 0),
        (["1-0", "1-1", "2-1"], 2, 1),
        (["1-0", "1-1", "1-0"], 2, 1),
    ],
)
def test_a_reader_of_the_load_notices_a_gap_and_an_event_that_comes_twice(
    told: list[str], events: int, problems: int
) -> None:
    everyone = Readers()
    with socket.socket() as nowhere:
        reader = Reader(everyone, nowhere, "reader")
        for event_id in told:
            payload = b'{"type":"delta","id":"%s","content":"x"}' % event_id.encode()
            reader.take(payload, 0, len(payload))
    assert (everyone.events, len(everyone.problems)) == (events, problems)


def test_a_merged_delta_stands_for_all_that_it_names() -> None:
    everyone = Readers()
    with socket.socket() as nowhere:
        reader = Reader(everyone, nowhere, "reader")
        for payload in (b'{"type":"status","id":"1-0"}', b'{"type":"delta","id":"1-5","content":"x","from":"1-1"}'):
            reader.take(payload, 0, len(payload))
    assert (everyone.events, everyone.problems) == (6, [])


def test_attacks_are_made_noticed_by_nobody_and_told(tmp_path: Path) -> None:
    """Some, with few attackers, and for moments: who reads gets all, in order, and the page has a line for each."""
    names = ["silent", "frames", "bad-tokens"]
    with StackStarter() as stacks:
        told = list(attacks.run(stacks, names, seconds=0.5, is_quick=True))
    found = [one for one in told if isinstance(one, attacks.Attacked)]
    assert [one.name for one in found] == names
    for one in found:
        assert one.during.missing == one.before.missing == 0, one.name
        assert one.during.unanswered == one.before.unanswered == 0, one.name
        assert one.seen, one.name
    machine = this_machine()
    made = attacks.Attacks(
        began_at="2026-11-26T00:00:00+00:00",
        server="ours",
        seconds=0.5,
        machine=machine,
        others_share=0.0,
        attacks=found,
        limits=attacks.Limits(uncounted_us=[100.0, 120.0], counted_us=[110.0, 120.0]),
    )
    page = tmp_path / "page.md"
    page.write_text(f"before\n{attacks.BEGIN}\nwhat was there\n{attacks.END}\nafter\n")
    attacks.write_into(page, made)
    text = page.read_text()
    assert all(f"| `{name}`: " in text for name in names)
    assert "1.05 × (1.00–1.10)" in text
    assert "what was there" not in text
