"""The verdict on a study's claim, from the intervals of its controls and tests.

A test confirms where its 95% interval lies within the range that confirms; the claim is confirmed where all tests do
(an intersection-union test: R. L. Berger, Technometrics 24, 1982). Any single test refutes the claim. Of m tests that
can refute, each refutes where its interval at confidence 1 - 0.05 / m lies within the range that refutes (Bonferroni;
Holm's procedure decides alike, since its first step is this one). Where the intervals hold what they promise, a false
"confirms" has probability 2.5% at most, and so has a false "refutes", however many tests there are, whichever of their
values are true, and however they depend on each other. Controls are decided in the same way: all must pass, and any of
them fails.

An inconclusive result comes with the number of units that decides with 80% power if the estimates are true. See
`units_scale` for the formula.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from scipy import stats

from metrics.entry import MISSING, estimate_text
from metrics.stats.differences import ALPHA, POWER
from metrics.stats.intervals import Interval
from metrics.studies.protocol import NEVER, Control, Range, Test, above, below

CONFIRMS, REFUTES, INCONCLUSIVE, FAILED = "confirms", "refutes", "inconclusive", "no verdict: a control failed"
FEWEST = 6  # units: of fewer, Student's t holds only where what is measured is nearly normal
MOST = 1_000_000  # units: where more would be needed, no number is given


@dataclass(frozen=True)
class Verdict:
    """The verdict on a study's claim, with its reason."""

    word: str  # CONFIRMS, REFUTES, INCONCLUSIVE or FAILED
    why: str
    needed: int | None = None  # units that decide with 80% power, where it is inconclusive and such a number exists


def study_verdict(controls: Mapping[str, Control], tests: Mapping[str, Test]) -> Verdict:
    """The verdict of a study from its controls and tests; never an error, whatever the intervals are.

    Where a control failed there is no verdict on the claim, and where one is unclear the study is inconclusive. An
    interval from fewer than FEWEST units, or without a value, decides nothing. An end that is infinite or NaN counts
    as open: the other end alone decides against a bound on its side.
    """
    instrument = {name: _test_of(control) for name, control in controls.items()}
    if failing := refuting(instrument):
        return Verdict(FAILED, f"control failed: {'; '.join(_evidence(controls, failing))}")
    if any(not _confirms(test) for test in instrument.values()):
        why, needed = _open(instrument, ("passes", "fails"))
        return Verdict(INCONCLUSIVE, f"control unclear: {why}", needed)
    word = verdict_word(tests)
    if word == REFUTES:
        first = refuting(tests)[0]
        return Verdict(REFUTES, f"{first} lies {range_text(tests[first].refutes)}")
    if word == CONFIRMS:
        return Verdict(word, " and ".join(f"{name} lies {range_text(test.confirms)}" for name, test in tests.items()))
    return Verdict(INCONCLUSIVE, *_open(tests, (CONFIRMS, REFUTES)))


def verdict_word(tests: Mapping[str, Test]) -> str:
    """CONFIRMS, REFUTES or INCONCLUSIVE, from tests alone."""
    if refuting(tests):
        return REFUTES
    return CONFIRMS if tests and all(map(_confirms, tests.values())) else INCONCLUSIVE


def refuting(tests: Mapping[str, Test]) -> list[str]:
    """The tests that refute, each by its interval widened for all that can."""
    of = _several(tests)
    return [name for name, test in tests.items() if _within(widened(test.interval, of), test.refutes)]


def control_states(controls: Mapping[str, Control]) -> dict[str, bool | None]:
    """By control: True passed, False failed, None unclear."""
    instrument = {name: _test_of(control) for name, control in controls.items()}
    failing = refuting(instrument)
    return {name: False if name in failing else _confirms(test) or None for name, test in instrument.items()}


def control_evidence(control: Control) -> str:
    """The figures of a control in words: `0.22 [0.15, 0.31] 26 nats; passes below 0.2`."""
    interval = control.interval
    figures = estimate_text(
        interval.value,
        interval.low,
        interval.high,
        lambda number: f"{number:.3g}" if math.isfinite(number) else MISSING,
    )
    unit = f" {control.unit}" if control.unit else ""
    return f"{figures}, n {interval.n}{unit}; passes {range_text(control.passes)}"


def widened(interval: Interval, of: int) -> Interval:
    """The 95% interval at confidence 1 - 0.05 / `of`: `of` such intervals hold together in 95% of cases.

    Only the interval is known, not how it was computed, so each end moves away from the value by the ratio of Student's
    t quantiles with n - 1 degrees of freedom. For intervals by normal quantiles this is slightly wider than exact. An
    end that is not finite stays.
    """
    if of < 2 or interval.n < 2:
        return interval
    ratio = _quantile(1 - ALPHA / (2 * of), interval.n - 1) / _quantile(1 - ALPHA / 2, interval.n - 1)
    low, high = (
        end + sign * (ratio - 1) * _arm(interval, end) if math.isfinite(end) else end
        for end, sign in ((interval.low, -1), (interval.high, 1))
    )
    return replace(interval, low=low, high=high)


