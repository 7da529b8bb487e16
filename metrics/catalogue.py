"""Every metric of the lab as an entry, and the figures of metrics for tables.

The functions behind the entries are imported when they are called, since tables need only the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from metrics import BESIDE
from metrics.entry import (
    ACTIVATIONS,
    Figure,
    MetricContext,
    MetricEntry,
    change_format,
    cosine_format,
    count_format,
    exponential_format,
    lines_format,
    share_format,
    slope_format,
)
from metrics.judges import JUDGED
from scenarios import plugins

if TYPE_CHECKING:
    import polars as pl

TITLES = {"prompt_to_line": "prompt-to-line", "line_to_line": "line-to-line", "qa": "Q&A"}
CONSISTENCIES = JUDGED
QA_UNSEEN = "qa_held_out_slots"  # of an evaluation: answers about facts of slots that the training held out
EVALUATED = {**TITLES, QA_UNSEEN: "Q&A, held-out slots"}
GROUPS = ("consistency", "tripwires", "drift", "survival", "contradictions", "activation")  # in the order of tables


def _consistency(name: str) -> Callable[[MetricContext], pl.DataFrame]:
    """The consistency of that name (see `metrics.consistency`), with the share of rows that could not be scored."""

    def rows(context: MetricContext) -> pl.DataFrame:
        from metrics import stacked
        from metrics.reductions import consistency_rows, unscored_metric_rows

        scored = consistency_rows(context.judgements, name, **context.how)
        return stacked([scored, unscored_metric_rows(context.judgements, name, **context.how)])

    return rows


def _judged_pairs(context: MetricContext) -> pl.DataFrame:
    from metrics.consistency import judged_pairs

    return judged_pairs(context.judgements, **context.how)


def _drift(context: MetricContext) -> pl.DataFrame:
    from metrics.drift import drift_rows

    return drift_rows(context.turns, context.judgements, window=context.window, **context.how)


def _survival(context: MetricContext) -> pl.DataFrame:
    from metrics.survival import survival_rows

    return survival_rows(context.judgements, confidence=context.how["confidence"])


def _contradictions(context: MetricContext) -> pl.DataFrame:
    from metrics import stacked
    from metrics.contradictions import contradiction_rows, shape

    counts = contradiction_rows(context.judgements, **context.how)
    return stacked([counts, shape(context.turns, context.judgements, **context.how)])


def _tripwires(context: MetricContext) -> pl.DataFrame:
    """The tripwires of the lines that a judge was asked about: lines given by the scenario do not count."""
    from metrics.tripwires import tripwires

    asked = context.judgements.filter(metric="prompt_to_line")
    return tripwires(
        context.turns,
        context.cards,
        counted=None if asked.is_empty() else asked,
        embed=context.embed,
        logprobs=context.logprobs,
        **context.how,
    )


def _activation(context: MetricContext) -> pl.DataFrame:
    from metrics.activation import activation_rows

    return activation_rows(context.activations, context.judgements, **context.how)


ENTRIES = (  # in the order of their rows in metrics.parquet
    MetricEntry(
        "prompt_to_line",
        _consistency("prompt_to_line"),
        {
            "prompt_to_line": Figure("consistency", "prompt-to-line consistency", share_format),
            "corrected_prompt_to_line": Figure("consistency", "prompt-to-line, corrected", share_format),
        },
        needs=("prompt_to_line",),
    ),
    MetricEntry(
        "line_to_line",
        _consistency("line_to_line"),
        {
            "line_to_line": Figure("consistency", "line-to-line consistency", share_format),
            "corrected_line_to_line": Figure("consistency", "line-to-line, corrected", share_format),
        },
        needs=("line_to_line",),
    ),
    MetricEntry(
        "qa", _consistency("qa"), {"qa": Figure("consistency", "Q&A: answers right", share_format)}, needs=("qa",)
    ),
    MetricEntry(
        "judged_pairs",
        _judged_pairs,
        {"judged_pairs": Figure("consistency", "pairs of lines judged", share_format)},
        part_of="line_to_line",
    ),
    MetricEntry(
        "drift",
        _drift,
        {
            "local_drift": Figure("drift", "local drift (near pairs)", share_format),
            "local_drift_slope": Figure("drift", "local drift per turn", slope_format, drifts=True),
            "global_drift_slope": Figure("drift", "global drift per turn", slope_format, drifts=True),
            "corrected_global_drift_slope": Figure("drift", "global drift per turn, corrected", slope_format),
            "global_drift_thirds": Figure("drift", "global drift, last − first third", change_format, drifts=True),
            "qa_drift_slope": Figure("drift", "Q&A drift per turn", slope_format, drifts=True),
            "qa_drift_thirds": Figure("drift", "Q&A drift, last − first third", change_format, drifts=True),
        },
        needs=("prompt_to_line", "line_to_line"),
    ),
    MetricEntry(
        "survival",
        _survival,
        {
            "time_to_first_contradiction": Figure("survival", "median line of the first contradiction", lines_format),
            "half_life": Figure("survival", "half-life in lines", lines_format),
        },
        part_of="drift",
    ),
    MetricEntry(
        "contradictions",
        _contradictions,
        {
            "contradicting_lines": Figure("contradictions", "contradicting lines", count_format),
            "contradicted_facts": Figure("contradictions", "facts contradicted", count_format),
            "suspects": Figure("contradictions", "suspects (values that are not listed)", count_format),
            "contradiction_components": Figure("contradictions", "groups of contradictions", count_format),
            "most_contradicted_fact": Figure("contradictions", "most contradicted fact: lines (mean)", lines_format),
            "longest_contradiction": Figure("contradictions", "longest contradiction: turns (mean)", lines_format),
        },
        needs=("prompt_to_line", "line_to_line"),
    ),
    MetricEntry(
        "tripwires",
        _tripwires,
        {
            "distinct_1": Figure("tripwires", "distinct-1", share_format),
            "distinct_2": Figure("tripwires", "distinct-2", share_format),
            "repetition": Figure("tripwires", "repetition", share_format),
            "parroting": Figure("tripwires", "card overlap", share_format),
            "wrong_person": Figure("tripwires", "person error", share_format),
            "helper_voice": Figure("tripwires", "assistant-style lines", share_format),
            "speaks_for_other": Figure("tripwires", "lines that speak for the other", share_format),
            "evasion": Figure("tripwires", "non-informative lines", share_format),
            "length": Figure("tripwires", "words per line", lines_format),
            "relevance": Figure("tripwires", "relevance", cosine_format),
            "perplexity_nats": Figure("tripwires", "perplexity", exponential_format),
        },
    ),
    MetricEntry(
        "activation",
        _activation,
        {
            "activation_drift": Figure("activation", "activation drift", change_format),
            "activation_drift_slope": Figure("activation", "activation drift per turn", slope_format, drifts=True),
            "activation_correlation": Figure(
                "activation", "activation drift with inconsistency, Spearman", change_format
            ),
        },
        needs=(ACTIVATIONS,),
    ),
)
METRICS = {entry.name: entry for entry in ENTRIES if not entry.part_of}  # those that a scenario can name
MEASURES: Mapping[str, Figure] = MappingProxyType(
    dict(
        sorted(
            (item for entry in ENTRIES for item in entry.figures.items()), key=lambda item: GROUPS.index(item[1].group)
        )
    )
    | {"finding": Figure("finding", "the statistic of a study", "{:.3g}".format)}
)


def metric_entry(name: str) -> MetricEntry:
    """The entry of that name, from the lab or an installed package.

    Raises ValueError where a package's entry cannot be used.
    """
    return METRICS.get(name) or plugins.load_entry(plugins.METRICS, name, MetricEntry)


def unscored_label(metric: str) -> str:
    """`unscored, prompt-to-line`: the label of what could not be scored of these judgements."""
    return f"unscored, {TITLES.get(metric, metric)}"


def needed(metrics: Iterable[str]) -> set[str]:
    """What these metrics need together: kinds of judgements, ACTIVATIONS, and models (see `MetricEntry.needs`).

    Raises ValueError where a package's entry cannot be used.
    """
    return {need for name in metrics for need in metric_entry(name).needs}


def metric_figures(shown: Iterable[str]) -> Mapping[str, Figure]:
    """The figures for tables that show these metrics, in the order of tables: first MEASURES, then those of packages.

    Packages are loaded only where a metric is not the lab's; one that cannot be used contributes nothing.
    """
    if all(name in MEASURES or name.startswith(BESIDE) for name in shown):
        return MEASURES
    known = dict(MEASURES)
    for plugin in plugins.plugins(plugins.METRICS):
        try:
            entry = plugins.load_plugin(plugin, MetricEntry)
        except ValueError:
            continue
        known |= {name: figure for name, figure in entry.figures.items() if name not in known}
    return known
