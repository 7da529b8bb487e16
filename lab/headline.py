"""The few numbers a run comes to, as text: one row a metric and judge, one cell a seat. Terminal and report show the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isfinite, isnan

import polars as pl

from lab.progress import CONSISTENCIES, TITLES
from scenarios.records import SEATS


@dataclass(frozen=True)
class Row:
    """One line of the table; `cells` by seat, `worse` the seats whose drift interval lies above 0, or that trip the wire."""

    group: str
    label: str
    judge: str
    cells: dict[str, str]
    worse: frozenset[str] = frozenset()


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
    "questions": Measure("consistency", "questions answered right", share),
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
    "questions_drift_slope": Measure("drift", "drift of answers, a turn", slope, drifts=True),
    "questions_drift_thirds": Measure("drift", "drift of answers, last − first third", change, drifts=True),
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
    "finding": Measure("finding", "the statistic of a study", "{:.3g}".format)}
MISSING = "–"


def headline(metrics: pl.DataFrame, judgements: pl.DataFrame) -> list[Row]:
    """The run-level rows in the order of MEASURES, other metrics after them under their names, unscored counts last.

    A consistency whose speaker trips a wire ends with ⚠: it may be bought. The share of pairs judged is shown where it is below 1.
    """
    run = metrics.filter(pl.col("level") == "run", ~pl.col("metric").str.starts_with("unscored_"))
    run = run.filter((pl.col("metric") != "judged_pairs") | (pl.col("value") < 1))
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for row in run.iter_rows(named=True):
        found.setdefault((row["metric"], row["judge"] or MISSING), {})[row["seat"]] = row
    order = {name: index for index, name in enumerate(MEASURES)}
    keys = sorted(found, key=lambda key: (order.get(key[0], len(order)), *key))
    tripped = trips({(name, seat): row["value"] for (name, _), by_seat in found.items() for seat, row in by_seat.items()})
    return [_row(name, judge, found[name, judge], tripped) for name, judge in keys] + unscored(judgements)


def trips(values: dict[tuple[str, str], float]) -> dict[str, set[str]]:
    """seat -> tripwires that fire there; `values` by (metric, seat)."""
    from metrics.tripwires import fired

    return {seat: {name for name, _, _ in fired({name: value for (name, of), value in values.items() if of == seat})} for seat in SEATS}


def cell(row: dict, number: Callable[[float], str]) -> str:
    """`value [low, high] n=…`; the interval is left out where there is none, `–` stands for a value there is not."""
    value = row["value"]
    if value is None or isnan(value):
        return f"{'not reached' if row['metric'] == 'time_to_first_contradiction' and row['n'] else MISSING} n={row['n']}"
    bounds = [MISSING if bound is None or isnan(bound) else number(bound) for bound in (row["low"], row["high"])]
    interval = "" if bounds == [MISSING, MISSING] else f" [{bounds[0]}, {bounds[1]}]"
    return f"{number(value)}{interval} n={row['n']}"


def unscored(judgements: pl.DataFrame) -> list[Row]:
    """Judgements nobody could make, `k of n` by metric, judge and seat, where there are any."""
    whole = judgements.filter((pl.col("metric") != "prompt_to_line") | (pl.col("against") == "persona"))
    counts = whole.group_by("metric", "judge", "seat").agg(missing=pl.col("unscored").is_not_null().sum(), n=pl.len())
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for row in counts.iter_rows(named=True):
        found.setdefault((row["metric"], row["judge"]), {})[row["seat"]] = row
    return [Row("unscored", f"unscored, {name.replace('_', '-')}", judge,
                {seat: f"{row['missing']} of {row['n']}" for seat, row in by_seat.items()})
            for (name, judge), by_seat in sorted(found.items()) if any(row["missing"] for row in by_seat.values())]


def drift_by_node(turns: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """node, seat, judge, inconsistency (share of scored lines there that contradict the persona), n; by node, seat."""
    rows = judgements.filter(pl.col("metric") == "prompt_to_line", pl.col("against") == "persona",
                             pl.col("verdict").is_not_null())
    rows = rows.join(turns.select("conversation", "turn", "node"), on=["conversation", "turn"])
    return rows.group_by("node", "seat", "judge").agg(
        inconsistency=pl.col("verdict").mean(), n=pl.len().cast(pl.Int64)).sort("node", "seat", "judge")


def coverage(turns: pl.DataFrame, nodes: Iterable[str],
             edges: Iterable[Sequence[str]]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Lines said at each declared node, and how often each declared edge was taken; 0 where never."""
    visits = Counter(turns["node"].to_list())
    walks = turns.sort("conversation", "turn").group_by("conversation", maintain_order=True).agg("node")["node"]
    steps = Counter(step for walk in walks.to_list() for step in pairwise(walk))
    declared = dict.fromkeys((edge[0], edge[1]) for edge in edges)
    return Counter({node: visits[node] for node in nodes}), Counter({edge: steps[edge] for edge in declared})


