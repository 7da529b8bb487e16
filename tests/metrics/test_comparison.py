"""Differences between two sides by hand, and two small runs compared from their folders."""

from __future__ import annotations

import math
import os

import numpy as np
import polars as pl
import pytest
from event_streams import judged, line, row, started
from scipy import stats

from lab.report import main
from lab.reports.comparison import compare_runs, read_measured
from lab.reports.comparison_tables import comparison_markdown, differences, notes
from lab.store import frames as store_frames
from lab.store import run_store
from metrics.conversation_sums import mean, of_run
from metrics.measure import measure_run
from metrics.stats.differences import (
    detectable,
    difference_of,
    factorial,
    holm,
    horizon,
    life_sums,
    logrank,
    paired,
    restricted_mean,
    standard_error,
    unpaired,
)
from metrics.survival import survival_curves

HOW = {"confidence": 0.95}


def ones(*values):
    """Sums of conversations with one scored thing each."""
    return np.array([[value, 1.0] for value in values])


def test_paired_difference_is_the_difference_of_means_and_its_spread_that_of_the_pairs():
    # differences .1 .3 .2 .2: mean .2; deviations -.1 .1 0 0: s^2 = .02 / 3, standard error sqrt(.02 / 3 / 4) = .0408;
    # t of 3 degrees
    difference = paired(ones(0.1, 0.9, 0.5, 0.3), ones(0.2, 1.2, 0.7, 0.5), mean, **HOW)
    assert (difference.a, difference.b, difference.value, difference.n) == (
        pytest.approx(0.45),
        pytest.approx(0.65),
        pytest.approx(0.2),
        4,
    )
    assert difference.detectable == pytest.approx((3.182446 + 0.978472) * math.sqrt(0.02 / 3 / 4), rel=1e-6)
    half = 3.182446 * math.sqrt(0.02 / 3 / 4)
    assert (difference.low, difference.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)


def test_pairing_cancels_what_both_sides_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=40)
    a, b = ones(*shared), ones(*(shared + 0.1 + 0.05 * rng.normal(size=40)))
    close, wide = paired(a, b, mean, **HOW), unpaired(a, b, mean, **HOW)
    assert close.value == pytest.approx(wide.value)
    assert close.low > 0 and wide.low < 0 and close.detectable < wide.detectable / 5


def test_a_difference_of_independent_units_is_welchs():
    interval = difference_of([0.0, 2.0], [0.0, 0.0, 3.0])
    test = stats.ttest_ind([0, 0, 3], [0, 2], equal_var=False).confidence_interval(0.95)
    assert (interval.value, interval.n) == (pytest.approx(0), 5)
    assert (interval.low, interval.high) == pytest.approx(tuple(test))


def test_holms_p_equal_those_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(3).random(12) ** 3
    assert holm(list(p)) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert holm([0.01, math.nan, 0.03]) == pytest.approx([0.03, 1, 0.06]) and holm([]) == []


def test_unpaired_error_adds_both_sides():
    # A: 0, 2: s^2 = 2, / 2 = 1; B: 0, 0, 3: mean 1, s^2 = 3, / 3 = 1: sqrt(2)
    difference = unpaired(ones(0.0, 2.0), ones(0.0, 0.0, 3.0), mean, **HOW)
    assert difference.value == pytest.approx(0.0) and difference.n == 5
    # Welch: (1 + 1)² / (1² / 1 + 1² / 2) = 8/3 degrees
    test = stats.ttest_ind([0, 0, 3], [0, 2], equal_var=False)
    assert test.df == pytest.approx(8 / 3)
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    t = stats.t(8 / 3)
    assert difference.detectable == pytest.approx((t.ppf(0.975) + t.ppf(0.8)) * math.sqrt(2))


def test_standard_error_of_a_mean_is_its_textbook_one():
    values = np.array([1.0, 4.0, 2.0, 8.0])
    assert standard_error(ones(*values), mean) == pytest.approx(values.std(ddof=1) / 2)


