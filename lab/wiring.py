"""The only place that picks concrete classes: scenario in, something that can be played out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import TYPE_CHECKING

from agents.protocol import Engine, EngineInfo, Sampling, Steer, Usage
from scenarios import graph as graphs
from scenarios import personas as people
from scenarios.records import SEATS, Persona
from scenarios.schema import HUMAN, Measure, Scenario
from scenarios.schema import Seat as SeatSpec

if TYPE_CHECKING:
    from agents.respondent import Respondent
    from agents.seats import Cue
    from agents.served import Server
    from lab.cluster import Hosting
    from lab.conversation import Play, Stored
    from metrics.judges import Judge
    from metrics.retrieval import Embed
    from scenarios.study import Study

REFERENCE = "embedded"  # what these judges and the perplexity wire read with
READING = {"likelihood", "reader"}
RETRIEVED, TRIPWIRES = "retrieved", "tripwires"
SPARE = 12  # tokens that a template may put around a line
DIRECTION_TOKENS = 40  # tokens of the longest direction, about
ASKED = 512  # tokens of the questions read behind a view, about
SLACK = 1.25  # a view's room over its tokens: it grows by quarters
KEPT = 0.9  # of the free memory, for views: judges and passing results need some too


@dataclass(frozen=True)
class Wired:
    play: Play
    engines: dict[str, EngineInfo]  # by model name
    wires: dict[str, Callable]  # what the tripwires read with


Words = Callable[[int, "Cue"], "str | None"]  # see agents.seats.HumanSeat


def check(scenario: Scenario, typed: bool = False) -> None:
    """Everything that can be refused before a model is loaded. ValueError says what is missing and what was expected. `typed`: there is
    somebody to type."""
    from agents import embedder

    if (humans := scenario.seats.humans()) and not typed:
        raise ValueError(f"seats.{humans[0]}.model is {HUMAN!r}, whose words somebody types; expected a model here, or python -m lab.chat")
    for spec in _model_seats(scenario):
        _check_speaker(spec)
    check_judges(scenario.measure)
    if TRIPWIRES in scenario.measure.metrics and REFERENCE in engine_names(scenario):
        embedder.folder(embedder.MINILM)


def engine_names(scenario: Scenario) -> set[str]:
    """The base models that need an engine of ours each."""
    return {_base(spec.model) for spec in _model_seats(scenario) if not spec.endpoint} | judge_engines(scenario.measure)


def wire(scenario: Scenario, hosting: Hosting, stored: Stored, words: Words | None = None) -> Wired:
    """Engines, seats and judges of a scenario; `words`: what a person in a seat types. ValueError where an adapter does not fit or the
    dialogue is too long."""
    from agents.seats import HumanSeat
    from lab.conversation import Play

    servers = _servers(scenario)
    engines = {name: hosting(name, scenario.dtype, scenario.device) for name in sorted(engine_names(scenario))}
    engines |= _served(scenario, servers)
    cast, humans = people.cast(scenario), scenario.seats.humans()
    play = Play(scenario=scenario, graph=graphs.build(scenario), cast=cast,
                seats={seat: HumanSeat(words) if seat in humans else _seat(scenario.seats[seat], engines, servers) for seat in SEATS},
                judges=judges(scenario.measure, engines, scenario.device), embed=retriever(scenario.measure, scenario.device),
                usage=lambda: reduce(Usage.plus, (engine.usage() for engine in engines.values()), Usage()), stored=stored)
    _check_memory(scenario, engines, {seat: longest_view(scenario, seat, engines, cast) for seat in SEATS})
    if "activation" in scenario.measure.metrics:
        _watch(scenario, engines, cast)
    return Wired(play, {name: engine.info() for name, engine in engines.items()}, wires(scenario.measure, engines, scenario.device))


def play_of(scenario: Scenario, engines: Mapping[str, Engine], adapters: Mapping[str, str | None], generations: Mapping[str, int],
            cast: Sequence[dict[str, Persona]] | None = None, alike: int = 1, judged_by: Sequence[Judge] | None = None) -> Play:
    """A play on engines that are there. `adapters`: what a seat wears instead of its own; `generations`: seats that sample so many lines at
    each place and keep their views; `alike`: see `Play`; `judged_by`: judges that are there already. Models on servers are spoken to by words
    only."""
    from lab.conversation import Play

    servers, people_here = _servers(scenario), cast or people.cast(scenario)
    here = dict(engines) | _served(scenario, servers)
    seats = {seat: _seat(scenario.seats[seat], here, servers, adapters.get(seat), generations.get(seat, 0)) for seat in SEATS}
    return Play(scenario=scenario, graph=graphs.build(scenario), cast=people_here, seats=seats,
                judges=judges(scenario.measure, engines, scenario.device) if judged_by is None else judged_by,
                embed=retriever(scenario.measure, scenario.device),
                usage=lambda: reduce(Usage.plus, (engine.usage() for engine in engines.values()), Usage()), alike=alike)


def _watch(scenario: Scenario, engines: Mapping[str, Engine], cast: Sequence[dict[str, Persona]]) -> None:
    """Every engine learns the directions of the personas it speaks for."""
    from agents.steering import OPENERS

    speakers: dict[str, dict[str, Persona]] = {}
    for seat in SEATS:
        spec = scenario.seats[seat]
        if spec.script is None and not spec.endpoint and seat not in scenario.seats.humans():
            speakers.setdefault(_base(spec.model), {}).update({seats[seat].id: seats[seat] for seats in cast})
    for name, people_here in speakers.items():
        questions = dict.fromkeys(fact.question for persona in people_here.values() for fact in persona.facts)
        engines[name].watch({persona.id: persona.card for persona in people_here.values()}, [*list(questions)[:len(OPENERS)], *OPENERS],
                            scenario.seed)


def opening(scenario: Scenario, play: Play) -> dict:
    """What the `started` event tells of who plays what."""
    graph = play.graph
    return {"name": scenario.name, "conversations": scenario.conversations, "turns": scenario.turns,
            "questions_every": scenario.measure.questions_every,
            "cast": [{"conversation": number} | {seat: seats[seat].id for seat in SEATS} for number, seats in enumerate(play.cast)],
            "nodes": list(graph.nodes), "edges": [list(edge) for edge in dict.fromkeys(graph.edges())],
            "models": {seat: "script" if scenario.seats[seat].script else scenario.seats[seat].model for seat in SEATS}}


def _model_seats(scenario: Scenario) -> list[SeatSpec]:
    return [scenario.seats[seat] for seat in SEATS if scenario.seats[seat].script is None and seat not in scenario.seats.humans()]


def _base(model: str) -> str:
    return model.partition(":")[0]


def engine_name(spec: SeatSpec) -> str:
    """What the engine of a seat goes by: seats that share a model share its engine."""
    return f"{spec.model} at {spec.endpoint}" if spec.endpoint else _base(spec.model)


def _servers(scenario: Scenario) -> dict[str, Server]:
    """What the endpoints of a scenario can do, each asked once a model."""
    from agents.served import survey

    specs = {engine_name(spec): spec for spec in _model_seats(scenario) if spec.endpoint}
    return {name: survey(spec.endpoint, spec.model) for name, spec in specs.items()}


def _served(scenario: Scenario, servers: Mapping[str, Server]) -> dict[str, Engine]:
    """Engines of the servers that lack nothing; seats that share one wait as long as the more patient of them."""
    from agents.served import ServedEngine

    patience = {name: max(spec.timeout_s for spec in _model_seats(scenario) if engine_name(spec) == name) for name in servers}
    return {name: ServedEngine(server, patience[name]) for name, server in servers.items() if not server.lacks}


def _seat(spec: SeatSpec, engines: dict[str, Engine], servers: dict[str, Server], worn: str | None = None, generations: int = 0):
    from agents import models
    from agents.endpoint import EndpointSeat
    from agents.seats import ModelSeat, ScriptedSeat
    from agents.served import lacking

    sampling = Sampling(seed=0, max_tokens=spec.max_tokens, temperature=spec.temperature, top_k=spec.top_k, top_p=spec.top_p,
                        sentences=spec.sentences)
    if spec.script is not None:
        return ScriptedSeat(spec.script)
    name = engine_name(spec)
    if name in servers and servers[name].lacks:
        return EndpointSeat(spec.endpoint, spec.adapter or spec.model, sampling, lacking(servers[name]), spec.timeout_s)
    if spec.endpoint:
        adapter = spec.adapter
    else:
        adapter = models.check_adapter(spec.adapter) if spec.adapter else models.parse(spec.model).adapter
    engine, adapter = engines[name], worn or adapter
    engine.open([], adapter)  # an adapter that does not fit is refused now, not at the first line
    return ModelSeat(engine, sampling, adapter, max(generations, 1), keep=generations > 0, steer=_steer(spec, engine))


def _steer(spec: SeatSpec, engine: Engine) -> Callable[[str], Steer | None]:
    """How a seat's view is steered, by its system text."""
    from agents.steering import own_card

    if not (how := spec.steer):
        return lambda system: None
    return cache(lambda system: own_card(engine, system).steer(how.how, how.coefficient, how.depths, how.random))


