"""Agreement of the judges of one run, over what two judges both scored."""

from __future__ import annotations

from itertools import combinations

import polars as pl

from metrics.catalogue import CONSISTENCIES
from metrics.reductions import of_metric
from metrics.stats.intervals import clustered_statistic, ratio
from metrics.validation.calibration import beyond_chance

SCHEMA = {
    "metric": pl.String,
    "first": pl.String,
    "second": pl.String,
    "agreed": pl.Float64,
    "kappa": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}
WHERE = ["conversation", "turn", "seat", "against"]


def agreement(judgements: pl.DataFrame, *, confidence: float) -> pl.DataFrame:
    """One row per metric and pair of judges (first and second, by name) with n items that both scored, of both seats.

    `agreed` is the share of equal verdicts, 0 to 1. `kappa`, `low` and `high` are Cohen's kappa (see
    `metrics.validation.calibration`) with its interval over conversations. Without common items there are no rows.
    """
    kappas = []
    for metric in CONSISTENCIES:
        rows = of_metric(judgements, metric).filter(pl.col("verdict").is_not_null()).select(*WHERE, "judge", "verdict")
        by_judge = {judge: part.drop("judge") for (judge,), part in rows.partition_by("judge", as_dict=True).items()}
        for first, second in combinations(sorted(by_judge), 2):
            both = by_judge[first].join(by_judge[second], on=WHERE, suffix="_of_other")
            said, true = pl.col("verdict"), pl.col("verdict_of_other")
            sums = (
                both.group_by("conversation")
                .agg((said == true).sum(), said=said.sum(), true=true.sum(), n=pl.len())
                .sort("conversation")
            )
            if sums.is_empty():
                continue
            counts = sums.drop("conversation").to_numpy().astype(float)
            kappa = clustered_statistic(
                counts,
                lambda counted: beyond_chance(counted)[:, None],
                n=len(both),
                confidence=confidence,
            )
            kappas.append(
                {
                    "metric": metric,
                    "first": first,
                    "second": second,
                    "agreed": float(ratio(*counts.sum(0)[[0, 3]])),
                    "kappa": kappa.value,
                    "low": kappa.low,
                    "high": kappa.high,
                    "n": kappa.n,
                }
            )
    return pl.DataFrame(kappas, schema=SCHEMA)