def _row(name: str, judge: str, by_seat: dict[str, dict], tripped: dict[str, set[str]]) -> Row:
    measure = MEASURES.get(name, Measure("other", name, lambda value: f"{value:.4g}"))
    worse = frozenset(seat for seat, row in by_seat.items()
                      if measure.drifts and row["low"] is not None and isfinite(row["low"]) and row["low"] > 0)
    worse |= {seat for seat in by_seat if name in tripped.get(seat, ())}
    cells = {seat: cell(by_seat[seat], measure.number) for seat in SEATS if seat in by_seat}
    if name in CONSISTENCIES:
        cells |= {seat: f"{cells[seat]} ⚠" for seat in cells if tripped.get(seat)}
    return Row(measure.group, measure.label + bound(name), judge, cells, worse)


def bound(name: str) -> str:
    """` (≤ 0.10)` where a tripwire of that name has a bound of its own."""
    from metrics.tripwires import BOUNDS

    found = str(BOUNDS[name]) if name in BOUNDS else ""
    return f" ({found})" if found else ""


# -- what an examination came to -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Examined:
    """A table of evaluation.parquet; each cell with whether it stands out: a wire that is tripped."""

    title: str
    header: tuple[str, ...]
    rows: list[list[tuple[str, bool]]]


def evaluated(evaluation: pl.DataFrame) -> list[Examined]:
    """With people and wordings held out, by scenario and seat: each arm's consistencies, but for those that were rewarded, and what
    of the untrained inconsistency is gone; then its tripwires."""
    found = []
    for scenario, seat, part in held_out(evaluation):
        rows = part.filter(pl.col("metric").is_in(CONSISTENCIES), pl.col("n") > 0, ~pl.col("rewarded"))
        cells = [[(TITLES[row["metric"]], False), (row["judge"], False), (row["arm"], False),
                  (cell(row, share), False), (removed(row), False)] for row in rows.sort("metric", "judge", maintain_order=True).iter_rows(named=True)]
        found.append(Examined(f"{scenario}, {seat}: strangers, other wordings, other judges",
                              ("measure", "judge", "arm", "consistency", "inconsistency removed"), cells))
        arms = list(dict.fromkeys(part["arm"]))
        wired = {name: {row["arm"]: row for row in part.filter(metric=name).iter_rows(named=True)} for name in MEASURES
                 if MEASURES[name].group == "tripwires"}
        loud = {(arm, name) for arm, wires in tripped(part).items() for name, _, _ in wires}
        cells = [[(MEASURES[name].label + bound(name), False),
                  *((cell(rows[arm], MEASURES[name].number), (arm, name) in loud) if arm in rows else (MISSING, False) for arm in arms)]
                 for name, rows in wired.items() if rows]
        if cells:
            found.append(Examined(f"{scenario}, {seat}: tripwires", ("wire", *arms), cells))
    return found


def held_out(evaluation: pl.DataFrame) -> list[tuple[str, str, pl.DataFrame]]:
    """scenario, seat and their rows of evaluation.parquet that are of strangers."""
    if evaluation.is_empty():
        return []
    parts = evaluation.filter(pl.col("held_out")).partition_by("scenario", "seat", as_dict=True, maintain_order=True)
    return [(scenario, seat, part) for (scenario, seat), part in parts.items()]


def tripped(part: pl.DataFrame) -> dict[str, list]:
    """Each arm's wires out of bounds (see `metrics.tripwires.fired`), beside those of the first arm, which is untrained."""
    from metrics.tripwires import fired

    values = {arm: dict(rows.select("metric", "value").iter_rows()) for (arm,), rows in part.partition_by(
        "arm", as_dict=True, maintain_order=True).items()}
    before, *_ = values
    return {arm: fired(some, values[before] if arm != before else None) for arm, some in values.items()}


def removed(row: dict) -> str:
    """`77% [72%, 81%]`: the share of the untrained inconsistency that is gone; "" where there is none to tell."""
    def percent(value: float | None) -> str:
        return MISSING if value is None or isnan(value) else f"{value:.0%}"

    if percent(row["reduction"]) == MISSING:
        return ""
    return f"{percent(row['reduction'])} [{percent(row['reduction_low'])}, {percent(row['reduction_high'])}]"
