"""Metrics as a scraper sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from shared.exporter import Exporter


class Told:
    """One scrape. What was not told is 0, as a query takes it."""

    def __init__(self, text: str) -> None:
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.names: set[str] = set()
        """Of metrics, as they are defined."""
        for family in text_string_to_metric_families(text):
            self.names.add(f"{family.name}_total" if family.type == "counter" else family.name)
            for sample in family.samples:
                self._values[sample.name, frozenset(sample.labels.items())] = sample.value

    @classmethod
    def here(cls) -> Self:
        """What this process tells of itself."""
        return cls(Exporter().scrape().decode())

    def value(self, name: str, **labels: str) -> float:
        return self._values.get((name, frozenset(labels.items())), 0.0)

    def has(self, name: str, **labels: str) -> bool:
        return (name, frozenset(labels.items())) in self._values

    def by(self, name: str, label: str) -> Mapping[str, float]:
        """The values of `name`, summed over every label but one; those of 0 are left out."""
        found: dict[str, float] = {}
        for (sample, labels), value in self._values.items():
            if sample == name:
                key = dict(labels)[label]
                found[key] = found.get(key, 0.0) + value
        return {key: value for key, value in found.items() if value}

    def since(self, before: Told) -> Told:
        """What came to it after `before`: for counters and histograms."""
        made = Told("")
        made._values = {key: value - before._values.get(key, 0.0) for key, value in self._values.items()}
        return made
