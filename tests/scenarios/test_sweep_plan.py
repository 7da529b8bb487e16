"""From a sweep's file to its trials: the same each time, all of them checked, and every mistake named."""

from __future__ import annotations

import hashlib
import json

import pytest
import sweeps

from scenarios.jobs.sweep import SweepAxis, load_sweep, trial_id


def plan(at, *overrides, **keys):
    return load_sweep(sweeps.written(at, **keys), overrides)


def values(plan):
    return [tuple(trial.values.values()) for trial in plan.trials]


def refusal(at, *overrides, **keys) -> str:
    with pytest.raises(ValueError) as caught:
        plan(at, *overrides, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lists_and_ranges_are_crossed_in_the_files_order(tmp_path):
    planned = plan(tmp_path, axes={"seed": [3, 1], "turns": {"from": 4, "to": 8, "steps": 3}})
    assert values(planned) == [(3, 4), (3, 6), (3, 8), (1, 4), (1, 6), (1, 8)]
    assert [base.turns for base in planned.bases.values()] == [4, 6, 8, 4, 6, 8]


def test_a_range_of_fractions_has_no_rounding_in_it():
    assert SweepAxis(**{"from": 0.0, "to": 0.3, "steps": 4}).all() == [0.0, 0.1, 0.2, 0.3]


def test_a_trial_is_called_by_the_digest_of_its_values(tmp_path):
    text = json.dumps({"seed": 3, "turns": 4}, sort_keys=True)
    assert trial_id({"turns": 4, "seed": 3}) == hashlib.sha256(text.encode()).hexdigest()[:10]
    first, other = (
        plan(tmp_path, axes={"seed": [3], "turns": [4, 6]}),
        plan(tmp_path, axes={"turns": [6, 8], "seed": [3, 4]}),
    )
    assert {trial.id for trial in first.trials} & {trial.id for trial in other.trials} == {
        trial_id({"seed": 3, "turns": 6})
    }


def test_draws_are_the_same_each_time_in_their_bounds_and_meet_every_combination(tmp_path):
    axes = {
        "seats.user.temperature": {"uniform": [0.2, 0.4]},
        "seats.user.top_k": {"integer": [1, 1000]},
        "seed": [1, 2],
    }
    first, again = plan(tmp_path, axes=axes, samples=3), plan(tmp_path, axes=axes, samples=3)
    assert first.trials == again.trials and len(first.trials) == 6 and first.digest() == again.digest()
    drawn = values(first)
    assert [seed for *_, seed in drawn] == [1, 2] * 3 and drawn[0][:2] == drawn[1][:2] != drawn[2][:2]
    assert all(0.2 <= temperature <= 0.4 and 1 <= top_k <= 1000 for temperature, top_k, _ in drawn)
    assert values(plan(tmp_path, "seed=6", axes=axes, samples=3)) != drawn
    # another axis beside it changes no draw
    assert values(plan(tmp_path, axes={"turns": [4]} | axes, samples=3))[0][1:] == drawn[0]


def test_loguniform_draws_are_even_on_the_logarithmic_scale():
    drawn = [SweepAxis(loguniform=[1e-4, 1e-2]).draw(seed) for seed in range(400)]
    # half: 200 ± 4 sd of 10
    assert all(1e-4 <= value <= 1e-2 for value in drawn) and 160 < sum(value < 1e-3 for value in drawn) < 240


def test_a_draw_that_repeats_a_trial_is_no_further_trial(tmp_path):
    planned = plan(tmp_path, axes={"turns": {"choice": [4, 6]}}, samples=8)
    assert len(planned.trials) == 2 and planned.repeated == 6


def test_overrides_of_a_sweep_reach_its_axes_and_its_base(tmp_path):
    planned = plan(tmp_path, "axes.seats.user.temperature=[0.1, 0.9]", "overrides.seats.user.top_k=3", "axes.seed=[1]")
    assert [trial.values["seats.user.temperature"] for trial in planned.trials] == [0.1, 0.9] * 2
    assert {base.seats.user.top_k for base in planned.bases.values()} == {3}


def test_variants_are_an_axis_whose_values_bring_overrides(tmp_path):
    variants = {"short": {"turns": 4}, "hot": {"turns": 6, "seats.user.temperature": 1.2}}
    planned = plan(tmp_path, "overrides.turns=9", variants=variants, axes={"seed": [1, 2]})
    assert values(planned) == [("short", 1), ("short", 2), ("hot", 1), ("hot", 2)]
    assert [base.turns for base in planned.bases.values()] == [4, 4, 6, 6]
    assert planned.bases[planned.trials[3].id].seats.user.temperature == 1.2
    assert planned.sweep.axis_names() == ["variant", "seed"]
    (tmp_path / "again.yaml").write_text(planned.resolved_yaml())
    assert load_sweep(tmp_path / "again.yaml").digest() == planned.digest()
    assert values(plan(tmp_path, "axes={}", variants=variants)) == [("short",), ("hot",)]
    other = plan(tmp_path, "axes={}", "variants.short.turns=5", variants=variants)
    assert [base.turns for base in other.bases.values()] == [5, 6]
    hotter = plan(tmp_path, "axes={}", "variants.hot.seats.user.temperature=1.4", variants=variants)
    assert [base.seats.user.temperature for base in hotter.bases.values()][1] == 1.4


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"a": {"seed": 3}}, "line 1: variants.a.seed is an axis too"),
        ({"a": {}, "b": {"turns": 0}}, "line 1: variants.b.turns does not go with the trial"),
        ({"a": {"turnz": 3}}, "did you mean 'turns'?"),
        ({"a": 3}, "variants.a is 3"),
        ({"a": {"turns": 4}, "b": {"turns": 4}}, "variants.b is equal to 'a'"),
        ({"a.b": {"turns": 4}}, "a.b"),
    ],
    ids=["twice", "value", "key", "shape", "equal", "dot"],
)
def test_a_mistake_in_a_variant_is_named(tmp_path, variants, said):
    assert said in refusal(tmp_path, variants=variants, axes={"seed": [1]})


