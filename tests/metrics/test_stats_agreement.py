"""The lab's statistics against those of lifelines, statsmodels, scikit-learn and ppi_py, on random inputs.

lifelines holds pandas below 3, so that it is not installed with the lab: its results for the random inputs of `lives`
stand in `lifelines.json`. Where it is installed (`pip install lifelines`), they are computed anew and compared, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api
from ppi_py import ppi_mean_pointestimate
from sklearn.calibration import calibration_curve
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score, roc_auc_score
from statsmodels.duration.survfunc import SurvfuncRight, survdiff
from statsmodels.stats.proportion import proportion_confint

from metrics.stats import differences, effects, prediction_powered
from metrics.stats.intervals import clustered_slope, ratio
from metrics.stats.kaplan_meier import kaplan_meier
from metrics.stats.shares import clustered_share
from metrics.validation.calibration import auroc, calibration, expected_calibration_error, kappa, reliability_bins

TINY = 1e-9
SEEDS = range(20)


def near(actual, wanted):
    assert np.asarray(actual, float) == pytest.approx(np.asarray(wanted, float), rel=TINY, abs=TINY, nan_ok=True)


# -- survival


def lives(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two sides of 5 to 40 subjects: (lines, censored), with ties, and limits of their own."""
    rng = np.random.default_rng(seed)
    sides = []
    for risk in rng.uniform(0.05, 0.4, size=2):
        size = rng.integers(5, 41)
        events, limits = rng.geometric(risk, size=size), rng.integers(4, 16, size=size)
        sides.append((np.minimum(events, limits), events > limits))
    return sides


def of_lifelines(seed: int) -> dict[str, list | float]:
    """What `lifelines.json` holds for a seed: the first side's curve, both restricted means, and the log-rank test."""
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import logrank_test
    from lifelines.utils import restricted_mean_survival_time

    (lines, censored), (others, others_censored) = lives(seed)
    horizon = differences.horizon(*lives(seed))
    curve = KaplanMeierFitter().fit(lines, ~censored)
    test = logrank_test(lines, others, ~censored, ~others_censored)
    times = np.unique(lines)
    low, high = curve.confidence_interval_.loc[times].to_numpy().T
    return {
        "lines": lines.tolist(),  # so that the input is known to be the same
        "survival": curve.survival_function_.loc[times].to_numpy()[:, 0].tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "median": float(curve.median_survival_time_),
        "restricted_means": [
            float(restricted_mean_survival_time(KaplanMeierFitter().fit(times, ~ended), t=horizon))
            for times, ended in lives(seed)
        ],
        "chi2": float(test.test_statistic),
        "p": float(test.p_value),
    }


RECORDED = json.loads((Path(__file__).parent / "lifelines.json").read_text())  # by seed


@pytest.mark.parametrize("seed", SEEDS)
def test_survival_curve_median_restricted_mean_and_logrank_are_those_of_lifelines(seed):
    recorded, sides = RECORDED[str(seed)], lives(seed)
    curve = kaplan_meier(*sides[0])
    assert sides[0][0].tolist() == recorded["lines"]
    near(curve.survival, recorded["survival"])
    inside = np.isfinite(curve.low) & (curve.survival < 1) & (curve.survival > 0)  # the formula is defined there
    near(curve.low[inside], np.array(recorded["low"])[inside])
    near(curve.high[inside], np.array(recorded["high"])[inside])
    assert inside.any()
    at_half = np.isclose(recorded["survival"], 0.5, rtol=0, atol=TINY)  # lifelines' may be 0.5 + 1e-16 and not count
    wanted = curve.times[at_half][0] if at_half.any() else recorded["median"]
    near(curve.median().value, np.nan if wanted == np.inf else wanted)
    horizon = differences.horizon(*sides)
    for side, wanted in zip(sides, recorded["restricted_means"], strict=True):
        near(differences.restricted_mean(differences.life_sums(*side, horizon).sum(0, keepdims=True)), [[wanted]])
    z, p = differences.logrank(*sides)
    near((z**2, p), (recorded["chi2"], recorded["p"]))


