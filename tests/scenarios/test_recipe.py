"""Training files: read, checked, split by persona."""

from __future__ import annotations

import pytest

from scenarios.jobs.training import load_recipe, played, split
from scenarios.personas import load_personas
from scenarios.scenario import load_scenario
from scenarios.yaml_files import ScenarioError

QUICK = "scenarios/training/quick.yaml"


def test_every_training_file_loads_and_plays_a_scenario_that_exists():
    from pathlib import Path

    for path in Path("scenarios/training").glob("*.yaml"):
        if "method:" in path.read_text():
            assert played(load_recipe(path)).turns > 0
        else:
            load_scenario(path)


def test_personas_are_split_whole_and_the_same_every_time():
    recipe = load_recipe(QUICK)
    learnt, out = split(recipe)
    everyone = {persona.id for persona in load_personas("scenarios/personas/townsfolk.yaml")}
    assert set(learnt) | set(out) == everyone and not set(learnt) & set(out)
    assert abs(len(out) - len(everyone) / 2) <= 1 and split(load_recipe(QUICK)) == (learnt, out)
    assert split(load_recipe(QUICK, ["seed=4"]))[1] != out


def test_held_out_personas_may_be_named():
    learnt, out = split(load_recipe(QUICK, ["held_out.personas=[grace, leon]"]))
    assert out == ["grace", "leon"] and "grace" not in learnt


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tuning.train_from_depth=0.5", "target_modules as a list"),
        ("held_out.personas=[nobody]", "nobody"),
        ("held_out.personas=0.0", "at least one of each"),
        ("held_out.personas=1.0", "at least one of each"),
        ("num_generations=1", "GRPO compares"),
        ("method=magic", "grpo"),
        ("scenario=nowhere.yaml", "nowhere.yaml"),
        ("held_out.paraphrase=9", "wordings"),
        ("tuning={full: true, adapter: /some/where}", "not both"),
        ("tuning.learning_rate=0", "learning_rate"),
        ("overrides={turn: 4}", "turn"),
        ("overrides={seats.user.script: [Hello.]}", "a script speaks"),
        ("overrides={seats.user.temperature: 0.0}", "temperature above 0"),
        ("held_out.paraphrase=0", "held_out.paraphrase"),
        ("seat=assistant", "persona: sample"),
        ("overrides={seats.user.adapter: /nowhere}", "tuning.adapter"),
    ],
)
def test_mistakes_are_one_sentence(override, message):
    with pytest.raises(ScenarioError) as caught:
        load_recipe(QUICK, [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_recipe_written_out_reads_as_the_same(tmp_path):
    recipe = load_recipe(QUICK)
    (tmp_path / "scenario.yaml").write_text(recipe.resolved_yaml())
    again = load_recipe(tmp_path / "scenario.yaml")
    assert again == recipe and again.digest() == recipe.digest()
    assert load_recipe(QUICK, ["tuning.r=4"]).digest() != recipe.digest()
