"""Tokens that servers took for a run or a scoring, told as events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lab.dialogue.seats import model_seats
from scenarios.scenario import Scenario
from scenarios.schema import LlmConfig, Measure, SeatConfig

if TYPE_CHECKING:
    from agents.servers.spend import Spent
    from scenarios.fields import Price

Served = tuple[str, str]  # endpoint, name of the model


@dataclass
class Spending:
    """The answers of some models of servers, counted from when this is made on; `prices` are null where not known."""

    prices: Mapping[Served, Price | None]
    _before: dict[Served, Spent] = field(default_factory=dict)
    _told: dict[Served, Spent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prices:
            from agents.servers.spend import spent

            self._before = {served: spent(*served) for served in self.prices}

    def after(self, events: Iterable[dict]) -> Iterator[dict]:
        """The events; behind each `usage`, and behind the last, what has changed by then."""
        for event in events:
            yield event
            if event["event"] == "usage":
                yield from self.new()
        yield from self.new()

    def new(self) -> Iterator[dict]:
        """A `spend` event (`lab.store.events.Spend`) for each model that has answered since the last one."""
        if not self.prices:
            return
        from agents.servers.spend import spent

        for served, price in self.prices.items():
            counted = spent(*served) - self._before[served]
            if counted.answers and counted != self._told.get(served):
                self._told[served] = counted
                endpoint, model = served
                yield {
                    "event": "spend",
                    "endpoint": endpoint,
                    "model": model,
                    **asdict(counted),
                    "price": price and price.model_dump(),
                }


def judge_spending(measure: Measure) -> Spending:
    """The spending on the server of the judge `llm`."""
    return Spending(_prices(_judges(measure)))


def run_spending(scenario: Scenario) -> Spending:
    """The spending on the servers of the scenario's seats and of its judge `llm`."""
    return Spending(_prices([*model_seats(scenario), *_judges(scenario.measure)]))


def _judges(measure: Measure) -> list[LlmConfig]:
    return [measure.llm] if "llm" in measure.judges() else []


def _prices(specs: Iterable[SeatConfig | LlmConfig]) -> dict[Served, Price | None]:
    prices: dict[Served, Price | None] = {}
    for spec in specs:
        for name in (spec.model, getattr(spec, "adapter", None)):
            if spec.endpoint and name:
                prices[spec.endpoint, name] = prices.get((spec.endpoint, name)) or spec.price
    return prices