def test_recorded_results_are_those_of_the_installed_lifelines():
    pytest.importorskip("lifelines")
    for seed in SEEDS:
        now = of_lifelines(seed)
        for name, value in RECORDED[str(seed)].items():
            near(now[name], value)


@pytest.mark.parametrize("seed", SEEDS)
def test_survival_curve_and_logrank_are_those_of_statsmodels(seed):
    (lines, censored), (others, others_censored) = sides = lives(seed)
    curve, wanted = kaplan_meier(lines, censored), SurvfuncRight(lines, ~censored)  # which lists times of events alone
    shown = np.isin(curve.times, wanted.surv_times)
    near(curve.survival[shown], wanted.surv_prob)
    near(curve.at_risk[shown], wanted.n_risk)
    group = np.repeat([0, 1], [len(lines), len(others)])
    ended = ~np.concatenate([censored, others_censored])
    chi2, p = survdiff(np.concatenate([lines, others]), ended, group)
    z, ours = differences.logrank(*sides)
    near((z**2, ours), (chi2, p))


# -- judges against labels


def judged(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p with ties, labels and the clusters of 120 rows."""
    rng = np.random.default_rng(seed)
    labels = rng.random(120) < rng.uniform(0.2, 0.8)
    p = np.round(np.clip(rng.normal(0.4 + 0.2 * labels, 0.3), 0, 1), 2)
    return p, labels, rng.integers(12, size=120)


@pytest.mark.parametrize("seed", SEEDS)
def test_auroc_kappa_precision_and_recall_are_those_of_scikit_learn(seed):
    p, labels, clusters = judged(seed)
    verdict = p > 0.5
    ours = calibration(p, verdict, labels, clusters, confidence=0.95)
    near(ours["auroc"].value, roc_auc_score(labels, p))
    near(ours["kappa"].value, cohen_kappa_score(labels, verdict))
    near(ours["precision"].value, precision_score(labels, verdict))
    near(ours["recall"].value, recall_score(labels, verdict))


@pytest.mark.parametrize("seed", SEEDS)
def test_auroc_and_kappa_of_weighted_rows_are_those_of_scikit_learn(seed):
    p, labels, _ = judged(seed)
    weights = np.random.default_rng(seed).integers(4, size=(3, 120)).astype(float)
    near(auroc(p, labels, weights), [roc_auc_score(labels, p, sample_weight=row) for row in weights])
    wanted = [cohen_kappa_score(labels, p > 0.5, sample_weight=row) for row in weights]
    near(kappa(p > 0.5, labels, weights), wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_error_is_that_of_the_quantile_bins_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    p = rng.permutation(200) / 200 + rng.random(200) / 400  # without ties, so that bins of equal mass are the same
    labels = rng.random(200) < p**2
    shares, means = calibration_curve(labels, p, n_bins=10, strategy="quantile")
    bins = reliability_bins(p, labels, np.arange(200))
    near([mean for mean, _ in bins], means)
    near([share.value for _, share in bins], shares)
    near(expected_calibration_error(p, labels, np.ones((1, 200))), [np.abs(shares - means).mean()])


# -- shares, slopes and standard errors


@pytest.mark.parametrize("seed", SEEDS)
def test_share_of_independent_rows_has_the_wilson_interval_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    size, confidence = int(rng.integers(2, 60)), float(rng.uniform(0.5, 0.99))
    rows = (rng.random(size) < rng.random()).astype(float)
    ours = clustered_share(rows, np.arange(size), confidence=confidence)
    near((ours.low, ours.high), proportion_confint(rows.sum(), size, alpha=1 - confidence, method="wilson"))


@pytest.mark.parametrize("seed", SEEDS)
def test_slope_difference_and_interaction_are_coefficients_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    x, y, late = rng.integers(40, size=80), rng.random(80), rng.random(80) < 0.4
    whole = np.zeros(80, int)  # one conversation

    def fit(*columns, weights=None):
        return statsmodels.api.WLS(y, np.column_stack([np.ones(80), *columns]), weights or 1.0).fit().params

    near(clustered_slope(x, y, whole).value, fit(x)[1])
    near(clustered_slope(late.astype(float), y, whole).value, fit(late)[1])
    u, v, w = rng.random(80), rng.random(80), rng.integers(1, 20, size=80)
    near(effects.interaction(y, w, whole, u, v).value, fit(u, v, u * v, weights=w.tolist())[3])


@pytest.mark.parametrize("seed", SEEDS)
def test_jackknife_error_of_a_mean_is_the_cluster_robust_one_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(12), 7)  # of equal size, where both are the same
    y = rng.normal(size=12)[clusters] + rng.normal(size=84)
    fit = statsmodels.api.OLS(y, np.ones(84)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    sums = np.stack([np.bincount(clusters, y), np.bincount(clusters)], axis=1)
    near(differences.standard_error(sums, lambda s: ratio(s[:, :1], s[:, 1:])), fit.bse[0])


# -- prediction-powered means


def partly_labelled(seed: int, rows: int):
    """(labels of the first part, the judge's values for it, and for the rest)."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows)
    values, known = truth * rng.uniform(0.5, 0.9) + rng.normal(0, 0.25, size=rows), rows // 4
    return truth[:known], values[:known], values[known:]


def lam(truth, known, rest, clusters) -> float:
    """The lab's lambda, in units of ppi_py, whose mean of the judge leaves out the labelled rows."""
    sums = prediction_powered.moments(
        np.concatenate([known, rest]), np.concatenate([truth, np.full(len(rest), np.nan)]), clusters
    )
    return float(prediction_powered.tuning(sums.sum(0, keepdims=True))[0]) * len(rest) / len(clusters)


def powered(truth, known, rest, clusters) -> float:
    padded = np.concatenate([truth, np.full(len(rest), np.nan)])
    return prediction_powered.prediction_powered_mean(np.concatenate([known, rest]), padded, clusters).value


@pytest.mark.parametrize("seed", SEEDS)
def test_prediction_powered_mean_is_that_of_ppi_py_with_the_same_lambda(seed):
    parts = partly_labelled(seed, 80)
    clusters = np.random.default_rng(seed).integers(9, size=80)
    clusters[:9] = np.arange(9)
    near(powered(*parts, clusters), ppi_mean_pointestimate(*parts, lam=lam(*parts, clusters)).item())


@pytest.mark.parametrize("seed", SEEDS)
def test_lambda_is_that_of_ppi_py_where_rows_are_clusters_and_the_judge_spreads_alike(seed):
    """ppi_py divides the variance of the judge's values by rows - 1, the lab by rows."""
    truth, known, _ = partly_labelled(seed, 80)
    rows, away = 4 * len(known), 0.1  # all rows have the variance of the labelled ones, and another mean
    spread = np.sqrt(1 - len(known) * away**2 / (rows * known.var()))
    rest = np.repeat(known.mean() + away + spread * (known - known.mean()), 3)
    near(np.concatenate([known, rest]).var(), known.var())
    chosen = (ppi_mean_pointestimate(truth, known, rest).item() - truth.mean()) / (rest.mean() - known.mean())
    assert 0 < chosen < 1
    near(lam(truth, known, rest, np.arange(rows)), chosen * rows / (rows - 1))


def test_lambda_of_many_rows_is_that_of_ppi_py():
    truth, known, rest = partly_labelled(3, 200_000)
    chosen = (ppi_mean_pointestimate(truth, known, rest).item() - truth.mean()) / (rest.mean() - known.mean())
    assert lam(truth, known, rest, np.arange(200_000)) == pytest.approx(chosen, rel=0.01)
