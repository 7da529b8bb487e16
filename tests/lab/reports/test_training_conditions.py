"""What the trainings of a sweep came to: pooled over seeds, with intervals over persons and seeds."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest

from lab.reports.training_conditions import condition_rows, conditions, cost_rows
from lab.store.frames import EVALUATED_PEOPLE, EVALUATION
from metrics.stats.intervals import crossed_interval

PEOPLE = [f"p{number}" for number in range(8)]


def trained(folder, seed: int, left: float, rewarded: bool = False, people=PEOPLE):
    """A trial whose training leaves about that share of the wrong answers, with some noise by person and seed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for person in people:
        wrong = int(rng.integers(10, 16))
        for arm, bad in (("base", wrong), ("dpo", round(wrong * left + rng.uniform(-1, 1)))):
            place = {"arm": arm, "scenario": "chitchat", "metric": "qa", "judge": "answer_reader", "seat": "user"}
            rows.append({**place, "held_out": True, "person": person, "consistent": 20.0 - bad, "scored": 20.0})
            # people of the training are no matter
            rows.append({**place, "held_out": False, "person": person, "consistent": 20.0, "scored": 20.0})
    pl.DataFrame(rows, schema=EVALUATED_PEOPLE).write_parquet(folder / "evaluation_people.parquet")
    shared = {"scenario": "chitchat", "seat": "user", "held_out": True, "n": 1, "judge": None, "rewarded": False}
    evaluation = [
        {**shared, "arm": arm, "metric": "qa", "judge": "answer_reader", "value": 0.5, "rewarded": rewarded}
        for arm in ("base", "dpo")
    ] + [{**shared, "arm": arm, "metric": "parroting", "value": value} for arm, value in (("base", 0.0), ("dpo", 0.5))]
    pl.DataFrame(evaluation, schema=EVALUATION).write_parquet(folder / "evaluation.parquet")
    pl.DataFrame(
        {"step": [0, 1], "seat": ["user"] * 2, "tokens_learnt": [100, 50 + seed], "seconds_play": [30.0, 30.0],
         "seconds_learn": [30.0, 30.0]}
    ).write_parquet(folder / "training.parquet")  # fmt: skip


def sweep_of(tmp_path, *trials) -> pl.DataFrame:
    """trials.parquet of (variant, seed, left) trials, written below tmp_path."""
    for number, (_, seed, left) in enumerate(trials):
        trained(tmp_path / f"trials/{number}", seed, left)
    return pl.DataFrame(
        {
            "trial": [str(number) for number in range(len(trials))],
            "variant": [variant for variant, _, _ in trials],
            "seed": [seed for _, seed, _ in trials],
            "status": ["finished"] * len(trials),
            "run": [f"trials/{number}" for number in range(len(trials))],
        }
    )


def test_trials_that_differ_in_their_seed_are_one_condition_with_an_interval_over_both(tmp_path):
    trials = sweep_of(tmp_path, *((name, seed, left) for name, left in (("a", 0.3), ("b", 1.0)) for seed in (1, 2, 3)))
    costs, (good, none) = conditions(trials, tmp_path)
    assert [good.condition, none.condition] == ["variant=a", "variant=b"]
    assert good.reduction.value == pytest.approx(0.7, abs=0.05) and good.reduction.low > 0.5 and good.p < 0.05
    assert none.reduction.low < 0 < none.reduction.high and none.p > 0.05
    assert good.people == 8 and good.reduction.n == 3
    tables = [pl.read_parquet(tmp_path / f"trials/{k}/evaluation_people.parquet").filter("held_out") for k in range(3)]
    sums = np.array(
        [[part.filter(arm=arm).select("consistent", "scored").to_numpy() for arm in ("base", "dpo")] for part in tables]
    )
    by_hand = crossed_interval(
        np.concatenate([sums[:, 0], sums[:, 1]], axis=-1),
        lambda y: 1 - (y[..., 3].sum() - y[..., 2].sum()) / (y[..., 1].sum() - y[..., 0].sum()),
    )
    ends = ("value", "low", "high")
    assert [getattr(good.reduction, end) for end in ends] == pytest.approx([getattr(by_hand, end) for end in ends])
    assert (good.before, good.after) == pytest.approx(tuple(sums[:, arm, :, 0].mean() / 20 for arm in (0, 1)))
    header, rows = condition_rows([good, none])
    assert len(header) == len(rows[0]) and "▲" in rows[0][6] and "▲" not in rows[1][6]
    assert [(cost.seeds, cost.tokens, cost.seconds) for cost in costs] == [(3, 152.0, 120.0)] * 2
    assert cost_rows(costs)[1][0][-1] == "chitchat: parroting 3"


def test_what_does_not_vary_has_no_interval_and_no_mark(tmp_path):
    trials = sweep_of(tmp_path, *(("a", seed, 0.3) for seed in (1, 2, 3)))
    for number in range(3):
        file = tmp_path / f"trials/{number}/evaluation_people.parquet"
        part = pl.read_parquet(file)
        perfect = pl.when(pl.col("arm") == "base").then(10.0).otherwise(20.0)
        part.with_columns(consistent=perfect).write_parquet(file)
    (result,) = conditions(trials, tmp_path)[1]
    assert result.reduction.value == 1 and np.isnan(result.reduction.low) and np.isnan(result.p)
    assert condition_rows([result])[1][0][6] == "100%"


def test_another_arm_of_the_evaluation_is_not_what_was_trained(tmp_path):
    trials = sweep_of(tmp_path, ("a", 1, 0.3), ("a", 2, 0.3))
    before = conditions(trials, tmp_path)
    for number in range(2):
        for name in ("evaluation", "evaluation_people"):
            file = tmp_path / f"trials/{number}/{name}.parquet"
            part = pl.read_parquet(file)
            pl.concat([part, part.filter(arm="base").with_columns(arm=pl.lit("prompted"))]).write_parquet(file)
    assert conditions(trials, tmp_path) == before


def test_one_seed_has_no_interval_and_what_was_rewarded_is_left_out(tmp_path):
    (only,) = conditions(sweep_of(tmp_path / "one", ("a", 1, 0.3)), tmp_path / "one")[1]
    assert only.reduction.value > 0.6 and np.isnan(only.reduction.low) and np.isnan(only.p)
    trials = sweep_of(tmp_path / "two", ("a", 1, 0.3))
    shutil.rmtree(tmp_path / "two/trials/0")
    trained(tmp_path / "two/trials/0", 1, 0.3, rewarded=True)
    assert conditions(trials, tmp_path / "two")[1] == []


def test_a_person_whom_a_seed_does_not_hold_out_adds_nothing_to_it(tmp_path):
    trials = sweep_of(tmp_path, ("a", 1, 0.3), ("a", 2, 0.3))
    shutil.rmtree(tmp_path / "trials/1")
    trained(tmp_path / "trials/1", 2, 0.3, people=["p0", "p8", "p9"])
    (result,) = conditions(trials, tmp_path)[1]
    assert result.people == 10 and result.reduction.value == pytest.approx(0.7, abs=0.08)


def test_trials_without_an_evaluation_are_no_conditions(tmp_path):
    trials = pl.DataFrame({"trial": ["0"], "seed": [1], "status": ["finished"], "run": ["trials/0"]})
    assert conditions(trials, tmp_path) == ([], [])
