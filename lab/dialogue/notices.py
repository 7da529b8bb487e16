"""What servers made the lab change in its requests, told once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.dialogue.seats import model_seats
from scenarios.scenario import Scenario
from scenarios.schema import Measure


@dataclass
class Notices:
    """The notices on some models of servers, given by (endpoint, name of the model)."""

    served: Iterable[tuple[str, str]]
    _told: set[str] = field(default_factory=set)

    def after(self, events: Iterable[dict]) -> Iterator[dict]:
        """The events, and behind each the notices that are new by then."""
        for event in events:
            yield event
            yield from self.new()

    def new(self) -> Iterator[dict]:
        """A `notice` event (`lab.store.events.Notice`) for each notice that was not told yet."""
        if not self.served:
            return
        from agents.servers.parameters import refusal_notice

        for endpoint, model in self.served:
            notice = refusal_notice(endpoint, model)
            if notice and notice not in self._told:
                self._told.add(notice)
                yield {"event": "notice", "detail": notice}


def judge_notices(measure: Measure) -> Notices:
    """Notices on the server of the judge `llm`."""
    return Notices(_judge_served(measure))


def run_notices(*scenarios: Scenario) -> Notices:
    """Notices on the servers of the scenarios' seats and of their judge `llm`."""
    seats = [
        (spec.endpoint, name)
        for scenario in scenarios
        for spec in model_seats(scenario)
        for name in dict.fromkeys((spec.model, spec.adapter))
        if spec.endpoint and name
    ]
    served = [each for scenario in scenarios for each in _judge_served(scenario.measure)]
    return Notices(tuple(dict.fromkeys([*seats, *served])))


def _judge_served(measure: Measure) -> tuple[tuple[str, str], ...]:
    llm = measure.llm
    return ((llm.endpoint, llm.model),) if llm.endpoint and "llm" in measure.judges() else ()