def check_respondent(study: Study) -> None:
    """Refuse, before a model is loaded, a study whose model is not there. ValueError says what is missing and what was expected."""
    _check_speaker(study.seats.assistant)


def _check_speaker(spec) -> None:
    """ValueError where the model of a seat, or its adapter, is not there. `spec`: endpoint, model and adapter."""
    from agents import endpoint, models

    if spec.endpoint:
        for name in filter(None, (spec.model, spec.adapter)):
            endpoint.check(spec.endpoint, name)
    else:
        models.check(spec.model)
        if spec.adapter:
            models.check_adapter(spec.adapter)


def respondent(study: Study, hosting: Hosting) -> Respondent:
    """Who answers a study's questions. ValueError where an adapter does not fit, or a server cannot say how likely given words are."""
    from agents import models
    from agents.respondent import Respondent
    from agents.served import ServedEngine, survey

    seat = study.seats.assistant
    if seat.endpoint:
        engine, adapter = ServedEngine(survey(seat.endpoint, seat.model)), seat.adapter
    else:
        engine = hosting(_base(seat.model), study.dtype, study.device)
        adapter = models.check_adapter(seat.adapter) if seat.adapter else models.parse(seat.model).adapter
    engine.open([], adapter)  # one that does not fit is refused now, not at the first question
    return Respondent(engine, adapter)


