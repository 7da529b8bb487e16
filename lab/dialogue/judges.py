"""From the names in a measure to the judges themselves, and to the models that they read with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agents.engine.protocol import Engine
from lab.dialogue.seats import base_model
from scenarios.schema import Measure

if TYPE_CHECKING:
    from metrics.judges import Judge
    from metrics.judges.pair_retrieval import Embed


REFERENCE = "embedded"  # what these judges and the perplexity wire read with
READING = {"likelihood", "reader"}
RETRIEVED, TRIPWIRES = "retrieved", "tripwires"


def judges(measure: Measure, engines: Mapping[str, Engine], device: str) -> list[Judge]:
    """The judges that the measure names, in its order. `engines` by model name, those of `judge_engines` among them;
    `device` is for models that are no engines.
    """
    return [JUDGES[name](measure, engines, device) for name in measure.judge]


def check_judges(measure: Measure) -> None:
    """Refuse, before a model is loaded, judges whose models are not there. ValueError says which."""
    from agents.judge_models import cross_encoder, embedder
    from agents.models import loading
    from agents.servers import client

    names, nli, llm = measure.judges(), measure.nli, measure.llm
    if names & READING:
        loading.check(REFERENCE)
    if names & {"likelihood", "nli"} or measure.pairs == RETRIEVED:
        embedder.folder(embedder.MINILM)
    if "nli" in names and nli.model != loading.EMBEDDED:
        cross_encoder.check(nli.model)
    if "llm" in names:
        if llm.endpoint:
            client.check(llm.endpoint, llm.model)
        else:
            loading.check(llm.model)


def judge_engines(measure: Measure) -> set[str]:
    """The base models that the judges need an engine of."""
    names, llm = measure.judges(), measure.llm
    return ({REFERENCE} if names & READING else set()) | (
        {base_model(llm.model)} if "llm" in names and not llm.endpoint else set()
    )


def wires(measure: Measure, engines: Mapping[str, Engine], device: str) -> dict[str, Callable]:
    """`embed` for relevance and `logprobs` for perplexity, under the embedded model; nothing where no tripwire is
    measured, or where nothing else needs that model: a run without models stays one.
    """
    if TRIPWIRES not in measure.metrics or REFERENCE not in engines:
        return {}
    return aids(engines[REFERENCE], device)


def retriever(measure: Measure, device: str) -> Embed | None:
    """What pairs of lines are retrieved by; None where all are judged."""
    if measure.pairs != RETRIEVED:
        return None
    from agents.judge_models.embedder import Embedder

    return Embedder(device=device).embed


def aids(engine: Engine, device: str) -> dict[str, Callable]:
    """What the tripwires read with: `embed`, and `logprobs` of that engine's model as it is without an adapter."""
    from agents.judge_models.card_likelihood import Reference
    from agents.judge_models.embedder import Embedder

    return {"embed": Embedder(device=device).embed, "logprobs": Reference(engine).logprobs}


def _ledger(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from metrics.judges.ledger import Ledger

    return Ledger()


def _likelihood(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.judge_models.card_likelihood import Reference
    from agents.judge_models.embedder import Embedder
    from metrics.judges.likelihood import Likelihood

    return Likelihood(Reference(engines[REFERENCE]).logprobs, Embedder(device=device).embed)


def _reader(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.judge_models.card_likelihood import Reference
    from metrics.judges.answer_reader import Reader

    return Reader(Reference(engines[REFERENCE]).logprobs)


def _nli(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.judge_models.embedder import Embedder
    from agents.models.loading import EMBEDDED
    from metrics.judges.nli import Nli

    model, embed = measure.nli.model, Embedder(device=device).embed
    if model == EMBEDDED:
        from agents.judge_models.nli_head import EmbeddedNli

        return Nli(EmbeddedNli(device).entail, embed)
    from agents.judge_models.cross_encoder import CrossEncoder

    return Nli(CrossEncoder(model, device).entail, embed)


def _llm(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from agents.judge_models.answer_choice import EndpointChooser, EngineChooser
    from agents.models import loading
    from metrics.judges.llm import Llm

    spec = measure.llm
    if spec.endpoint:
        return Llm(EndpointChooser(spec.endpoint, spec.model, spec.timeout_s).choose, spec.protocol)
    engine, adapter = engines[base_model(spec.model)], loading.parse(spec.model).adapter
    engine.open([], adapter)  # refused now, not at the first line
    return Llm(EngineChooser(engine, adapter).choose, spec.protocol)


def _cascade(measure: Measure, engines: Mapping[str, Engine], device: str) -> Judge:
    from metrics.judges.cascade import Cascade

    spec = measure.cascade
    cheap, dear = (JUDGES[name](measure, engines, device) for name in (spec.cheap, spec.dear))
    return Cascade(cheap, dear, spec.low, spec.high)


JUDGES = {
    "ledger": _ledger,
    "likelihood": _likelihood,
    "nli": _nli,
    "llm": _llm,
    "cascade": _cascade,
    "reader": _reader,
}
