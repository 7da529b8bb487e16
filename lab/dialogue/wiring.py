"""From a scenario to a setup that can be played: graph, cast, the seats of `lab.dialogue.seats` and the judges of
`lab.dialogue.judges`, on engines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine, Usage
from lab.dialogue.capacity import check_dialogue_memory, longest_view
from lab.dialogue.judges import (
    REFERENCE_MODEL,
    TRIPWIRES,
    check_judges,
    judge_engines,
    judges,
    retriever,
    tripwire_aids,
)
from lab.dialogue.seats import base_model, check_speaker, find_servers, make_seat, model_seats, served_engines
from metrics.catalogue import needed
from metrics.entry import ACTIVATIONS
from scenarios import graph as graphs
from scenarios import personas as people
from scenarios.fields import HUMAN
from scenarios.records import SEATS, Persona
from scenarios.scenario import Scenario

if TYPE_CHECKING:
    from agents.seats.base import Cue, Seat
    from agents.servers.engine import Server
    from lab.dialogue.cluster import Hosting
    from lab.dialogue.loop import Play
    from lab.store.resume import Stored
    from metrics.judges import Judge


NO_MODEL = "no model here"  # in place of a device, where lines come from scripts, persons and servers


@dataclass(frozen=True)
class Setup:
    """A scenario with its seats, judges and engines, ready to be played."""

    play: Play
    engines: Mapping[str, Engine]  # by model name
    aids: Mapping[str, Callable]  # what the tripwires read with: `embed` and `logprobs`, or nothing

    @property
    def scenario(self) -> Scenario:
        return self.play.scenario

    @property
    def cast(self) -> Sequence[dict[str, Persona]]:
        """The personas of each conversation, by seat."""
        return self.play.cast

    @property
    def seats(self) -> Mapping[str, Seat]:
        return self.play.seats

    @property
    def judges(self) -> Sequence[Judge]:
        return self.play.judges

    def cards(self) -> dict[tuple[int, str], str]:
        """The persona as prompt text, by conversation and seat."""
        return {(c, seat): persona.card for c, seats in enumerate(self.cast) for seat, persona in seats.items()}

    def hardware(self) -> tuple[str, str]:
        """The devices and the dtypes of all engines, each joined by commas; (NO_MODEL, "") without engines."""
        infos = [engine.info() for engine in self.engines.values()]
        devices, dtypes = ({getattr(info, key) for info in infos} for key in ("device", "dtype"))
        return ", ".join(sorted(devices)) or NO_MODEL, ", ".join(sorted(dtypes))

    def opening(self) -> dict:
        """The fields of the `started` event (`lab.store.events.RunStarted`), without those of every event."""
        scenario, graph = self.scenario, self.play.graph
        return {
            "name": scenario.name,
            "conversations": scenario.conversations,
            "turns": scenario.turns,
            "qa_every": scenario.measure.qa_every,
            "cast": [
                {"conversation": number} | {seat: seats[seat].id for seat in SEATS}
                for number, seats in enumerate(self.cast)
            ],
            "nodes": list(graph.nodes),
            "edges": [list(edge) for edge in dict.fromkeys(graph.edges())],
            "models": {seat: "script" if scenario.seats[seat].script else scenario.seats[seat].model for seat in SEATS},
        }


Words = Callable[[int, "Cue"], "str | None"]  # see agents.seats.scripted.HumanSeat


def check_scenario(scenario: Scenario, typed: bool = False) -> None:
    """Raises ValueError where a model, adapter, server or judge of the scenario is missing; loads no weights.

    `typed`: whether a person can type lines; without one, a seat of a person is an error too.
    """
    from agents.judge_models import embedder

    if (humans := scenario.seats.humans()) and not typed:
        raise ValueError(
            f"seats.{humans[0]}.model is {HUMAN!r}, whose words somebody types; expected a model here, or python -m "
            "lab.chat"
        )
    for spec in model_seats(scenario):
        check_speaker(spec)
    check_judges(scenario.measure)
    if TRIPWIRES in scenario.measure.metrics and REFERENCE_MODEL in engine_names(scenario):
        embedder.folder(embedder.MINILM)


def engine_names(scenario: Scenario) -> set[str]:
    """The base models for which the scenario needs an engine of the lab, and not of a server."""
    return {base_model(spec.model) for spec in model_seats(scenario) if not spec.endpoint} | judge_engines(
        scenario.measure
    )


def set_up(scenario: Scenario, hosting: Hosting, stored: Stored, words: Words | None = None) -> Setup:
    """A setup of the scenario with new engines from `hosting`, after a check of the memory of its longest dialogue.

    `stored` holds the lines and judgements that a resumed run already has; `words` gives what a person types. Raises
    ValueError where an adapter does not fit, or the dialogue exceeds the model's context or the free memory.
    """
    servers = find_servers(scenario)
    engines = {name: hosting(name, scenario.dtype, scenario.device) for name in sorted(engine_names(scenario))}
    engines |= served_engines(scenario, servers)
    aids = tripwire_aids(scenario.measure, engines, scenario.device)
    setup = set_up_on(scenario, engines, servers=servers, stored=stored, words=words, aids=aids)
    check_dialogue_memory(
        scenario, engines, {seat: longest_view(scenario, seat, engines, setup.cast) for seat in SEATS}
    )
    if ACTIVATIONS in needed(scenario.measure.metrics):
        _watch(scenario, engines, setup.cast)
    return setup


def set_up_on(
    scenario: Scenario,
    engines: Mapping[str, Engine],
    *,
    servers: Mapping[str, Server] | None = None,
    adapters: Mapping[str, str | None] | None = None,
    generations: Mapping[str, int] | None = None,
    cast: Sequence[dict[str, Persona]] | None = None,
    judged_by: Sequence[Judge] | None = None,
    probed_seats: Collection[str] = SEATS,
    alike: int = 1,
    stored: Stored | None = None,
    words: Words | None = None,
    aids: Mapping[str, Callable] | None = None,
) -> Setup:
    """A setup of the scenario on existing engines; its `usage` counts their work alone.

    - `servers`: what endpoints support, by engine name; None asks them.
    - `adapters`: by seat, an adapter in place of the seat's own.
    - `generations`: by seat, the number of lines sampled at each place; the views of such seats are kept.
    - `cast`, `judged_by`: personas and judges in place of the scenario's.
    - `probed_seats`, `alike`, `stored`: as in `Play`; `words`: as in `set_up`; `aids`: as in `Setup`.

    Raises ValueError where a graph, persona, adapter or judge is not valid.
    """
    from agents.seats.scripted import HumanSeat
    from lab.dialogue.loop import Play
    from lab.store.resume import Stored

    adapters, generations, humans = adapters or {}, generations or {}, scenario.seats.humans()
    servers = find_servers(scenario) if servers is None else servers
    served = served_engines(scenario, {name: server for name, server in servers.items() if name not in engines})
    speaking = {**engines, **served}
    seats = {
        seat: HumanSeat(words)  # pyright: ignore[reportArgumentType]  # given where a person sits
        if seat in humans
        else make_seat(scenario.seats[seat], speaking, servers, adapters.get(seat), generations.get(seat, 0))
        for seat in SEATS
    }
    play = Play(
        scenario=scenario,
        graph=graphs.build(scenario),
        cast=cast or people.cast(scenario),
        seats=seats,
        judges=judges(scenario.measure, engines, scenario.device) if judged_by is None else judged_by,
        embed=retriever(scenario.measure, scenario.device),
        usage=lambda: reduce(Usage.plus, (engine.usage() for engine in engines.values()), Usage()),
        stored=stored or Stored(),
        probed_seats=probed_seats,
        alike=alike,
    )
    return Setup(play, speaking, aids or {})


def _watch(scenario: Scenario, engines: Mapping[str, Engine], cast: Sequence[dict[str, Persona]]) -> None:
    """Prepares each engine to record the projections of the personas that it speaks for."""
    from agents.engine.steering import OPENERS

    speakers: dict[str, dict[str, Persona]] = {}
    for seat in SEATS:
        spec = scenario.seats[seat]
        if spec.script is None and not spec.endpoint and seat not in scenario.seats.humans():
            speakers.setdefault(base_model(spec.model), {}).update({seats[seat].id: seats[seat] for seats in cast})
    for name, people_here in speakers.items():
        questions = dict.fromkeys(fact.question for persona in people_here.values() for fact in persona.facts)
        engines[name].watch(
            {persona.id: persona.card for persona in people_here.values()},
            [*list(questions)[: len(OPENERS)], *OPENERS],
            scenario.seed,
        )