def judges(measure: Measure, engines: Mapping[str, Engine], device: str) -> list[Judge]:
    """The judges that the measure names, in its order. `engines` by model name, those of `judge_engines` among them; `device` is for
    models that are no engines."""
    return [JUDGES[name](measure, engines, device) for name in measure.judge]


def check_judges(measure: Measure) -> None:
    """Refuse, before a model is loaded, judges whose models are not there. ValueError says which."""
    from agents import cross_encoder, embedder, endpoint, models

    names, nli, llm = measure.judges(), measure.nli, measure.llm
    if names & READING:
        models.check(REFERENCE)
    if names & {"likelihood", "nli"} or measure.pairs == RETRIEVED:
        embedder.folder(embedder.MINILM)
    if "nli" in names and nli.model != models.EMBEDDED:
        cross_encoder.check(nli.model)
    if "llm" in names:
        if llm.endpoint:
            endpoint.check(llm.endpoint, llm.model)
        else:
            models.check(llm.model)


def judge_engines(measure: Measure) -> set[str]:
    """The base models that the judges need an engine of."""
    names, llm = measure.judges(), measure.llm
    return ({REFERENCE} if names & READING else set()) | ({_base(llm.model)} if "llm" in names and not llm.endpoint else set())


def wires(measure: Measure, engines: Mapping[str, Engine], device: str) -> dict[str, Callable]:
    """`embed` for relevance and `logprobs` for perplexity, under the embedded model; nothing where no tripwire is measured, or where
    nothing else needs that model: a run without models stays one."""
    if TRIPWIRES not in measure.metrics or REFERENCE not in engines:
        return {}
    return aids(engines[REFERENCE], device)


def retriever(measure: Measure, device: str) -> Embed | None:
    """What pairs of lines are retrieved by; None where all are judged."""
    if measure.pairs != RETRIEVED:
        return None
    from agents.embedder import Embedder

    return Embedder(device=device).embed


def aids(engine: Engine, device: str) -> dict[str, Callable]:
    """What the tripwires read with: `embed`, and `logprobs` of that engine's model as it is without an adapter."""
    from agents.embedder import Embedder
    from agents.reference import Reference

    return {"embed": Embedder(device=device).embed, "logprobs": Reference(engine).logprobs}


