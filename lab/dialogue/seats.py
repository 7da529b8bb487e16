"""From the seats of a scenario to their speakers: a local model, a server's model, a script or a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, cast

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
    """The configurations of the seats in which a model speaks, in the order of SEATS."""
    return [
        scenario.seats[seat]
        for seat in SEATS
        if scenario.seats[seat].script is None and seat not in scenario.seats.humans()
    ]


def base_model(model: str) -> str:
    """The name of a model without its adapter."""
    return model.partition(":")[0]


def engine_name(spec: SeatSpec) -> str:
    """The name of the seat's engine; seats with the same model, endpoint and key share an engine."""
    if not spec.endpoint:
        return base_model(spec.model)
    return f"{spec.model} at {spec.endpoint}" + (f" by {spec.api_key_env}" if spec.api_key_env else "")


def find_servers(scenario: Scenario) -> dict[str, Server]:
    """What each endpoint of the scenario supports, by engine name, from one request per model.

    Raises ValueError where an endpoint does not answer.
    """
    from agents.servers.engine import survey

    asked = {
        engine_name(spec): (spec.endpoint, spec.model, spec.api_key_env)
        for spec in model_seats(scenario)
        if spec.endpoint
    }
    return {name: survey(*access) for name, access in asked.items()}


def served_engines(scenario: Scenario, servers: Mapping[str, Server]) -> dict[str, Engine]:
    """The engines of servers that lack nothing, by name. Seats that share an engine use the longest of their time
    limits and the least of their connections.
    """
    from agents.servers.engine import AT_ONCE, ServedEngine

    served = {}
    for name, server in servers.items():
        if not server.lacks:
            seats = [spec for spec in model_seats(scenario) if engine_name(spec) == name]
            at_once = min(spec.max_connections or AT_ONCE for spec in seats)
            served[name] = ServedEngine(server, max(spec.timeout_s for spec in seats), at_once)
    return cast("dict[str, Engine]", served)  # with all that a seat asks: neither trained nor watched


def make_seat(
    spec: SeatSpec,
    engines: Mapping[str, Engine],
    servers: Mapping[str, Server],
    worn: str | None = None,
    generations: int = 0,
):
    """The speaker of a seat: an `agents.seats.base.Seat`.

    - `worn`: an adapter in place of the seat's own.
    - `generations`: the number of lines sampled at each place, whose views are then kept after they are closed; 0
      samples one line and keeps no views.

    Raises ValueError where the adapter is missing or does not fit the model.
    """
    from agents.models import loading
    from agents.seats.chat import EndpointSeat
    from agents.seats.model import ModelSeat
    from agents.seats.scripted import ScriptedSeat
    from agents.servers.client import AT_ONCE
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
    if spec.endpoint and name in servers and servers[name].lacks:
        return EndpointSeat(
            spec.endpoint,
            spec.adapter or spec.model,
            sampling,
            lacking(servers[name]),
            spec.timeout_s,
            spec.api_key_env,
            spec.max_connections or AT_ONCE,
        )
    if spec.endpoint:
        adapter = spec.adapter
    else:
        adapter = loading.check_adapter(spec.adapter) if spec.adapter else loading.parse(spec.model).adapter
    engine, adapter = engines[name], worn or adapter
    engine.open([], adapter)  # an adapter that does not fit is refused now, not at the first line
    return ModelSeat(engine, sampling, adapter, max(generations, 1), keep=generations > 0, steer=_steer(spec, engine))


def _steer(spec: SeatSpec, engine: Engine) -> Callable[[str], Steer | None]:
    """A function from a view's system text to its steering; it returns None for a seat that is not steered."""
    from agents.engine.steering import own_card

    if not (how := spec.steer):
        return lambda system: None
    return cache(lambda system: own_card(engine, system).steer(how.how, how.coefficient, how.depths, how.random))


def check_respondent(study: Study) -> None:
    """Raises ValueError where the study's model or its adapter is missing; loads no weights."""
    check_speaker(study.seats.assistant)


def check_speaker(spec) -> None:
    """Raises ValueError where the model or adapter of a seat is missing, or its server lacks them.

    `spec` has the fields endpoint, api_key_env, model and adapter.
    """
    from agents.models import loading
    from agents.servers import client

    if spec.endpoint:
        for name in filter(None, (spec.model, spec.adapter)):
            client.check(spec.endpoint, name, spec.api_key_env)
    else:
        loading.check(spec.model)
        if spec.adapter:
            loading.check_adapter(spec.adapter)


def respondent(study: Study, hosting: Hosting) -> Respondent:
    """The model that answers a study's questions.

    Raises ValueError where the adapter does not fit, or where a server gives no log-probabilities of given text.
    """
    from agents.models import loading
    from agents.seats.respondent import Respondent
    from agents.servers.engine import ServedEngine, survey

    seat = study.seats.assistant
    if seat.endpoint:
        engine, adapter = (
            cast("Engine", ServedEngine(survey(seat.endpoint, seat.model, seat.api_key_env))),
            seat.adapter,
        )
    else:
        engine = hosting(base_model(seat.model), study.dtype, study.device)
        adapter = loading.check_adapter(seat.adapter) if seat.adapter else loading.parse(seat.model).adapter
    engine.open([], adapter)  # one that does not fit is refused now, not at the first question
    return Respondent(engine, adapter)