def test_where_every_pair_differs_alike_nothing_is_said_to_be_detectable():
    difference = paired(ones(1.0, 1.0, 1.0), ones(1.0, 1.0, 1.0), mean, **HOW)
    assert difference.value == 0.0 and math.isnan(difference.detectable)
    assert math.isnan(detectable(float("nan"), 9)) and detectable(1.0, 10**6) == pytest.approx(
        1.959964 + 0.841621, rel=1e-5
    )


def test_empty_sides_are_nan_and_one_conversation_has_no_interval():
    nothing = paired(np.empty((0, 2)), np.empty((0, 2)), mean, **HOW)
    assert nothing.n == 0 and math.isnan(nothing.value)
    single = unpaired(ones(1.0), ones(2.0), mean, **HOW)
    assert single.value == 1.0 and math.isnan(single.low) and math.isnan(single.detectable)
    with pytest.raises(ValueError, match="expected pairs"):
        paired(ones(1.0), ones(1.0, 2.0), mean, **HOW)


def test_paired_interval_covers_a_known_difference_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(5), 0
    for _ in range(200):
        shared = rng.random(30)
        a = ones(*(rng.random(30) < 0.3 + 0.2 * shared))
        b = ones(*(rng.random(30) < 0.5 + 0.2 * shared))
        difference = paired(a, b, mean, confidence=0.9)
        hits += difference.low <= 0.2 <= difference.high
    assert 0.84 <= hits / 200 <= 0.96


@pytest.mark.parametrize("n", [6, 50])
def test_detectable_difference_is_found_with_the_power_it_promises(n):
    rng, detections = np.random.default_rng(9), 0
    effect = detectable(1 / math.sqrt(n), n - 1)  # n differences of spread 1
    for _ in range(2000):
        sample = rng.normal(effect, 1.0, n)
        detections += abs(sample.mean()) / (sample.std(ddof=1) / math.sqrt(n)) > stats.t.ppf(0.975, n - 1)
    assert detections / 2000 == pytest.approx(0.8, abs=0.03)


def test_logrank_by_hand():
    # a: events at 1, 2; b: events at 3, 4. t=1: 2 of 4 at risk are a's, expected .5, variance .25; t=2: 1 of 3, 1/3,
    # 2/9;
    # later none of a's: observed 2, expected 5/6, variance 17/36: z = (7/6) / sqrt(17/36) = 1.698
    z, p = logrank(([1, 2], [False, False]), ([3, 4], [False, False]))
    assert abs(z) == pytest.approx(7 / math.sqrt(17), rel=1e-6) and p == pytest.approx(0.0896, abs=1e-3)
    assert z > 0
    assert logrank(([3, 4], [False, False]), ([1, 2], [False, False]))[0] == pytest.approx(-z)


def test_logrank_of_no_event_or_no_subject_is_nan():
    assert all(math.isnan(number) for number in logrank(([3, 4], [True, True]), ([5], [True])))
    assert all(math.isnan(number) for number in logrank(([], []), ([5], [False])))


def test_restricted_mean_is_the_area_under_the_curve_by_hand():
    # lives 1, 3, 3+, 4+; S(1) = 3/4, S(2) = 3/4, S(3) = 3/4 * 2/3 = 1/2: 1 + 3/4 + 3/4 + 1/2 up to line 4
    sums = life_sums(np.array([1, 3, 3, 4]), np.array([False, False, True, True]), 4)
    assert restricted_mean(sums.sum(0, keepdims=True))[0, 0] == pytest.approx(3.0)
    assert (
        restricted_mean(
            life_sums(np.array([1, 3, 3, 4]), np.array([False, False, True, True]), 2).sum(0, keepdims=True)
        )[0, 0]
        == 1.75
    )


def test_effects_of_two_by_two_arms_by_hand():
    # y: AA .2, AB .3, BA .6, BB .9: first ((.6 - .2) + (.9 - .3)) / 2 = .5, second (.1 + .3) / 2 = .2, interaction .3 -
    # .1 = .2
    arms = {"AA": ones(0.1, 0.3), "AB": ones(0.2, 0.4), "BA": ones(0.5, 0.7), "BB": ones(0.8, 1.0)}
    effects = factorial(arms, mean, **HOW)
    assert [effects[name].value for name in ("first", "second", "interaction")] == pytest.approx([0.5, 0.2, 0.2])
    assert (effects["first"].low, effects["first"].high, effects["first"].n) == (
        pytest.approx(0.5),
        pytest.approx(0.5),
        2,
    )
    with pytest.raises(ValueError, match="same conversations"):
        factorial(arms | {"BB": ones(1.0)}, mean, **HOW)


