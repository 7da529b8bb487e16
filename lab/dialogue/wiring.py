"""The only place that picks concrete classes: scenario in, something that can be played out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine, Usage
from agents.models.info import EngineInfo
from lab.dialogue.capacity import check_memory, longest_view
from lab.dialogue.judges import REFERENCE_MODEL, TRIPWIRES, check_judges, judge_engines, judges, retriever, wires
from lab.dialogue.seats import base_model, check_speaker, find_servers, make_seat, model_seats, served_engines
from metrics.catalogue import needed
from metrics.entry import ACTIVATIONS
from scenarios import graph as graphs
from scenarios import personas as people
from scenarios.fields import HUMAN
from scenarios.records import SEATS, Persona
from scenarios.scenario import Scenario

if TYPE_CHECKING:
    from agents.seats.base import Cue
    from lab.dialogue.cluster import Hosting
    from lab.dialogue.loop import Play
    from lab.store.resume import Stored
    from metrics.judges import Judge


@dataclass(frozen=True)
class Wired:
    play: Play
    engines: dict[str, EngineInfo]  # by model name
    wires: dict[str, Callable]  # what the tripwires read with


Words = Callable[[int, "Cue"], "str | None"]  # see agents.seats.HumanSeat


def check(scenario: Scenario, typed: bool = False) -> None:
    """Everything that can be refused before a model is loaded. ValueError says what is missing and what was expected.
    `typed`: there is somebody to type.
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
    """The base models that need an engine of ours each."""
    return {base_model(spec.model) for spec in model_seats(scenario) if not spec.endpoint} | judge_engines(
        scenario.measure
    )


def wire(scenario: Scenario, hosting: Hosting, stored: Stored, words: Words | None = None) -> Wired:
    """Engines, seats and judges of a scenario; `words`: what a person in a seat types. ValueError where an adapter does
    not fit or the dialogue is too long.
    """
    from agents.seats.scripted import HumanSeat
    from lab.dialogue.loop import Play

    servers = find_servers(scenario)
    engines = {name: hosting(name, scenario.dtype, scenario.device) for name in sorted(engine_names(scenario))}
    engines |= served_engines(scenario, servers)
    cast, humans = people.cast(scenario), scenario.seats.humans()
    play = Play(
        scenario=scenario,
        graph=graphs.build(scenario),
        cast=cast,
        seats={
            seat: HumanSeat(words) if seat in humans else make_seat(scenario.seats[seat], engines, servers)
            for seat in SEATS
        },
        judges=judges(scenario.measure, engines, scenario.device),
        embed=retriever(scenario.measure, scenario.device),
        usage=lambda: reduce(Usage.plus, (engine.usage() for engine in engines.values()), Usage()),
        stored=stored,
    )
    check_memory(scenario, engines, {seat: longest_view(scenario, seat, engines, cast) for seat in SEATS})
    if ACTIVATIONS in needed(scenario.measure.metrics):
        _watch(scenario, engines, cast)
    return Wired(
        play,
        {name: engine.info() for name, engine in engines.items()},
        wires(scenario.measure, engines, scenario.device),
    )


def play_of(
    scenario: Scenario,
    engines: Mapping[str, Engine],
    adapters: Mapping[str, str | None],
    generations: Mapping[str, int],
    cast: Sequence[dict[str, Persona]] | None = None,
    alike: int = 1,
    judged_by: Sequence[Judge] | None = None,
) -> Play:
    """A play on engines that are there. `adapters`: what a seat wears instead of its own; `generations`: seats that
    sample so many lines at each place and keep their views; `alike`: see `Play`; `judged_by`: judges that are there
    already. Models on servers are spoken to by words only.
    """
    from lab.dialogue.loop import Play

    servers, people_here = find_servers(scenario), cast or people.cast(scenario)
    here = dict(engines) | served_engines(scenario, servers)
    seats = {
        seat: make_seat(scenario.seats[seat], here, servers, adapters.get(seat), generations.get(seat, 0))
        for seat in SEATS
    }
    return Play(
        scenario=scenario,
        graph=graphs.build(scenario),
        cast=people_here,
        seats=seats,
        judges=judges(scenario.measure, engines, scenario.device) if judged_by is None else judged_by,
        embed=retriever(scenario.measure, scenario.device),
        usage=lambda: reduce(Usage.plus, (engine.usage() for engine in engines.values()), Usage()),
        alike=alike,
    )


def _watch(scenario: Scenario, engines: Mapping[str, Engine], cast: Sequence[dict[str, Persona]]) -> None:
    """Every engine learns the directions of the personas it speaks for."""
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


def opening(scenario: Scenario, play: Play) -> dict:
    """What the `started` event tells of who plays what."""
    graph = play.graph
    return {
        "name": scenario.name,
        "conversations": scenario.conversations,
        "turns": scenario.turns,
        "qa_every": scenario.measure.qa_every,
        "cast": [
            {"conversation": number} | {seat: seats[seat].id for seat in SEATS}
            for number, seats in enumerate(play.cast)
        ],
        "nodes": list(graph.nodes),
        "edges": [list(edge) for edge in dict.fromkeys(graph.edges())],
        "models": {seat: "script" if scenario.seats[seat].script else scenario.seats[seat].model for seat in SEATS},
    }