def test_resolved_sweep_reads_back_as_the_same_trials(tmp_path):
    planned = plan(tmp_path, axes={"seed": [1, 2], "seats.user.temperature": {"uniform": [0.2, 0.4]}}, samples=2)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "sweep.yaml").write_text(planned.resolved_yaml())
    again = load_sweep(tmp_path / "elsewhere" / "sweep.yaml")
    assert again.digest() == planned.digest() and again.sweep == planned.sweep


def test_one_bad_combination_is_refused_with_its_values(tmp_path):
    sentence = refusal(tmp_path, axes={"seed": [1, 2], "seats.user.temperature": [0.5, -1]})
    assert (
        "seed=1, seats.user.temperature=-1" in sentence
        and "greater than or equal to 0" in sentence
        and "line 1: axes.seats.user.temperature" in sentence
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["axes.seats.user.temprature=[1]"], "did you mean 'temperature'?"),
        (["axes.seed={integr: [1, 2]}"], "did you mean 'integer'?"),
        (["axes.seed=[1, 1]"], "expected each value once"),
        (["axes.seed={from: 1, to: 2}"], "from with to and steps"),
        (["axes.seed={uniform: [2, 1]}"], "the least before the greatest"),
        (["axes.seats.user.top_p={loguniform: [0, 1]}"], "both above 0"),
        (["samples=3"], "samples is 3, but no axis is drawn"),
        (["scheduler=asha"], "scheduler stops trainings early"),
        (["scenario=scenarios/chitchatt.yaml"], "expected the path of a file"),
        (["training=scenarios/training/quick.yaml"], "expected one of scenario, training"),
        (["retrys=1"], "did you mean 'retries'?"),
        (
            ["axes.seats.user.persona=[ada, 2020-01-01]"],
            "axes.seats.user.persona.values.1 is the date 2020-01-01; expected text (a date in quotes)",
        ),
        (["overrides.seats.user.script=[1, .nan]"], "override 'overrides.seats.user.script=[1, .nan]'"),
        (["overrides.turns={1: 2}"], "by text"),
        (["axes={}"], "at least one axis"),
        (["axes.variant=[1, 2]"], "variant is what the axis of the variants is called"),
        (["gpus=2"], "less than or equal to 1"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(tmp_path, overrides, said):
    assert said in refusal(tmp_path, *overrides)