def test_horizon_is_where_a_curve_is_no_longer_known():
    ended, seen = (np.array([1, 3]), np.array([False, False])), (np.array([2, 4]), np.array([False, True]))
    assert (horizon(ended, seen), horizon(ended, ended), horizon(seen, (np.array([9]), np.array([True])))) == (4, 3, 4)


# -- runs


def events(verdicts, cast="ghms"):
    """A run whose user says lines at turns 1, 3, ...: verdicts[c][i] says whether line i of conversation c
    contradicts.
    """
    out = [started(conversations=len(verdicts), turns=2 * len(verdicts[0]))]
    for c, by_line in enumerate(verdicts):
        for i, verdict in enumerate(by_line):
            said = line(c, 2 * i + 1)
            said["persona"] = cast[c % len(cast)]
            out += [said, judged(c, 2 * i + 1, row(c, 2 * i + 1, verdict))]
        out.append({"event": "conversation", "conversation": c, "status": "finished", "reason": None})
    return out


def run(folder, verdicts, seed=7, scenario="name: small\n", digest="abc", **how):
    recorded = events(verdicts, **how)
    turns, judgements = store_frames.turns_frame("r", recorded), store_frames.judgements_frame("r", recorded)
    metrics = measure_run(
        turns,
        judgements,
        metrics=["prompt_to_line", "drift", "contradictions"],
        window=5,
        confidence=0.95,
    )
    with run_store.create(folder, "small", scenario, seed, digest) as opened:
        for event in recorded:
            opened.append(event)
        opened.finish("finished", metrics=metrics)
    return opened.path


BAD = [[False, True, True, True], [True, True, False, True], [False, False, True, True], [True, True, True, False]]
GOOD = [[False, False, False, True], [False] * 4, [False, False, False, False], [False, False, True, False]]


def of(comparison, metric, seat="user"):
    (only,) = [row for row in comparison.rows if row["metric"] == metric and row["seat"] == seat]
    return only


def test_two_runs_of_equal_seed_and_cast_are_compared_pair_by_pair(tmp_path):
    comparison = compare_runs(
        read_measured(run(tmp_path, BAD)), read_measured(run(tmp_path, GOOD, scenario="name: small\nseed: 8\n"))
    )
    assert comparison.paired and comparison.notes == ["4 pairs of conversations of equal number, seed and cast."]
    assert comparison.changed == ["seed: (absent) -> 8"]
    consistent = of(comparison, "prompt_to_line")
    # A: 11 of 16 contradict, B: 2 of 16; pairs differ by 2/4, 3/4, 2/4, 2/4
    assert (consistent["a"], consistent["b"], consistent["n"]) == (pytest.approx(5 / 16), pytest.approx(14 / 16), 4)
    half = stats.ttest_1samp([2 / 4, 3 / 4, 2 / 4, 2 / 4], 0).confidence_interval(0.95).high - 9 / 16
    assert consistent["value"] == pytest.approx(9 / 16) and consistent["high"] == pytest.approx(9 / 16 + half)
    assert of(comparison, "contradicting_lines")["value"] == pytest.approx(-9 / 4), "a count is compared a conversation"
    (lives,) = comparison.lives
    # lives A 2, 1, 3, 1; lives B 4, 4+, 4+, 3; to line 4: A 7/4, B 1 + 1 + 1 + 3/4
    assert (lives["events"], lives["mean"].a, lives["mean"].b) == ([4, 2], pytest.approx(7 / 4), pytest.approx(15 / 4))
    assert lives["p"] < 0.05 and lives["z"] > 0


