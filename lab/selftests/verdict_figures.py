"""How often the verdict on a claim is wrong, by simulation: false confirmations and refutations under null values.

Units are drawn whose true mean or share is known, intervals are computed from them as studies do (`mean_of`,
`proportion_of`), and `metrics.studies.verdict` decides. Tests are independent of each other, where the chance that any
of them refutes is largest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metrics.stats.intervals import Interval, clustered_means
from metrics.stats.shares import clustered_shares
from metrics.studies.protocol import Range, Test, above, below
from metrics.studies.verdict import CONFIRMS, REFUTES, verdict_word
from scenarios.records import derive_seed

UNITS, TESTS = (12, 24), (1, 2, 3)
AT_ONCE = 200  # simulations that are drawn from one seed
MEANS, SHARES = "means", "shares"
ALL, ONE, END = "all on the bound", "one on the bound, the others confirm", "all on the upper end of a range"
# of either figure: its value on the bound, far above it, and the lower end of the range whose upper end is the bound
VALUES = {MEANS: (0.0, 1.5, -3.0), SHARES: (0.2, 0.8, -1.0)}


def rows(sims: int, seed: int) -> list[dict]:
    """One row per figure, number of units, number of tests and null.

    Columns: `figures` (MEANS or SHARES), `units`, `tests`, `null` (ALL, ONE or END), `false_confirms`, `false_refutes`
    (shares of the simulations, 0 to 1; both at most .05 where the rule holds what it promises), `sims`. Under every
    null the claim is neither true nor excluded: the true values lie on the bounds, or one does and the others where
    they confirm. Raises ValueError without simulations.
    """
    if sims < 1:
        raise ValueError(f"{sims} simulations: expected at least 1")
    return [row for figures in VALUES for units in UNITS for row in _rows(figures, units, sims, seed)]


def _rows(figures: str, units: int, sims: int, seed: int) -> list[dict]:
    bound, far, lower = VALUES[figures]
    on_bound, confirming = (
        [
            intervals
            for start in range(0, sims, AT_ONCE)
            for intervals in _intervals(
                figures,
                value,
                units,
                min(AT_ONCE, sims - start),
                derive_seed(seed, "verdicts", figures, units, value, start),
            )
        ]
        for value in (bound, far)
    )
    nulls = {
        ALL: (on_bound, above(bound), below(bound)),
        ONE: (
            [[on, *others[1:]] for (on, *_), others in zip(on_bound, confirming, strict=True)],
            above(bound),
            below(bound),
        ),
        END: (on_bound, (lower, bound), above(bound)),
    }
    return [
        {
            "figures": figures,
            "units": units,
            "tests": tests,
            "null": null,
            **_wrong([intervals[:tests] for intervals in drawn], confirms, refutes),
            "sims": sims,
        }
        for tests in TESTS
        for null, (drawn, confirms, refutes) in nulls.items()
        if tests > 1 or null != ONE
    ]


def _wrong(drawn: Sequence[Sequence[Interval]], confirms: Range, refutes: Range) -> dict[str, float]:
    words = [
        verdict_word({str(n): Test(interval, confirms, refutes) for n, interval in enumerate(intervals)})
        for intervals in drawn
    ]
    return {
        "false_confirms": words.count(CONFIRMS) / len(words),
        "false_refutes": words.count(REFUTES) / len(words),
    }


def _intervals(figures: str, value: float, units: int, sims: int, seed: int) -> list[list[Interval]]:
    """By simulation, an interval for each test, of `units` units: normal with variance 1, or true and false."""
    count = sims * max(TESTS)
    rng = np.random.default_rng(seed)
    drawn = rng.normal(value, 1, (units, count)) if figures == MEANS else rng.random((units, count)) < value
    clusters, groups = (indices.ravel() for indices in np.indices((units, count)))
    by_group = (
        clustered_means(drawn.ravel(), clusters, groups)
        if figures == MEANS
        else clustered_shares(drawn.ravel(), clusters, groups)
    )
    intervals = list(by_group.values())
    return [intervals[start : start + max(TESTS)] for start in range(0, count, max(TESTS))]
