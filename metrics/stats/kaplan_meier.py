"""Survival curves with censoring."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from metrics.stats.intervals import Interval


@dataclass(frozen=True)
class Survival:
    """A Kaplan-Meier curve: at the distinct `times`, the share that survives, its interval, and the number at risk."""

    times: np.ndarray
    survival: np.ndarray
    low: np.ndarray  # NaN where the formula is undefined (before the first event, or with nobody at risk)
    high: np.ndarray
    at_risk: np.ndarray
    n: int

    def median(self) -> Interval:
        """The first time at which survival is at most one half.

        `low` and `high` are where the interval's curves cross one half (Brookmeyer and Crowley 1982). NaN where a curve
        never reaches one half.
        """
        half = self.survival <= 0.5 + 1e-12  # a product of fractions that is one half may be rounded up
        low, high = self._first(half | (self.low <= 0.5)), self._first(self.high <= 0.5)
        return Interval(self._first(half), low, high, self.n)

    def _first(self, reached: np.ndarray) -> float:
        return float(self.times[np.argmax(reached)]) if reached.any() else np.nan


def kaplan_meier(times, censored, *, confidence: float = 0.95) -> Survival:
    """The survival curve of subjects with the event at `times`, or last observed then where `censored`; by scipy.

    The interval is Greenwood's on the log(-log) scale, which stays in [0, 1].
    """
    times, censored = np.asarray(times, float), np.asarray(censored, bool)
    if not len(times):
        none = np.array([])
        return Survival(none, none, none, none, none, 0)
    curve = stats.ecdf(stats.CensoredData.right_censored(times, censored)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's: the interval is undefined at some observations
        bounds = curve.confidence_interval(confidence, method="log-log")
    at_risk = (times[None, :] >= curve.quantiles[:, None]).sum(1)
    return Survival(
        curve.quantiles, curve.probabilities, bounds.low.probabilities, bounds.high.probabilities, at_risk, len(times)
    )