def test_every_measure_of_a_comparison_has_the_value_that_its_run_reports(tmp_path):
    frames = run_store.read_frames(run(tmp_path, BAD))
    over_run = frames["metrics"].filter(pl.col("level") == "run").to_dicts()
    reported = {(row["metric"], row["judge"], row["seat"]): row["value"] for row in over_run}
    sums = of_run(frames["turns"], frames["judgements"], frames["metrics"], window=5)
    shared = {
        key for key in sums if sums[key].by_conversation and not key[0].startswith(("contradict", "most", "longest"))
    }
    assert {key[0] for key in shared} >= {
        "prompt_to_line",
        "global_drift_slope",
        "global_drift_thirds",
        "unscored_prompt_to_line",
    }
    for key in shared:
        rows = sums[key].rows(sorted(sums[key].by_conversation))
        assert sums[key].statistic(rows.sum(0, keepdims=True))[0, 0] == pytest.approx(reported[key]), key


@pytest.mark.parametrize(
    ("how", "why"),
    [({"seed": 8}, "their seeds differ (7 and 8)"), ({"cast": "gxms"}, "their casts differ (conversation 1)")],
)
def test_other_seeds_or_casts_are_compared_as_two_groups_and_it_says_so(tmp_path, how, why):
    comparison = compare_runs(read_measured(run(tmp_path, BAD)), read_measured(run(tmp_path, GOOD[:3], **how)))
    assert (
        not comparison.paired
        and why in comparison.notes[0]
        and "4 conversations of A are compared with 3 of B" in comparison.notes[0]
    )
    assert of(comparison, "prompt_to_line")["n"] == 7


def test_a_run_compared_with_itself_differs_in_nothing(tmp_path):
    path = run(tmp_path, BAD)
    comparison = compare_runs(read_measured(path), read_measured(path))
    assert (
        "Nothing differs." in comparison_markdown(comparison)
        and "prompt-to-line consistency (ledger, user n 4) 0.312" in notes(comparison)[0]
    )
    assert (
        all(row["value"] == row["low"] == row["high"] == 0 for row in comparison.rows)
        and comparison.lives[0]["mean"].value == 0
    )


def test_what_could_have_been_found_is_said_in_plain_words(tmp_path):
    comparison = compare_runs(read_measured(run(tmp_path, BAD)), read_measured(run(tmp_path, GOOD)))
    sentences = " ".join(notes(comparison))
    # pairs differ by 2/4, 3/4, 2/4, 2/4: spread .125, standard error .0625, t of 3 degrees (3.182 + .978) * .0625 =
    # .260
    assert of(comparison, "prompt_to_line")["detectable"] == pytest.approx(0.26, abs=1e-3)
    assert (
        "8 of 10 such comparisons would detect a true difference of 0.260 in prompt-to-line consistency (ledger, user)"
        in sentences
    )
    assert "only large differences are seen" in sentences and "by chance alone, one in 20 would" in sentences


def test_no_difference_of_shares_is_called_detectable_that_exceeds_1(tmp_path):
    comparison = compare_runs(
        read_measured(run(tmp_path, [[True] * 4, [False] * 4])), read_measured(run(tmp_path, [[False] * 4, [True] * 4]))
    )
    assert of(comparison, "prompt_to_line")["detectable"] > 1
    cells = {row.cells[0]: row.cells[-1] for row in differences(comparison)}
    assert all(cell in ("none", "–") for label, cell in cells.items() if label.startswith("prompt-to-line"))
    assert float(cells["contradicting lines, a conversation"]) > 1, "a count has no such bound"
    sentences = " ".join(notes(comparison))
    assert "no true difference in prompt-to-line consistency (ledger, user) would be detected" in sentences
    assert "would detect a true difference of" not in sentences


def test_what_is_the_same_or_has_no_value_is_told_beside_the_table_and_kept_in_the_frame(tmp_path):
    never = [[False] * 4] * 4
    comparison = compare_runs(
        read_measured(run(tmp_path, never)), read_measured(run(tmp_path, [*never[:3], [False, False, False, None]]))
    )
    shown = [row.cells[0] for row in differences(comparison)]
    assert shown == ["unscored, prompt-to-line"], "all else is the same in both"
    (same,) = [note for note in notes(comparison) if note.startswith("Equal in both runs")]
    assert "prompt-to-line consistency (ledger, user n 4) 1.000" in same
    assert {row["metric"] for row in comparison.rows} > {"prompt_to_line", "unscored_prompt_to_line"}