def _ledger(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from metrics.judges.ledger import Ledger

    return Ledger()


def _likelihood(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.embedder import Embedder
    from agents.reference import Reference
    from metrics.judges.likelihood import Likelihood

    return Likelihood(Reference(engines[REFERENCE]).logprobs, Embedder(device=device).embed)


def _reader(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.reference import Reference
    from metrics.judges.reader import Reader

    return Reader(Reference(engines[REFERENCE]).logprobs)


def _nli(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.embedder import Embedder
    from agents.models import EMBEDDED
    from metrics.judges.nli import Nli

    model, embed = measure.nli.model, Embedder(device=device).embed
    if model == EMBEDDED:
        from agents.nli_head import EmbeddedNli

        return Nli(EmbeddedNli(device).entail, embed)
    from agents.cross_encoder import CrossEncoder

    return Nli(CrossEncoder(model, device).entail, embed)


def _llm(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents import models
    from agents.chooser import EndpointChooser, EngineChooser
    from metrics.judges.llm import Llm

    spec = measure.llm
    if spec.endpoint:
        return Llm(EndpointChooser(spec.endpoint, spec.model, spec.timeout_s).choose, spec.protocol)
    engine, adapter = engines[_base(spec.model)], models.parse(spec.model).adapter
    engine.open([], adapter)  # refused now, not at the first line
    return Llm(EngineChooser(engine, adapter).choose, spec.protocol)


def _cascade(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from metrics.judges.cascade import Cascade

    spec = measure.cascade
    cheap, dear = (JUDGES[name](measure, engines, device) for name in (spec.cheap, spec.dear))
    return Cascade(cheap, dear, spec.low, spec.high)


JUDGES = {"ledger": _ledger, "likelihood": _likelihood, "nli": _nli, "llm": _llm, "cascade": _cascade, "reader": _reader}


def _longest_line(scenario: Scenario, seat: str, engine: Engine) -> int:
    """Tokens of the longest line that the seat may say: a model's, or one of its script's."""
    script = scenario.seats[seat].script
    return max(len(ids) for ids in engine.encode(script)) if script else scenario.seats[seat].max_tokens


def longest_view(scenario: Scenario, seat: str, engines: dict[str, Engine], cast: Sequence[dict[str, Persona]]) -> int:
    """Tokens of the seat's longest possible view (0 where no engine keeps it); refused where it would not fit the model."""
    spec = scenario.seats[seat]
    engine = engines.get(engine_name(spec))
    if spec.script is not None or engine is None:
        return 0
    card = max(len(ids) for ids in engine.encode([seats[seat].card + spec.instruction for seats in cast]))
    reminder = max(len(ids) for ids in engine.encode([spec.reminder.replace("{card}", seats[seat].card) for seats in cast]))
    directed = any(seat in node.direct for node in scenario.graph.nodes.values())
    lines = sum(_longest_line(scenario, name, engine) + SPARE for name in SEATS)
    longest = card + 100 + -(-scenario.turns // 2) * (lines + DIRECTION_TOKENS * directed + reminder)
    if longest > engine.info().context:
        raise ValueError(f"seats.{seat}: {scenario.turns} turns may take {longest} tokens, but {spec.model} reads at most "
                         f"{engine.info().context}; expected fewer turns or a smaller max_tokens")
    return longest


def view_bytes(tokens: int, info: EngineInfo) -> float:
    """What keys and values of a view of so many tokens weigh, questions behind it included."""
    return (tokens + ASKED) * SLACK * info.token_bytes


def _check_memory(scenario: Scenario, engines: dict[str, Engine], longest: dict[str, int]) -> None:
    """Refuse more dialogues side by side than there is room for, by the keys and values of the seats' views at their longest."""
    wanted = min(scenario.side_by_side, scenario.conversations)
    infos = {seat: engines[engine_name(scenario.seats[seat])].info() for seat, tokens in longest.items() if tokens}
    for place in {info.place for info in infos.values() if info.token_bytes}:
        there = {seat: info for seat, info in infos.items() if info.place == place}
        each = sum(view_bytes(longest[seat], info) for seat, info in there.items())
        free = KEPT * min(info.free_bytes for info in there.values())
        if each * wanted > free:
            fewer = f"side_by_side={int(free / each)}, " if each <= free else ""
            raise ValueError(f"side_by_side: {wanted} dialogues at once may need {each * wanted / 2**30:.1f} GiB of keys and values, and "
                             f"{free / 2**30:.1f} GiB is free on {next(iter(there.values())).device}; expected {fewer}fewer turns or a "
                             "smaller max_tokens")
