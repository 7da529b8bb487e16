"""Prediction-powered means against hand arithmetic and simulation; against `ppi_py` in `test_stats_agreement`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metrics.stats.intervals import clustered_mean
from metrics.stats.prediction_powered import prediction_powered_mean, prediction_powered_slope


def test_mean_and_its_lambda_by_hand():
    # labels 0 of the second row (judged 0), 1 of the last (judged 1): mean 1/2; judge 4/6 over all, 1/2 over these
    # a: -1/4 0 1/4; b: (1 - 4/3)/6 + 1/4 = 7/36, (2 - 4/3)/6 = 4/36, (1 - 4/3)/6 - 1/4 = -11/36
    # lambda = (7 + 11)/144 / ((49 + 16 + 121)/1296) = 27/31
    nan = math.nan
    mean = prediction_powered_mean([1, 0, 1, 1, 0, 1], [nan, 0, nan, nan, nan, 1], [0, 0, 1, 1, 2, 2])
    assert mean.value == pytest.approx(1 / 2 + 27 / 31 * (4 / 6 - 1 / 2)) and mean.n == 2


def test_all_that_is_known_being_of_one_conversation_leaves_the_labels_mean_without_an_interval():
    # neither how the labels vary between conversations nor what the judge is worth can be told from one
    nan, judged, clusters = math.nan, [1, 0, 1, 1, 0, 1], [0, 0, 1, 1, 2, 2]
    mean = prediction_powered_mean(judged, [0, 0, nan, nan, nan, nan], clusters)
    assert (mean.value, mean.n) == (0, 2) and math.isnan(mean.low) and math.isnan(mean.high)
    assert not math.isnan(prediction_powered_mean(judged, [0, nan, 1, nan, nan, nan], clusters).low)


def test_no_rows_and_no_truth_are_nan_and_where_all_is_known_the_labels_decide():
    judged, clusters = np.array([1.0, 0, 1, 1]), [0, 0, 1, 1]
    for none in (prediction_powered_mean(judged, np.full(4, np.nan), clusters), prediction_powered_mean([], [], [])):
        assert none.n == 0 and math.isnan(none.value) and math.isnan(none.low)
    whole, labels = (
        prediction_powered_mean(1 - judged, judged, clusters),
        clustered_mean(judged, clusters),
    )
    assert (whole.value, whole.low, whole.high) == (labels.value, labels.low, labels.high)
    with pytest.raises(ValueError, match="2 judged rows but 1 truths"):
        prediction_powered_mean([1, 0], [1], [0, 1])


def test_judge_whose_values_are_all_equal_adds_nothing():
    truth, clusters = np.array([1.0, np.nan, 0, np.nan, 1, np.nan]), [0, 0, 1, 1, 2, 2]
    assert prediction_powered_mean(np.full(6, 0.3), truth, clusters).value == pytest.approx(2 / 3)


def simulated(wrong: float, blind: float, times: int):
    """Intervals of 60 conversations of 20 lines, 80% consistent, give or take .1 by conversation, 4 of each known.

    The judge calls a share `wrong` of consistent lines contradicting, and a share `blind` of the others consistent.
    """
    rng, clusters = np.random.default_rng(7), np.repeat(np.arange(60), 20)
    for _ in range(times):
        truth = (rng.random(1200) < np.clip(0.8 + 0.1 * rng.normal(size=60), 0, 1)[clusters]).astype(float)
        judged = np.where(truth == 1, rng.random(1200) > wrong, rng.random(1200) < blind).astype(float)
        known = np.where(np.tile(np.arange(20) < 4, 60), truth, np.nan)
        labelled = np.isfinite(known)
        yield (
            prediction_powered_mean(judged, known, clusters),
            clustered_mean(judged, clusters),
            clustered_mean(known[labelled], clusters[labelled]),
        )


def test_interval_covers_the_truth_that_the_judge_misses_and_is_as_narrow_as_its_variance_says():
    """Variances with A the mean of the labels and B the judge's mean over all lines minus that over labelled lines.

    A: .01/60 between conversations + .15/240 within = .00079. B: between conversations nothing, since 4 of 20 are
    labelled in each; within, (.72 x .28 - .0081) (1/240 - 1/1200) = .000645. Covariance: -(.72 - .8 x .72 - .009)
    (1/240 - 1/1200) = -.00045. Least variance: .00079 - .00045^2/.000645 = .00048, at lambda .70 (.00054 at lambda 1):
    widths as sqrt(.48/.79) = .78.
    """
    intervals = list(simulated(0.1, 0.0, 200))
    covered = [both.low <= 0.797 <= both.high for both, _, _ in intervals]
    missed = [not judge.low <= 0.797 <= judge.high for _, judge, _ in intervals]
    widths = [(both.high - both.low) / (labels.high - labels.low) for both, _, labels in intervals]
    assert 0.90 <= np.mean(covered) <= 0.99 and np.mean(missed) > 0.95
    assert np.mean(widths) == pytest.approx(0.78, abs=0.03)


def test_interval_of_a_useless_judge_is_no_wider_than_that_of_the_labels():
    """With lambda 1 it would be sqrt(2) times as wide or so."""
    widths = [(both.high - both.low) / (labels.high - labels.low) for both, _, labels in simulated(0.4, 0.6, 40)]
    assert np.mean(widths) == pytest.approx(1, abs=0.03)


def test_slope_by_hand_is_that_of_the_labels_moved_by_what_the_judge_says_of_all_rows():
    """Labels at turns 0 and 2 of each conversation rise .5 a turn in the first, 0 in the second, so .25. The judge says
    the same of these turns, and over all four .3 and 0, so .15.
    """
    nan = math.nan
    turns, conversations = [0, 1, 2, 3] * 2, [0] * 4 + [1] * 4
    judged, truth = [0, 1, 1, 1, 0, 0, 0, 0], [0, nan, 1, nan, 0, nan, 0, nan]
    slope = prediction_powered_slope(turns, judged, truth, conversations)
    # in the first: Sxx 5, Sxy 1.5 of all, Sxx 2, Sxy 1 of the labelled; in the second Sxy 0
    of_all, of_known = 1.5 / 10, 1 / 4
    # a: (1 - 2/4)/4 = 1/8 and -1/8; b: (1.5 - 5 * .15)/10 - 1/8 = -.05 and .05; lambda above 1 is cut
    assert slope.value == pytest.approx(of_known + (of_all - of_known)) and slope.n == 4
    alone = prediction_powered_slope(turns, [0.5] * 8, truth, conversations)
    assert alone.value == pytest.approx(of_known), "a judge that says one thing adds nothing"
    assert math.isnan(prediction_powered_slope(turns, judged, [0] + [nan] * 3 + [1] + [nan] * 3, conversations).value)


def test_a_drift_is_found_though_the_judge_is_blind_late_in_the_dialogue():
    """Inconsistency rises from .1 to .4 over 20 turns. The judge sees all of it early and less and less later, so that
    it reports almost no drift. 4 lines of each of 40 conversations are labelled.
    """
    rng, clusters, turns = np.random.default_rng(11), np.repeat(np.arange(40), 20), np.tile(np.arange(20.0), 40)
    covered, by_judge = [], []
    for _ in range(200):
        truth = (rng.random(800) < 0.1 + 0.3 * turns / 19).astype(float)
        judged = truth * (rng.random(800) < 1 - 0.75 * turns / 19)
        chosen = np.concatenate([c * 20 + rng.choice(20, 4, replace=False) for c in range(40)])
        known = np.full(800, np.nan)
        known[chosen] = truth[chosen]
        both = prediction_powered_slope(turns, judged, known, clusters)
        covered.append(both.low <= 0.3 / 19 <= both.high)
        by_judge.append(prediction_powered_slope(turns, judged, judged, clusters).value)
    assert abs(np.mean(by_judge)) < 0.1 * 0.3 / 19 and 0.90 <= np.mean(covered) <= 0.99
