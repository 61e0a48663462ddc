"""What is written about performance follows from the figures that are kept beside it."""

from __future__ import annotations

from benchmarks.explaining import Size, plan_of, wasteful, whole_tables
from benchmarks.paper import BEGIN, PAGE, costs, lines, markdown
from benchmarks.report import END


def test_what_a_million_readers_need_is_computed_from_the_figures_that_are_published() -> None:
    """After a new measurement `python -m benchmarks paper` writes it anew."""
    written = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert written.strip() == markdown(costs()).strip()


def test_the_arithmetic_grows_with_what_was_measured() -> None:
    found = costs()
    dearer = found._replace(append_us=2 * found.append_us)
    shards, doubled = (
        next(line.result for line in lines(one) if line.what.startswith("Redis, an event")) for one in (found, dearer)
    )
    assert 2 * _number(shards) - 1 <= _number(doubled) <= 2 * _number(shards) + 1


def _number(result: str) -> int:
    return int(result.removeprefix("**").partition(" ")[0].replace(",", ""))


def test_a_plan_is_judged_by_what_it_reads_for_nothing() -> None:
    """A scan of a big table from end to end, or many rows for each that is given; a scan that ends early is neither."""
    sizes = {"messages": Size(blocks=10_000, rows=100_000), "users": Size(blocks=10, rows=1_000)}

    def judged(kind: str, relation: str, rows: float, thrown: float) -> tuple[list[str], list[str]]:
        told = {
            "Query Text": "SELECT 1",
            "Plan": {
                "Node Type": "Limit",
                "Actual Rows": rows,
                "Actual Loops": 1,
                "Plans": [
                    {
                        "Node Type": kind,
                        "Relation Name": relation,
                        "Actual Rows": rows,
                        "Actual Loops": 1,
                        "Rows Removed by Filter": thrown,
                    }
                ],
            },
        }
        plan = plan_of(told)
        return whole_tables(plan, sizes), wasteful(plan, sizes)

    assert judged("Seq Scan", "messages", 50, 99_950) == (
        ["reads all of messages"],
        ["Seq Scan on messages: 99,950 rows read for nothing, 50 given"],
    )
    assert judged("Seq Scan", "messages", 50, 100) == ([], [])
    assert judged("Seq Scan", "users", 1, 999) == ([], [])
    assert judged("Index Scan", "messages", 100_000, 0) == ([], [])
    assert judged("Index Scan", "messages", 10, 5_000)[1] != []
