"""The figures that tables show: which metric each reads, its label and its number format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf


@dataclass(frozen=True)
class Measure:
    group: str
    label: str
    number: Callable[[float], str]
    drifts: bool = False  # above 0 means that the seat gets worse


def share(value: float) -> str:
    return f"{value:.2f}"


def change(value: float) -> str:
    return f"{value:+.2f}"


def slope(value: float) -> str:
    return f"{value:+.4f}"


def lines(value: float) -> str:
    return "∞" if value == inf else f"{value:.1f}"


def count(value: float) -> str:
    return f"{value:.0f}"


def exponential(value: float) -> str:
    return f"{exp(value):.1f}"


MEASURES = {
    "prompt_to_line": Measure("consistency", "prompt-to-line consistency", share),
    "line_to_line": Measure("consistency", "line-to-line consistency", share),
    "qa": Measure("consistency", "Q&A, facts answered right", share),
    "judged_pairs": Measure("consistency", "pairs of lines judged", share),
    "distinct_1": Measure("tripwires", "distinct words", share),
    "distinct_2": Measure("tripwires", "distinct word pairs", share),
    "repetition": Measure("tripwires", "repeats itself", share),
    "parroting": Measure("tripwires", "copies its card", share),
    "wrong_person": Measure("tripwires", "speaks of itself as another", share),
    "helper_voice": Measure("tripwires", "in a helper program's voice", share),
    "evasion": Measure("tripwires", "says nothing of its own", share),
    "length": Measure("tripwires", "words a line", lines),
    "relevance": Measure("tripwires", "relevance to what it heard", share),
    "perplexity_nats": Measure("tripwires", "perplexity", exponential),
    "local_drift": Measure("drift", "local drift (near pairs)", share),
    "local_drift_slope": Measure("drift", "local drift, a turn", slope, drifts=True),
    "global_drift_slope": Measure("drift", "global drift, a turn", slope, drifts=True),
    "global_drift_thirds": Measure("drift", "global drift, last − first third", change, drifts=True),
    "qa_drift_slope": Measure("drift", "Q&A drift, a turn", slope, drifts=True),
    "qa_drift_thirds": Measure("drift", "Q&A drift, last − first third", change, drifts=True),
    "time_to_first_contradiction": Measure("survival", "first contradiction, median line", lines),
    "half_life": Measure("survival", "half-life in lines", lines),
    "contradictions": Measure("contradictions", "contradictions", count),
    "contradicted_facts": Measure("contradictions", "facts contradicted", count),
    "contradiction_components": Measure("contradictions", "groups of contradictions", count),
    "most_contradicted_fact": Measure("contradictions", "contradictions of one fact, most", count),
    "longest_contradiction": Measure("contradictions", "longest-lived contradiction, turns", count),
    "activation_drift": Measure("activation", "activation drift", change),
    "activation_drift_slope": Measure("activation", "activation drift, a turn", slope, drifts=True),
    "activation_correlation": Measure("activation", "activation drift with inconsistency, Spearman", change),
    "finding": Measure("finding", "the statistic of a study", "{:.3g}".format),
}
MISSING = "–"
TITLES = {"prompt_to_line": "prompt-to-line", "line_to_line": "line-to-line", "qa": "Q&A"}
CONSISTENCIES = tuple(TITLES)
