"""From the seats of a scenario to who speaks there: a model here, a server's, a script or a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine, Sampling, Steer
from scenarios.records import SEATS
from scenarios.scenario import Scenario
from scenarios.schema import SeatConfig as SeatSpec

if TYPE_CHECKING:
    from agents.seats.respondent import Respondent
    from agents.servers.engine import Server
    from lab.dialogue.cluster import Hosting
    from scenarios.jobs.study import Study


def model_seats(scenario: Scenario) -> list[SeatSpec]:
    return [
        scenario.seats[seat]
        for seat in SEATS
        if scenario.seats[seat].script is None and seat not in scenario.seats.humans()
    ]


def base_model(model: str) -> str:
    return model.partition(":")[0]


def engine_name(spec: SeatSpec) -> str:
    """Key of the engine of a seat; seats with the same model and endpoint share an engine."""
    return f"{spec.model} at {spec.endpoint}" if spec.endpoint else base_model(spec.model)


def find_servers(scenario: Scenario) -> dict[str, Server]:
    """What the endpoints of a scenario can do, each asked once a model."""
    from agents.servers.engine import survey

    specs = {engine_name(spec): spec for spec in model_seats(scenario) if spec.endpoint}
    return {name: survey(spec.endpoint, spec.model) for name, spec in specs.items()}


def served_engines(scenario: Scenario, servers: Mapping[str, Server]) -> dict[str, Engine]:
    """Engines of the servers that lack nothing; seats that share one wait as long as the more patient of them."""
    from agents.servers.engine import ServedEngine

    patience = {
        name: max(spec.timeout_s for spec in model_seats(scenario) if engine_name(spec) == name) for name in servers
    }
    return {name: ServedEngine(server, patience[name]) for name, server in servers.items() if not server.lacks}


def make_seat(
    spec: SeatSpec,
    engines: dict[str, Engine],
    servers: dict[str, Server],
    worn: str | None = None,
    generations: int = 0,
):
    from agents.models import loading
    from agents.seats.chat import EndpointSeat
    from agents.seats.model import ModelSeat
    from agents.seats.scripted import ScriptedSeat
    from agents.servers.engine import lacking

    sampling = Sampling(
        seed=0,
        max_tokens=spec.max_tokens,
        temperature=spec.temperature,
        top_k=spec.top_k,
        top_p=spec.top_p,
        sentences=spec.sentences,
    )
    if spec.script is not None:
        return ScriptedSeat(spec.script)
    name = engine_name(spec)
    if name in servers and servers[name].lacks:
        return EndpointSeat(spec.endpoint, spec.adapter or spec.model, sampling, lacking(servers[name]), spec.timeout_s)
    if spec.endpoint:
        adapter = spec.adapter
    else:
        adapter = loading.check_adapter(spec.adapter) if spec.adapter else loading.parse(spec.model).adapter
    engine, adapter = engines[name], worn or adapter
    engine.open([], adapter)  # an adapter that does not fit is refused now, not at the first line
    return ModelSeat(engine, sampling, adapter, max(generations, 1), keep=generations > 0, steer=_steer(spec, engine))


def _steer(spec: SeatSpec, engine: Engine) -> Callable[[str], Steer | None]:
    """How a seat's view is steered, by its system text."""
    from agents.engine.steering import own_card

    if not (how := spec.steer):
        return lambda system: None
    return cache(lambda system: own_card(engine, system).steer(how.how, how.coefficient, how.depths, how.random))


def check_respondent(study: Study) -> None:
    """Refuse, before a model is loaded, a study whose model is not there. ValueError says what is missing and what was
    expected.
    """
    check_speaker(study.seats.assistant)


def check_speaker(spec) -> None:
    """ValueError where the model of a seat, or its adapter, is not there. `spec`: endpoint, model and adapter."""
    from agents.models import loading
    from agents.servers import client

    if spec.endpoint:
        for name in filter(None, (spec.model, spec.adapter)):
            client.check(spec.endpoint, name)
    else:
        loading.check(spec.model)
        if spec.adapter:
            loading.check_adapter(spec.adapter)


def respondent(study: Study, hosting: Hosting) -> Respondent:
    """Who answers a study's questions. ValueError where an adapter does not fit, or a server cannot say how likely
    given words are.
    """
    from agents.models import loading
    from agents.seats.respondent import Respondent
    from agents.servers.engine import ServedEngine, survey

    seat = study.seats.assistant
    if seat.endpoint:
        engine, adapter = ServedEngine(survey(seat.endpoint, seat.model)), seat.adapter
    else:
        engine = hosting(base_model(seat.model), study.dtype, study.device)
        adapter = loading.check_adapter(seat.adapter) if seat.adapter else loading.parse(seat.model).adapter
    engine.open([], adapter)  # one that does not fit is refused now, not at the first question
    return Respondent(engine, adapter)