def test_scored_transcripts_are_pairs_only_where_it_is_known_who_speaks(tmp_path):
    def scored(verdicts, digest, cast):
        return read_measured(
            run(tmp_path, verdicts, scenario="scored: {measure: {window: 3}}\n", digest=digest, cast=cast)
        )

    known = compare_runs(scored(BAD, "one", "ghms"), scored(GOOD, "two", "ghms"))
    assert known.paired and known.a.measure.window == 3
    first, second = scored(BAD, "one", ["unknown"]), scored(GOOD, "two", ["unknown"])
    other = compare_runs(first, second)
    assert not other.paired and "the speakers' personas are unknown" in other.notes[0]
    assert compare_runs(first, first).paired, "the same transcripts are"


def test_command_writes_the_comparison_and_prints_it(tmp_path, capsys):
    a, b = run(tmp_path / "runs", BAD), run(tmp_path / "runs", GOOD)
    assert main([str(a), str(b)]) == 0
    folder = b / f"compare-{a.name}"
    text = (folder / "comparison.md").read_text()
    assert "| prompt-to-line consistency | ledger | user | 0.312 | 0.875 | **+0.562 \\[" in text
    assert sorted(os.listdir(folder)) == ["comparison.md", "comparison.parquet", "plots", "report.html"]
    assert (
        sorted(os.listdir(folder / "plots")) == ["differences.png", "drift.png", "survival.png"]
        and "(plots/survival.png)" in text
    )
    assert pl.read_parquet(folder / "comparison.parquet").columns == [
        "metric",
        "judge",
        "seat",
        "a",
        "b",
        "value",
        "low",
        "high",
        "n",
        "detectable",
        "valid",
    ]
    shown = capsys.readouterr().out
    assert "prompt-to-line consistency" in shown and str(folder / "report.html") in shown
    assert (
        main([str(a), str(b), "--out", str(tmp_path / "there")]) == 0
        and (tmp_path / "there" / "comparison.md").is_file()
    )


def test_three_runs_are_two_comparisons_with_the_first(tmp_path, capsys):
    runs = [run(tmp_path / "runs", verdicts) for verdicts in (BAD, GOOD, BAD)]
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("4 pairs of conversations") == 2
    assert {"B-comparison.md", "B-comparison.parquet", "C-comparison.md", "report.html"} <= set(
        os.listdir(tmp_path / "out")
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert "A against B" in page and "A against C" in page and "C − A [interval]" in page
    # A and C say the same
    assert pl.read_parquet(tmp_path / "out" / "C-comparison.parquet")["value"].fill_nan(0).abs().max() == 0


def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path, capsys):
    a = run(tmp_path / "runs", BAD)
    bare, torn, edited = (run(tmp_path / "runs", GOOD) for _ in range(3))
    (bare / "metrics.parquet").unlink()
    (torn / "metrics.parquet").write_bytes(b"PAR1")
    (edited / "scenario.yaml").write_text("measure: {window: wide}\n")
    (tmp_path / "file").touch()
    for arguments, reason in (
        ([str(a), str(tmp_path)], "is no run"),
        ([str(a), str(bare)], "holds no metrics"),
        ([str(a), str(torn)], "metrics.parquet is damaged"),
        ([str(torn)], "metrics.parquet is damaged"),
        ([str(a), str(edited)], "expected window, confidence as"),
        ([str(a), str(a), "--out", str(tmp_path / "file")], "cannot be made"),
        ([str(a), "--out", "x"], "--out is for a comparison"),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("lab.report: ") and reason in said and said.count("\n") == 1


def test_curves_of_both_runs_start_at_one(tmp_path):
    frames = run_store.read_frames(run(tmp_path, BAD))
    assert survival_curves(frames["judgements"]).filter(pl.col("lines") == 0)["survival"].to_list() == [1.0]
