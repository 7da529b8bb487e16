"""Examined before and after: the same personas, questions and seeds under each arm, judged by judges that gave no reward.

reduction = 1 - (1 - consistency of the arm) / (1 - consistency of the untrained), the share of its inconsistency that is gone; both
sides are resampled together, conversation by conversation. Below 0 the arm is worse; NaN where the untrained contradicted nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from agents.protocol import Engine
from lab.frames import judgements_frame, turns_frame
from lab.progress import CONSISTENCIES
from lab.rollouts import trained
from lab.wiring import play_of
from metrics.measure import measure
from metrics.statistics import clustered_statistic, ratio
from metrics.sums import Key, Sums, of_run
from metrics.tripwires import TRIPWIRES
from scenarios.recipe import Recipe, played, split
from scenarios.records import derive_seed

UNTRAINED = "untrained"
SCHEMA = {"arm": pl.String, "scenario": pl.String, "metric": pl.String, "judge": pl.String, "seat": pl.String, "held_out": pl.Boolean,
          "value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64, "reduction": pl.Float64, "reduction_low": pl.Float64,
          "reduction_high": pl.Float64, "unscored": pl.Float64}


@dataclass(frozen=True)
class Examined:
    """What one arm said on one set of personas: metric rows of the trained seats over the run, and sums by conversation."""

    arm: str
    scenario: str
    held_out: bool
    rows: pl.DataFrame
    sums: Mapping[Key, Sums]


def examine_all(recipe: Recipe, engines: Mapping[str, Engine], aids: Mapping, tell: Callable[[str], None]) -> pl.DataFrame:
    """The untrained model, the trained one and every arm of `evaluation.arms`, each on both sets of personas and in the other scenario."""
    worn = {seat: trained(seat) for seat in recipe.seats()}
    arms = {UNTRAINED: ({}, {}), recipe.method: (worn, {})} | {name: ({}, told) for name, told in recipe.evaluation.arms.items()}
    places = [(True, False), (False, False)] + [(True, True)] * (recipe.evaluation.scenario is not None)
    found = []
    for name, (adapters, told) in arms.items():
        for held_out, elsewhere in places:
            where = Path(recipe.evaluation.scenario).stem if elsewhere else "held out" if held_out else "as learnt"
            tell(f"{name}, {where}")
            found.append(examine(recipe, engines, name, adapters, told, held_out=held_out, elsewhere=elsewhere, aids=aids))
    return table(found, seed=recipe.seed)


def examine(recipe: Recipe, engines: Mapping[str, Engine], arm: str, adapters: Mapping[str, str], overrides: Mapping[str, object], *,
            held_out: bool, elsewhere: bool = False, aids: Mapping) -> Examined:
    """Plays the arm and measures it. `held_out`: personas and question wording that training never saw; `elsewhere`: the other scenario."""
    exam, (learnt, unseen) = recipe.evaluation, split(recipe)
    told = recipe if not elsewhere else recipe.model_copy(update={"scenario": exam.scenario, "overrides": {}})
    values = {"seed": derive_seed(recipe.seed, "examination", held_out) % 2**31, "conversations": exam.conversations,
              "drawn": unseen if held_out else learnt, "measure.wording": recipe.held_out.wording if held_out else 0,
              "measure.metrics": [*CONSISTENCIES, "tripwires"], "measure.judge": exam.judge, "measure.asked": ["choice", "open"]}
    turns = exam.turns or played(told).turns
    values |= {"turns": turns, "measure.questions_every": turns}  # asked after the first line and after the last
    scenario = played(told, **values | overrides)
    play = play_of(scenario, engines, adapters, {})
    events = list(play.events())
    turns, judgements, how = turns_frame(arm, events), judgements_frame(arm, events), scenario.measure
    rows = measure(turns, judgements, metrics=how.metrics, window=how.window, confidence=how.confidence, resamples=how.resamples,
                   seed=scenario.seed, **aids,
                   cards={(c, name): persona.card for c, seats in enumerate(play.cast) for name, persona in seats.items()})
    sums = {key: found for key, found in of_run(turns, judgements, rows, window=how.window).items() if key[2] in recipe.seats()}
    return Examined(arm, scenario.name, held_out, rows.filter(pl.col("seat").is_in(recipe.seats())), sums)


def table(examined: Sequence[Examined], *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> pl.DataFrame:
    """evaluation.parquet: a row an arm, scenario, metric, judge, seat and `held_out`; `reduction` beside the untrained arm of the same."""
    before = {(one.scenario, one.held_out): one for one in examined if one.arm == UNTRAINED}
    rows = []
    for one in examined:
        run = one.rows.filter(pl.col("level") == "run")
        missing = {(row["metric"], row["judge"], row["seat"]): row["value"]
                   for row in run.filter(pl.col("metric").str.starts_with("unscored_")).iter_rows(named=True)}
        for row in run.filter(pl.col("metric").is_in([*CONSISTENCIES, *TRIPWIRES])).iter_rows(named=True):
            key = (row["metric"], row["judge"], row["seat"])
            untrained = before.get((one.scenario, one.held_out))
            found = {}
            both = untrained is not None and one is not untrained and key in untrained.sums and key in one.sums
            if row["metric"] in CONSISTENCIES and both:
                found = reduction(untrained.sums[key], one.sums[key], confidence=confidence, resamples=resamples, seed=seed)
            rows.append({"arm": one.arm, "scenario": one.scenario, "held_out": one.held_out,
                         **{name: row[name] for name in ("metric", "judge", "seat", "value", "low", "high", "n")}, **found,
                         "unscored": missing.get((f"unscored_{row['metric']}", *key[1:]))})
    return pl.DataFrame(rows, schema=SCHEMA, orient="row") if rows else pl.DataFrame(schema=SCHEMA)


def reduction(before: Sums, after: Sums, *, confidence: float, resamples: int, seed: int) -> dict[str, float]:
    """`reduction` with its interval, over the conversations that both sides have scored."""
    both = sorted(before.by_conversation.keys() & after.by_conversation.keys())
    sums = np.hstack([before.rows(both), after.rows(both)])  # (C, 4): consistent, scored; twice
    found = clustered_statistic(sums, _removed, n=len(both), confidence=confidence, resamples=resamples, seed=seed)
    named = asdict(found)
    return {"reduction": named["value"], "reduction_low": named["low"], "reduction_high": named["high"]}


def _removed(sums: np.ndarray) -> np.ndarray:
    """(R, 4) -> (R, 1)."""
    was, now = (1 - ratio(sums[:, at : at + 1], sums[:, at + 1 : at + 2]) for at in (0, 2))
    return 1 - ratio(now, np.where(was > 0, was, np.nan))
