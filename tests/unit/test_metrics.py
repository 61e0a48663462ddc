"""What the repository says of the metrics is what processes tell: docs, dashboard and alerts are held to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml

from dev.run import DevStack
from dev.state import State
from shared import metrics
from shared.lifecycle import ErrorCode

_ROOT: Final = Path(__file__).parents[2]
_DASHBOARD: Final = _ROOT / "ops" / "grafana" / "chatrelay.json"
_ALERTS: Final = _ROOT / "ops" / "prometheus" / "alerts.yml"
_SCRAPE: Final = _ROOT / "ops" / "prometheus" / "scrape.yml"
_DOCS: Final = _ROOT / "docs" / "metrics.md"
_SAMPLES: Final = {name: labels for metric in metrics.ALL for name, labels in metric.samples.items()}
_OF_THE_SCRAPE: Final = frozenset({"instance", "job"})
"""Labels that Prometheus itself puts on each sample."""


def _table() -> list[str]:
    return [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.meaning} |"
        for metric in metrics.ALL
    ]


def _wrong(query: str) -> list[str]:
    """What in `query` no process tells: metrics, and labels that they do not have."""
    return [*_strangers(promql_parser.parse(query.replace("$__rate_interval", "5m")))]


def _strangers(parsed: Any) -> Iterator[str]:
    found: dict[str, frozenset[str]] = {}
    grouped: set[str] = set()
    for part in _parts(parsed):
        if isinstance(part, promql_parser.VectorSelector):
            if part.name is None:
                yield "a selector without a name"
                continue
            labels = _SAMPLES.get(part.name, frozenset()) | _OF_THE_SCRAPE
            if part.name not in _SAMPLES and part.name != "up":
                yield part.name
            found[part.name] = labels
            yield from (
                f"{part.name}{{{matcher.name}}}" for matcher in part.matchers.matchers if matcher.name not in labels
            )
        elif isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            grouped.update(part.modifier.labels)
    for label in grouped:
        if not all(label in labels for labels in found.values()):
            yield f"by ({label})"


def _parts(parsed: Any) -> Iterator[Any]:
    yield parsed
    match parsed:
        case promql_parser.BinaryExpr():
            inner: list[Any] = [parsed.lhs, parsed.rhs]
        case promql_parser.Call():
            inner = list(parsed.args)
        case promql_parser.MatrixSelector():
            inner = [parsed.vector_selector]
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.SubqueryExpr():
            inner = [parsed.expr]
        case promql_parser.UnaryExpr():
            inner = [parsed.expr]
        case _:
            inner = []
    for part in inner:
        yield from _parts(part)


def _dashboard_queries() -> list[tuple[str, str]]:
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(_ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in metrics.ALL:
        assert re.fullmatch(r"chatrelay_[a-z_]+", metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind is metrics.Kind.COUNTER), metric.name
        if metric.kind is metrics.Kind.HISTOGRAM:
            assert metric.name.endswith("_seconds"), metric.name
        assert metric.meaning.endswith("."), metric.name
        assert not {label for label in metric.labels if "id" in label or label in ("user", "project", "message")}
    assert len(_SAMPLES) == len({name for metric in metrics.ALL for name in metric.samples}), "names are unique"


def test_the_documentation_tells_every_metric_as_it_is() -> None:
    shown = [line for line in _DOCS.read_text().splitlines() if line.startswith("| `chatrelay_")]
    assert shown == _table(), "the table should be:\n" + "\n".join(_table())


def test_the_documentation_names_every_alert() -> None:
    shown = re.findall(r"^\| `(Chatrelay\w+)`", _DOCS.read_text(), re.M)
    assert shown == [rule["alert"] for rule in _rules()]


@pytest.mark.parametrize(("title", "query"), _dashboard_queries())
def test_the_dashboard_asks_for_what_there_is(title: str, query: str) -> None:
    assert not _wrong(query), title


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(query for _, query in _dashboard_queries())
    missing = [
        metric.name for metric in metrics.ALL if not any(re.search(rf"\b{name}\b", shown) for name in metric.samples)
    ]
    assert not missing
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert not _wrong(rule["expr"])
    assert promql_parser.parse_duration(rule["for"]).total_seconds() >= 60
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["runbook"]) > 40


def test_error_codes_that_alerts_name_exist() -> None:
    named = re.findall(r'code=~?"([^"]+)"', _ALERTS.read_text())
    codes = {code for names in named for code in names.split("|")}
    assert codes <= {*map(str, ErrorCode), "4008"}, codes


def test_the_example_of_a_scrape_reads_the_alerts() -> None:
    example = yaml.safe_load(_SCRAPE.read_text())
    assert [(_SCRAPE.parent / name).is_file() for name in example["rule_files"]] == [True]
    (job,) = example["scrape_configs"]
    assert job["job_name"] == "chatrelay", "the alerts ask for this job"
    assert {static["labels"]["process"] for static in job["static_configs"]} == {"web", "worker", "builder", "sweeper"}


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("sum(rate(chatrelay_nothing_total[5m]))", ["chatrelay_nothing_total"]),
        ('rate(chatrelay_messages_total{model="x"}[5m])', ["chatrelay_messages_total{model}"]),
        ("sum by (model) (rate(chatrelay_messages_total[5m]))", ["by (model)"]),
        ("histogram_quantile(0.5, sum by (le) (rate(chatrelay_relay_seconds_bucket[5m])))", []),
        ("chatrelay_relay_seconds > 1", ["chatrelay_relay_seconds"]),
        ("1 - (chatrelay_queue_depth / chatrelay_queue_deep)", ["chatrelay_queue_deep"]),
    ],
)
def test_the_check_of_queries_can_fail(query: str, wrong: list[str]) -> None:
    assert _wrong(query) == wrong


def test_labels_that_are_names_are_bounded() -> None:
    """What a user or a model makes up is "other"."""
    metrics.know(models=["known-model"], tools=["knownTool"])
    assert [metrics.model_label(name) for name in ("known-model", "made-up", None)] == ["known-model", "other", "other"]
    assert [metrics.tool_label(name) for name in ("knownTool", "made up")] == ["knownTool", "other"]
    assert [metrics.event_label(kind) for kind in ("finalized", "delta", "made_up")] == ["finalized", "delta", "other"]


def test_a_tally_hands_over_each_count_once() -> None:
    counter = metrics.LOG_APPENDS
    tally = metrics.Tally(counter, "tallied-here")

    def told() -> float | None:
        return metrics.REGISTRY.get_sample_value(counter.name, {"result": "tallied-here"})

    tally.count += 2
    assert told() is None
    tally.hand_over()
    tally.hand_over()
    assert told() == 2
    tally.count += 1
    tally.hand_over()
    assert told() == 3


def test_with_make_run_each_process_tells_its_metrics_on_a_port_of_its_own(tmp_path: Path) -> None:
    told = {"DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x", "OPENAI_API_KEY": "k"}

    def ports(environment: dict[str, str]) -> dict[str, str | None]:
        with State(tmp_path) as state:
            processes = DevStack(state, told | environment, port=8000).processes()
            return {process.name: (process.command().env or {}).get("CHATRELAY_METRICS_PORT") for process in processes}

    given = ports({"CHATRELAY_METRICS_PORT": "9100"})
    assert [given[name] for name in ("worker", "builder", "sweeper")] == ["9100", "9101", "9102"]
    assert set(ports({}).values()) == {None}
