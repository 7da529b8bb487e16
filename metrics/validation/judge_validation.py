"""What a judge can see in the personas of one run: its judgements of lines planted for them (`persona_plants`).

For each judge and metric: AUROC, recall (the share of planted contradictions that its verdicts find) and false alarms
(the share of clean lines that they accuse), with intervals. Shares have those of `metrics.stats.shares`, AUROC that of
a jackknife; both take personas as clusters where there are at least CLUSTERS of them, else lines, since the personas of
a run with few are no sample of others. Where AUROC without any cluster is the same (perfect ranking, or none at all),
its interval is Wilson's for a share of as many rows as the smaller side has.

A judge whose AUROC may be as low as FLOOR is not valid here: what it says of this run is no evidence. The plants are
made by rules and plainer than what models say, so that recall in the run is likely to be lower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import isnan

import numpy as np

from metrics.judges import LINES, Judge, scored_by
from metrics.stats.intervals import Interval, clustered_rows
from metrics.stats.shares import clustered_share, share_of_counts
from metrics.validation.calibration import auroc, threshold_at
from metrics.validation.persona_plants import Plant, pairs_of
from metrics.validation.validity import FALSE_ALARMS, FLOOR, NOTHING_PLANTED, Validity
from scenarios.records import Judgement

CLUSTERS = 5  # personas from which on they are the clusters
PORTION = 10  # pairs that a judge gets at once, about as many as in a run, so that a slow server keeps up


def validities(
    judges: Sequence[Judge],
    planted: Sequence[Plant],
    metrics: Collection[str],
    *,
    confidence: float,
) -> list[Validity]:
    """One result per judge and metric (of prompt_to_line and line_to_line, those in `metrics` that the judge scores).

    A judge that raises ValueError has scored nothing, with that reason.
    """
    results = []
    for judge in judges:
        for metric in (name for name in LINES if name in metrics):
            pairs = scored_by(judge, pairs_of(planted, metric))
            if planted and not pairs:
                continue
            try:
                rows = [row for at in range(0, len(pairs), PORTION) for row in judge.judge(pairs[at : at + PORTION])]
            except ValueError as error:
                rows = [
                    Judgement(pair.conversation, 0, "", metric, "", pair.against, unscored=str(error)) for pair in pairs
                ]
            results.append(_validity(judge.name, metric, planted, rows, confidence))
    return results


def _validity(
    judge: str, metric: str, planted: Sequence[Plant], rows: Sequence[Judgement], confidence: float
) -> Validity:
    whole = {row.conversation: row for row in rows if row.against in ("persona", "0")}
    scored = [(planted[place], row) for place, row in whole.items() if row.unscored is None]
    labels = np.array([plant.contradicts for plant, _ in scored], bool)
    missing = Counter(row.unscored for row in whole.values() if row.unscored is not None)
    counts = int(labels.sum()), int((~labels).sum()), missing.total()
    if not all(counts[:2]):
        reason = missing.most_common(1)[0][0] if missing else NOTHING_PLANTED
        return Validity(judge, metric, None, reason, *counts)
    p = np.array([row.p_inconsistent for _, row in scored], float)
    verdict = np.array([row.verdict for _, row in scored], bool)
    personas = np.unique([f"{plant.persona.id}\x1f{plant.persona.card}" for plant, _ in scored], return_inverse=True)[1]
    clusters = personas if len(set(personas)) >= CLUSTERS else np.arange(len(scored))
    area = clustered_rows(clusters, lambda weights: auroc(p, labels, weights), confidence=confidence, within=(0.0, 1.0))
    low, high = _bounds(area, min(counts[:2]), confidence)
    found, accused = (
        clustered_share(verdict[side], clusters[side], confidence=confidence) for side in (labels, ~labels)
    )
    threshold = threshold_at(p[~labels], FALSE_ALARMS)
    return Validity(
        judge,
        metric,
        bool(low > FLOOR),
        None,
        *counts,
        *(area.value, low, high),
        *(found.value, found.low, found.high),
        *(accused.value, accused.low, accused.high),
        threshold,
        float((p[labels] > threshold).mean()),
    )


def _bounds(area: Interval, rows: int, confidence: float) -> tuple[float, float]:
    """The interval of AUROC; Wilson's for `rows` rows where the jackknife has none."""
    if not isnan(area.low) and area.low < area.high:
        return area.low, area.high
    share = share_of_counts(area.value * np.ones(rows), np.ones(rows), confidence=confidence)
    return share.low, share.high