def units_scale(parts: Mapping[str, tuple[Interval, Range]], alpha: float) -> float | None:
    """How many times as many units put every interval into its range with probability POWER, if the values are true.

    `alpha` is the one-sided error of an end. SE = |value - end| / t[.975, n - 1]. With N units an end clears its bound
    with probability T(|value - bound| / SE * sqrt(N / n) - t[1 - alpha, N - 1]), where T is Student's distribution with
    N - 1 degrees of freedom. Solved for one end, this is |value - bound| = (t[1 - alpha] + t[POWER]) * SE (Cohen 1988,
    section 2.4). The probabilities of missing are added up over all ends (Boole). None where a value does not lie in
    its range, an end that matters is not known, or more than MOST units would be needed.
    """
    if not all(wanted[0] < interval.value < wanted[1] and interval.n > 1 for interval, wanted in parts.values()):
        return None
    ends = [
        (interval, abs(interval.value - bound), _arm(interval, end))
        for interval, wanted in parts.values()
        for bound, end in zip(wanted, (interval.low, interval.high), strict=True)
        if math.isfinite(bound)
    ]
    if not ends or not all(math.isfinite(arm) for *_, arm in ends):
        return None

    def missed(scale: float) -> float:
        return sum(_miss(i.n, max(scale * i.n, 2.0), distance, arm, alpha) for i, distance, arm in ends)

    low, high = (FEWEST / max(interval.n for interval, _ in parts.values()), MOST / min(i.n for i, _ in parts.values()))
    if missed(high) > 1 - POWER:
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if missed(middle) > 1 - POWER else (low, middle)
    return high


def range_text(wanted: Range) -> str:
    """A range in words: "above 0.2", "between -1 and 1", "nowhere"."""
    low, high = wanted
    if low > high:
        return "nowhere"
    if math.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def _open(tests: Mapping[str, Test], words: tuple[str, str]) -> tuple[str, int | None]:
    """Why none of the `words` (of the ranges that confirm and refute) can be said, and how many units would do."""
    if not tests:
        return "nothing was tested", None
    waiting = {name: test for name, test in tests.items() if not _confirms(test)}
    if few := [f"{name}, {test.interval.n}" for name, test in waiting.items() if test.interval.n < FEWEST]:
        return f"too few units for an interval (at least {FEWEST}): {'; '.join(few)}", None
    alpha, confirming = ALPHA / (2 * max(_several(tests), 1)), {n: (t.interval, t.confirms) for n, t in tests.items()}
    plans = [(units_scale(confirming, ALPHA / 2), [*waiting], "")] + [
        (units_scale({name: (test.interval, test.refutes)}, alpha), [name], _widening_text(tests))
        for name, test in waiting.items()
    ]
    if possible := [(scale, names, note) for scale, names, note in plans if scale is not None]:
        scale, names, note = min(possible)
        units = {name: max(math.ceil(scale * tests[name].interval.n), FEWEST) for name in names}
        return " and ".join(
            f"{name}: the interval{note} is too wide; about {units[name]} units in place of {tests[name].interval.n} "
            f"would decide with {POWER:.0%} power"
            for name in names
        ), max(units.values())
    name, test = next(iter(waiting.items()))
    if unknown := [name for name, test in waiting.items() if not _known(test.interval)]:
        return f"{unknown[0]}: the interval is not known, or open to one side", None
    for name, test in waiting.items():
        if not any(low < test.interval.value < high for low, high in (test.confirms, test.refutes)):
            return (
                f"{name} lies where no number of units would decide between {range_text(test.confirms)} ({words[0]}) "
                f"and {range_text(test.refutes)} ({words[1]})",
                None,
            )
    return f"{name} lies so near to a bound that {MOST:,} units would not decide", None


def _test_of(control: Control) -> Test:
    """The test that is confirmed where a control passes; outside is all that does not pass, bounds included."""
    low, high = control.passes
    if math.isfinite(high) and (math.isinf(low) or control.interval.value > (low + high) / 2):
        return Test(control.interval, control.passes, above(math.nextafter(high, -math.inf)))
    return Test(control.interval, control.passes, below(math.nextafter(low, math.inf)))


def _evidence(controls: Mapping[str, Control], names: list[str]) -> list[str]:
    return [f"{name} ({control_evidence(controls[name])})" for name in names]


def _several(tests: Mapping[str, Test]) -> int:
    return sum(test.refutes != NEVER for test in tests.values())


def _widening_text(tests: Mapping[str, Test]) -> str:
    return f" at {1 - ALPHA / of:.1%} confidence (one of {of})" if (of := _several(tests)) > 1 else ""


def _confirms(test: Test) -> bool:
    return _within(test.interval, test.confirms)


def _known(interval: Interval) -> bool:
    return all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def _within(interval: Interval, wanted: Range) -> bool:
    """Whether all of the interval lies in the range; False where it is not known or comes from too few units."""
    return (
        interval.n >= FEWEST
        and not math.isnan(interval.value)
        and not interval.low > interval.high
        and (wanted[0] == -math.inf or interval.low > wanted[0])
        and (wanted[1] == math.inf or interval.high < wanted[1])
    )


def _arm(interval: Interval, end: float) -> float:
    """The distance of an end from the value; half of the width where the value lies outside."""
    if interval.low > interval.value or interval.value > interval.high:
        return (interval.high - interval.low) / 2
    return abs(end - interval.value)


def _miss(n: int, units: float, distance: float, arm: float, alpha: float) -> float:
    """The probability that an end does not clear its bound with `units` units; `arm` is its distance with n."""
    if arm == 0:
        return 0.0
    error = arm / _quantile(1 - ALPHA / 2, n - 1) * math.sqrt(n / units)
    return float(stats.t.sf(distance / error - stats.t.ppf(1 - alpha, units - 1), units - 1))


@cache
def _quantile(p: float, freedom: int) -> float:
    return float(stats.t.ppf(p, freedom))
