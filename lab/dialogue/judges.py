"""From the names in a measure to judges and to the models that they use; one entry per judge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine
from lab.dialogue.seats import base_model
from metrics.catalogue import needed
from metrics.judges import JUDGED, LINES
from metrics.judges.entry import EMBEDDER, REFERENCE, JudgeEntry, Models
from scenarios import plugins
from scenarios.schema import Measure

if TYPE_CHECKING:
    from metrics.judges import Judge
    from metrics.judges.pair_retrieval import Embed


REFERENCE_MODEL = "embedded"  # what REFERENCE stands for, and what the perplexity wire reads with
RETRIEVED, TRIPWIRES = "retrieved", "tripwires"
CONTRADICTING = ("contradicted_fact", "persona_swap")  # kinds of planted drift


@dataclass(frozen=True)
class JudgeModels:
    """The models from which judges are made (see `metrics.judges.entry.Models`)."""

    measure: Measure
    engines: Mapping[str, Engine]
    device: str

    def embed(self) -> Embed:
        """The embedder of `embedding` on this device."""
        return embedding(self.device)

    def logprobs(self) -> Callable:
        """The log-probabilities of texts under the reference model, in nats. Raises KeyError without an engine of
        it.
        """
        from agents.judge_models.card_likelihood import Reference

        return Reference(self.engines[REFERENCE_MODEL]).logprobs

    def judge(self, name: str) -> Judge:
        """The judge of that name.

        Raises ValueError where the judge has another name, or scores metrics that its entry does not list.
        """
        entry = judge_entry(name)
        judge = entry.make(self)
        scores = set(getattr(judge, "metrics", LINES))
        if judge.name != name or not scores <= set(entry.scores):
            raise ValueError(
                f"the judge {name!r} is made with the name {judge.name!r} and the metrics {', '.join(sorted(scores))}; "
                f"expected its entry's name, and of {', '.join(entry.scores)}"
            )
        return judge


def judge_entry(name: str) -> JudgeEntry:
    """The entry of that name, from the lab or an installed package.

    Raises ValueError where a package's entry cannot be used.
    """
    return JUDGES.get(name) or plugins.load_entry(plugins.JUDGES, name, JudgeEntry)


def judges(measure: Measure, engines: Mapping[str, Engine], device: str) -> list[Judge]:
    """The judges that the measure names, in its order.

    `engines`, by model name, include those of `judge_engines`; `device` is that of all other models. Raises ValueError
    where a judge cannot be made.
    """
    models = JudgeModels(measure, engines, device)
    return [models.judge(name) for name in measure.judge]


def _entries_and_needs(measure: Measure) -> tuple[list[JudgeEntry], set[str]]:
    """The entries of all judges, including those of a cascade, and what they and the metrics need together."""
    entries = [judge_entry(name) for name in sorted(measure.judges())]
    return entries, needed(measure.metrics).union(*(entry.needs for entry in entries))


def may_cost(measure: Measure) -> bool:
    """Whether a judgement of one of the judges, including those of a cascade, may cost money."""
    return not all(judge_entry(name).free for name in measure.judges())


def check_judges(measure: Measure) -> None:
    """Raises ValueError where a model that the judges or metrics need is missing; loads no weights."""
    from agents.judge_models import embedder
    from agents.models import loading

    entries, needs = _entries_and_needs(measure)
    if REFERENCE in needs:
        loading.check(REFERENCE_MODEL)
    if EMBEDDER in needs or measure.pairs == RETRIEVED:
        embedder.folder(embedder.MINILM)
    for entry in entries:
        entry.check(measure)


def check_reward_judge(name: str) -> None:
    """Raises ValueError where the judge of that name scores no lines, so that no reward can be computed from it."""
    if not judge_entry(name).scores_lines():
        raise ValueError(f"reward.judge is {name!r}, which scores no lines; expected a judge of {' or '.join(LINES)}")


def judge_engines(measure: Measure) -> set[str]:
    """The names of the base models for which the judges and metrics need an engine."""
    entries, needs = _entries_and_needs(measure)
    reference = {REFERENCE_MODEL} if REFERENCE in needs else set()
    return reference.union(*(entry.engines(measure) for entry in entries))


def tripwire_aids(measure: Measure, engines: Mapping[str, Engine], device: str) -> dict[str, Callable]:
    """The functions that the metrics use: `embed`, and `logprobs` under the embedded model, as far as a metric needs
    them.

    The tripwires get both (for relevance and perplexity) only where something else already needs the embedded model, so
    that a run without models loads none.
    """
    needs = needed(measure.metrics)
    if REFERENCE in needs or (TRIPWIRES in measure.metrics and REFERENCE_MODEL in engines):
        return aids(engines[REFERENCE_MODEL], device)
    return {"embed": embedding(device)} if EMBEDDER in needs else {}


def retriever(measure: Measure, device: str) -> Embed | None:
    """The embedder by which pairs of lines are retrieved; None where all pairs are judged."""
    return embedding(device) if measure.pairs == RETRIEVED else None


def embedding(device: str) -> Embed:
    """A function from texts to unit vectors, (texts, width) float32, computed on that device.

    Raises ValueError where the embedder's model is not installed.
    """
    from agents.judge_models.embedder import Embedder

    return Embedder(device=device).embed


def aids(engine: Engine, device: str) -> dict[str, Callable]:
    """The functions that the tripwires use: `embed`, and `logprobs` (nats) under the engine's model without an
    adapter.
    """
    from agents.judge_models.card_likelihood import Reference

    return {"embed": embedding(device), "logprobs": Reference(engine).logprobs}


def _ledger(models: Models) -> Judge:
    from metrics.judges.ledger import Ledger

    return Ledger()


def _check_likelihood(measure: Measure) -> None:
    from agents.models import loading

    loading.check(measure.likelihood.model)


def _likelihood_engines(measure: Measure) -> Collection[str]:
    return (base_model(measure.likelihood.model),)


def _likelihood(models: Models) -> Judge:
    from agents.judge_models.card_likelihood import Reference
    from agents.models import loading
    from metrics.judges.likelihood import Likelihood

    model = models.measure.likelihood.model
    reference = Reference(models.engines[base_model(model)], loading.parse(model).adapter)
    return Likelihood(reference.logprobs, models.embed())


def _reader(models: Models) -> Judge:
    from metrics.judges.answer_reader import Reader

    return Reader(models.logprobs())


def _check_nli(measure: Measure) -> None:
    from agents.judge_models import cross_encoder
    from agents.models.loading import EMBEDDED

    if measure.nli.model != EMBEDDED:
        cross_encoder.check(measure.nli.model)


def _nli(models: Models) -> Judge:
    from agents.models.loading import EMBEDDED
    from metrics.judges.nli import Nli

    model, embed = models.measure.nli.model, models.embed()
    if model == EMBEDDED:
        from agents.judge_models.nli_head import EmbeddedNli

        read = EmbeddedNli(models.device)
        return Nli(read.entail, embed, entail_free=read.entail_free, reread=read.reread, english=True)
    from agents.judge_models.cross_encoder import CrossEncoder

    return Nli(CrossEncoder(model, models.device).entail, embed)


def _check_combined(measure: Measure) -> None:
    _check_nli(measure)
    _check_likelihood(measure)


def _combined(models: Models) -> Judge:
    from metrics.judges.combined import Combined

    return Combined(models.judge("nli"), models.judge("likelihood"), models.judge("ledger"), models.embed())


def _check_llm(measure: Measure) -> None:
    from agents.models import loading
    from agents.servers import client

    if measure.llm.endpoint:
        client.check(measure.llm.endpoint, measure.llm.model, measure.llm.api_key_env)
    else:
        loading.check(measure.llm.model)


def _llm_engines(measure: Measure) -> Collection[str]:
    return () if measure.llm.endpoint else (base_model(measure.llm.model),)


def _llm(models: Models) -> Judge:
    from agents.judge_models.answer_choice import EndpointChooser, EngineChooser
    from agents.models import loading
    from agents.servers.client import AT_ONCE
    from metrics.judges.llm import Llm

    spec = models.measure.llm
    if spec.endpoint:
        chooser = EndpointChooser(
            spec.endpoint,
            spec.model,
            spec.timeout_s,
            api_key_env=spec.api_key_env,
            at_once=spec.max_connections or AT_ONCE,
        )
        return Llm(chooser.choose, spec.protocol)
    engine, adapter = models.engines[base_model(spec.model)], loading.parse(spec.model).adapter
    engine.open([], adapter)  # refused now, not at the first line
    return Llm(EngineChooser(engine, adapter).choose, spec.protocol)


def _check_cascade(measure: Measure) -> None:
    spec = measure.cascade
    for key, name in {"first": spec.first, "second": spec.second}.items():
        if not judge_entry(name).scores_lines():
            raise ValueError(f"measure.cascade.{key} is {name!r}, which scores no lines; expected a judge that does")


def _cascade(models: Models) -> Judge:
    from metrics.judges.cascade import Cascade

    spec = models.measure.cascade
    return Cascade(models.judge(spec.first), models.judge(spec.second), spec.low, spec.high)


ENTRIES = (
    JudgeEntry("ledger", _ledger, finds=CONTRADICTING, free=True),
    JudgeEntry(
        "likelihood",
        _likelihood,
        needs=(EMBEDDER,),
        engines=_likelihood_engines,
        check=_check_likelihood,
        finds=CONTRADICTING,
        free=True,
    ),
    JudgeEntry("nli", _nli, JUDGED, needs=(EMBEDDER,), check=_check_nli, finds=CONTRADICTING, free=True),
    JudgeEntry(
        "combined",
        _combined,
        JUDGED,
        needs=(EMBEDDER,),
        engines=_likelihood_engines,
        check=_check_combined,
        finds=CONTRADICTING,
        free=True,
    ),
    JudgeEntry("llm", _llm, JUDGED, engines=_llm_engines, check=_check_llm, finds=CONTRADICTING),
    JudgeEntry("cascade", _cascade, JUDGED, check=_check_cascade, finds=CONTRADICTING, free=True),
    JudgeEntry("answer_reader", _reader, ("qa",), needs=(REFERENCE,), free=True),
)
JUDGES = {entry.name: entry for entry in ENTRIES}
