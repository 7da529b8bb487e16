"""What servers took for a run, summed over all executions, from its `spend` events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COUNTED = ("answers", "uncounted", "input_tokens", "output_tokens")
PER = 1_000_000  # tokens for which a price is


@dataclass
class SpendTotals:
    """The counts by endpoint and model: of earlier executions, and the last event of this one."""

    _before: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    _last: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def begin(self) -> None:
        """Another execution begins, whose events count from 0."""
        self._before = {served: self._sum(served) for served in {**self._before, **self._last}}
        self._last = {served: {"price": event["price"]} for served, event in self._last.items()}

    def add(self, event: Mapping[str, Any]) -> None:
        """Adds an event, which takes the place of the one before of its model."""
        self._last[event["endpoint"], event["model"]] = event

    def rows(self) -> list[dict[str, Any]]:
        """By endpoint and model: the counts, the price (None where none was given) and the cost in its currency.

        Tokens and cost are None where an answer did not say how many tokens it took; the cost without a price too.
        """
        rows = []
        for endpoint, model in {**self._before, **self._last}:
            counts = self._sum((endpoint, model))
            price = self._last.get((endpoint, model), {}).get("price")
            read, written = (None if counts["uncounted"] else counts[name] for name in COUNTED[2:])
            cost = None
            if price and read is not None and written is not None:
                cost = round((read * price["input"] + written * price["output"]) / PER, 6)
            tokens = {"input_tokens": read, "output_tokens": written}
            rows.append({"endpoint": endpoint, "model": model, **counts, **tokens, "price": price, "cost": cost})
        return rows

    def _sum(self, served: tuple[str, str]) -> dict[str, int]:
        before, last = self._before.get(served, {}), self._last.get(served, {})
        return {name: before.get(name, 0) + last.get(name, 0) for name in COUNTED}
