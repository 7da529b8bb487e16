"""Verdicts: controls decide first, then tests, by their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from metrics.stats.intervals import Interval
from metrics.studies.protocol import NEVER, Control, Range, Test, above, below
from metrics.studies.verdict import (
    CONFIRMS,
    FAILED,
    FEWEST,
    INCONCLUSIVE,
    REFUTES,
    control_evidence,
    control_states,
    study_verdict,
    units_scale,
    verdict_word,
    widened,
)

ABOVE, BELOW = above(0.2), below(0.2)
INF, NAN = math.inf, math.nan


def bounded(
    value: float, low: float, high: float, n: int = 10, confirms: Range = ABOVE, refutes: Range = BELOW
) -> Test:
    return Test(Interval(value, low, high, n), confirms, refutes)


def control(value: float, low: float, high: float, n: int = 10, passes: Range = ABOVE) -> Control:
    return Control(Interval(value, low, high, n), passes, "nats")


YES, NO, WIDE = bounded(0.9, 0.8, 1.0), bounded(0.1, 0.0, 0.15), bounded(0.3, 0.1, 0.5)
PASSED, FAILS, UNCLEAR = control(0.9, 0.8, 1.0), control(0.1, 0.05, 0.15), control(0.3, 0.1, 0.5)


# -- controls


def test_a_failed_control_is_told_before_anything_that_was_found():
    decided = study_verdict({"a": PASSED, "b": FAILS, "c": UNCLEAR}, {"x": YES})
    assert decided.word == FAILED and decided.needed is None
    assert decided.why == "control failed: b (0.1 [0.05, 0.15], n 10 nats; passes above 0.2)"


def test_a_control_whose_interval_contains_its_bound_is_unclear_and_decides_nothing():
    decided = study_verdict({"a": PASSED, "b": UNCLEAR}, {"x": YES})
    assert decided.word == INCONCLUSIVE and decided.why.startswith(
        "control unclear: b: the interval is too wide; about"
    )
    assert decided.needed and decided.needed > 10
    assert control_states({"a": PASSED, "b": UNCLEAR}) == {"a": True, "b": None}


@pytest.mark.parametrize(
    ("value", "low", "high", "state"),
    [
        (0.0, -0.1, 0.1, True),
        (0.1, -0.1, 0.3, None),
        (0.6, 0.5, 0.7, False),
        (-0.6, -0.7, -0.5, False),
        (NAN, NAN, NAN, None),
        (0.2, 0.2, 0.2, False),
    ],
)
def test_a_control_that_must_show_nothing_passes_between_two_bounds(value, low, high, state):
    assert control_states({"a": control(value, low, high, passes=(-0.2, 0.2))}) == {"a": state}


def test_of_few_units_no_control_passes():
    assert control_states({"a": control(0.9, 0.8, 1.0, n=FEWEST - 1)}) == {"a": None}
    assert "too few units" in study_verdict({"a": control(0.9, 0.8, 1.0, n=FEWEST - 1)}, {"x": YES}).why


def test_of_many_controls_each_fails_by_a_wider_interval():
    edge = control(0.1, 0.0, 0.195)
    assert control_states({"a": edge}) == {"a": False}
    assert control_states({"a": edge, "b": PASSED}) == {"a": None, "b": True}


def test_the_figures_of_a_control_have_dashes_where_nothing_is_known():
    assert control_evidence(control(NAN, NAN, NAN, 0)) == "–, n 0 nats; passes above 0.2"
    assert (
        control_evidence(Control(Interval(0.5, 0.25, INF, 8), (-1, 1))) == "0.5 [0.25, –], n 8; passes between -1 and 1"
    )


# -- tests


def test_all_tests_must_confirm_and_one_refutes():
    assert study_verdict({"a": PASSED}, {"x": YES, "y": YES}).word == CONFIRMS
    assert study_verdict({"a": PASSED}, {"x": YES, "y": NO}).word == REFUTES
    assert study_verdict({"a": PASSED}, {"x": YES, "y": WIDE}).word == INCONCLUSIVE
    assert study_verdict({"a": PASSED}, {"x": WIDE, "y": NO}).word == REFUTES


def test_what_one_test_refutes_alone_it_does_not_as_one_of_three():
    edge = bounded(0.1, 0.0, 0.195)
    assert verdict_word({"x": edge}) == REFUTES
    assert verdict_word({"x": edge, "y": WIDE, "z": WIDE}) == INCONCLUSIVE
    never = bounded(0.3, 0.1, 0.5, refutes=NEVER)
    assert verdict_word({"x": edge, "y": never}) == REFUTES, "only what can refute counts"
    confirms = bounded(0.3, 0.205, 0.4)
    assert verdict_word({"x": confirms, "y": confirms, "z": confirms}) == CONFIRMS, "all must: nothing to correct"


def test_intervals_are_widened_by_the_ratio_of_t_quantiles():
    t = stats.t.ppf([1 - 0.025, 1 - 0.025 / 3], 9)
    wide = widened(Interval(0.5, 0.4, 0.7, 10), 3)
    assert (0.5 - wide.low, wide.high - 0.5) == pytest.approx((0.1 * t[1] / t[0], 0.2 * t[1] / t[0]))
    assert widened(Interval(0.5, 0.4, 0.7, 10), 1) == Interval(0.5, 0.4, 0.7, 10)
    beside = widened(Interval(0.9, 0.4, 0.8, 10), 2)
    assert beside.low < 0.4 and beside.high > 0.8, "a value beside its interval"
    assert widened(Interval(1.0, 0.5, INF, 10), 2).high == INF


def test_between_two_bounds_no_number_decides():
    decided = study_verdict({}, {"x": bounded(0.6, 0.4, 0.7, confirms=below(0.5), refutes=above(0.8))})
    assert decided.word == INCONCLUSIVE and decided.needed is None and "between" in decided.why


def test_what_never_refutes_by_itself_is_at_most_inconclusive():
    decided = study_verdict({}, {"x": bounded(-0.9, -1.0, -0.8, confirms=above(0), refutes=NEVER)})
    assert decided.word == INCONCLUSIVE and decided.needed is None and "nowhere (refutes)" in decided.why


def test_too_few_units_neither_confirm_nor_refute_however_alike():
    for value in (0.9, 0.1):
        decided = study_verdict({}, {"x": bounded(value, value, value, n=FEWEST - 1)})
        assert (
            decided.word == INCONCLUSIVE
            and decided.why == f"too few units for an interval (at least {FEWEST}): x, 5"
            and decided.needed is None
        )
    assert study_verdict({}, {"x": bounded(0.9, 0.9, 0.9, n=FEWEST)}).word == CONFIRMS


# -- intervals that are open, or not known


def test_an_interval_open_to_one_side_decides_against_a_bound_on_the_other():
    for end in (INF, NAN):
        assert study_verdict({}, {"s": bounded(1.0, 0.5, end, 16)}).word == CONFIRMS
        assert study_verdict({}, {"s": bounded(0.1, -end, 0.15, 16)}).word == REFUTES
        assert study_verdict({}, {"s": bounded(0.1, -end, 0.15, 16, BELOW, ABOVE)}).word == CONFIRMS
        both = bounded(1.0, 0.5, end, 16, confirms=(0.2, 2.0), refutes=NEVER)
        assert study_verdict({}, {"s": both}).word == INCONCLUSIVE, "a range with two ends needs both"
    decided = study_verdict({}, {"s": bounded(1.0, 0.1, INF, 16, confirms=(0.2, 2.0), refutes=NEVER)})
    assert decided.needed is None and decided.why == "s: the interval is not known, or open to one side"


def test_no_number_of_units_is_told_of_an_interval_that_is_not_known():
    for low, high in ((NAN, NAN), (-INF, INF), (NAN, 0.5), (0.1, -INF)):
        decided = study_verdict({}, {"s": bounded(0.1, low, high, 16, ABOVE, above(0.5))})
        assert decided.word == INCONCLUSIVE and decided.needed is None


def test_no_interval_whatever_ends_in_an_error_or_in_a_claim_that_it_does_not_support():
    ends = (NAN, -INF, INF, -1.0, 0.2, 1.0)
    for value, low, high, n in itertools.product(ends, ends, ends, (0, 1, 5, 6, 20)):
        test = bounded(value, low, high, n)
        for decided in (study_verdict({}, {"x": test, "y": WIDE}), study_verdict({"c": PASSED}, {"x": test})):
            if decided.word == CONFIRMS:
                assert n >= FEWEST and low > 0.2 and not math.isnan(value)
            if decided.word == REFUTES:
                assert n >= FEWEST and high < 0.2 and not math.isnan(value)
            assert decided.needed is None or decided.word == INCONCLUSIVE
        instrument = Control(test.interval, ABOVE)
        assert control_evidence(instrument) and study_verdict({"c": instrument}, {"x": YES}).why
    assert study_verdict({}, {}).word == INCONCLUSIVE


# -- how many units would decide


def test_the_number_of_units_is_that_of_a_t_test_with_power_80():
    # SE = .25 / t[.975, 9] = .1105, sd = .1105 * sqrt(10) = .3495; distance 1/8 from the bound of 3/8
    bounds = {"confirms": above(0.375), "refutes": below(0.375)}
    units = study_verdict({}, {"x": bounded(0.5, 0.25, 0.75, **bounds)}).needed
    assert units is not None
    effect = 0.125 / (0.25 / stats.t.ppf(0.975, 9) * math.sqrt(10))

    def power(n: int) -> float:
        return float(stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n)))

    assert power(units - 2) < 0.8 < power(units + 1) and 60 < units < 66
    assert study_verdict({}, {"x": bounded(0.25, 0.0, 0.5, **bounds)}).needed == units
    decided = study_verdict({}, {"x": bounded(0.5, 0.25, 0.75, **bounds)})
    assert decided.why == (
        f"x: the interval is too wide; about {units} units in place of 10 would decide with 80% power"
    )


def test_as_many_units_decide_in_four_of_five_new_studies():
    rng = np.random.default_rng(3)
    scale = units_scale({"x": (Interval(0.5, 0.25, 0.75, 20), above(0.3))}, 0.025)
    assert scale is not None
    n, spread = math.ceil(20 * scale), 0.25 / stats.t.ppf(0.975, 19) * math.sqrt(20)
    drawn = rng.normal(0.5, spread, (4000, n))
    low = drawn.mean(1) - stats.t.ppf(0.975, n - 1) * drawn.std(1, ddof=1) / math.sqrt(n)
    assert (low > 0.3).mean() == pytest.approx(0.8, abs=0.03), "4000 studies: a standard error of .006"


def test_several_open_tests_need_more_units_and_each_is_told_with_its_own():
    bounds = {"confirms": above(0.375), "refutes": below(0.375)}
    wide, few = bounded(0.5, 0.25, 0.75, n=20, **bounds), bounded(0.5, 0.25, 0.75, n=10, **bounds)
    alone = study_verdict({}, {"x": wide}).needed
    decided = study_verdict({}, {"x": wide, "y": few})
    assert alone and decided.needed and decided.needed > alone, "both have to confirm"
    assert f"about {decided.needed} units in place of 20" in decided.why and "units in place of 10" in decided.why


def test_a_test_whose_estimate_refutes_needs_its_own_units_only():
    refuting = bounded(0.1, -0.1, 0.3)
    decided = study_verdict({}, {"x": YES, "y": refuting})
    assert decided.word == INCONCLUSIVE and decided.needed and "x:" not in decided.why
    alone = study_verdict({}, {"y": refuting}).needed
    assert alone and decided.needed > alone, "since two could refute"
    assert "at 97.5% confidence (one of 2)" in decided.why


def test_an_estimate_on_its_bound_has_no_number():
    assert study_verdict({}, {"x": bounded(0.2, 0.1, 0.3)}).needed is None
    near = study_verdict({}, {"x": bounded(0.2 + 1e-6, 0.1, 0.3)})
    assert near.needed is None and "1,000,000 units would not decide" in near.why


def test_nothing_measured_is_inconclusive():
    assert study_verdict({}, {"x": bounded(NAN, NAN, NAN, 0)}).word == INCONCLUSIVE
