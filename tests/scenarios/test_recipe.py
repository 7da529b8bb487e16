"""Training files: read, checked, split by persona."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.jobs.recipe import all_played, played
from scenarios.jobs.training import held_out_slots, load_recipe, split, without_slots
from scenarios.personas import load_personas
from scenarios.scenario import load_scenario
from scenarios.yaml_files import ScenarioError

QUICK = "scenarios/training/quick.yaml"


def test_every_training_file_loads_and_plays_a_scenario_that_exists():
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


def test_slots_are_held_out_by_name_or_as_a_share_without_the_name():
    assert held_out_slots(load_recipe(QUICK)) == []
    assert held_out_slots(load_recipe(QUICK, ["held_out.slots=[pet, name]"])) == ["pet", "name"]
    drawn = [held_out_slots(load_recipe(QUICK, ["held_out.slots=0.3", f"seed={seed}"])) for seed in range(4)]
    assert all(len(slots) == 2 and "name" not in slots for slots in drawn) and len(set(map(tuple, drawn))) > 1
    grace = next(person for person in load_personas("scenarios/personas/townsfolk.yaml") if person.id == "grace")
    assert [fact.id for fact in without_slots(grace, ["pet"]).facts] == [f.id for f in grace.facts if f.id != "pet"]
    assert without_slots(grace, ["pet"]).card == grace.card and "tortoise" in grace.card


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
        ("scenario=[]", "at least 1"),
        ("scenario=[interview.yaml, {scenario: nowhere.yaml}]", "nowhere.yaml"),
        ("scenario=[interview.yaml, {scenario: ../tutoring.yaml, weight: 0}]", "scenario.1.weight is 0"),
        ("scenario=[interview.yaml, interview.yaml]", "like an earlier one"),
        ("evaluation.scenario=interview.yaml", "is interview.yaml, which is trained on"),
        ("evaluation.scenario=[../therapy.yaml, ../therapy.yaml]", "like another scenario"),
        ("held_out.slots=[shoes]", "holds 'shoes'; expected slots of the personas: name, age, job"),
        ("held_out.slots=0.0", "leaves 8 of 8 slots"),
        ("held_out.slots=[name, age, job, home, origin, pet, dish, instrument]", "leaves 0 of 8 slots"),
        ("tuning.reward_to_go=true", "tuning.scale_rewards false"),
        ("curriculum={turns: 2}", "curriculum.steps is missing"),
    ],
)
def test_mistakes_are_one_sentence(override, message):
    with pytest.raises(ScenarioError) as caught:
        load_recipe(QUICK, [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


TWO = "scenario=[interview.yaml, {scenario: ../tutoring.yaml, weight: 3, overrides: {turns: 6}}]"


def test_overrides_hold_for_the_scenarios_that_have_their_key_and_those_of_one_scenario_come_first():
    recipe = load_recipe(QUICK, [TWO, "overrides={turns: 4, graph.nodes.chat.pressure: 2}"])
    interview, tutoring = all_played(recipe)
    assert (interview.turns, tutoring.turns) == (4, 6)
    assert interview.graph.nodes["chat"].pressure == 2 and "chat" not in tutoring.graph.nodes
    with pytest.raises(ScenarioError, match=r"graph.nodes.nowhere.*is not in the file"):
        load_recipe(QUICK, [TWO, "overrides={graph.nodes.nowhere.pressure: 2}"])


def test_people_of_all_scenarios_are_split_together_and_whoever_a_seat_names_is_on_neither_side():
    named = "{scenario: ../tutoring.yaml, overrides: {seats.assistant.persona: leon}}"
    learnt, out = split(load_recipe(QUICK, [f"scenario=[interview.yaml, {named}]"]))
    assert "leon" not in {*learnt, *out} and len({*learnt, *out}) == 27
    few = "{scenario: ../tutoring.yaml, overrides: {persona_pool: [grace]}}"
    with pytest.raises(ScenarioError, match=r"leaves 0 personas to learn with and 1 to evaluate with in tutoring"):
        load_recipe(QUICK, [f"scenario=[interview.yaml, {few}]", "held_out.personas=[grace]"])


def test_a_scenario_in_which_the_trained_model_does_not_speak_is_named():
    other = "{scenario: ../tutoring.yaml, overrides: {seats.user.model: other/model}}"
    with pytest.raises(ScenarioError, match=r"in tutoring 'other/model' speaks for the user; expected 'embedded'"):
        load_recipe(QUICK, [f"scenario=[interview.yaml, {other}]"])


def test_a_copy_of_a_scenario_of_the_training_is_no_held_out_scenario(tmp_path):
    text = Path("scenarios/training/interview.yaml").read_text()
    copy = tmp_path / "copy.yaml"
    copy.write_text(
        text.replace("name: interview", "name: other").replace("../personas", f"{Path.cwd()}/scenarios/personas")
    )
    with pytest.raises(ScenarioError, match="has the graph of 'interview', which is trained on"):
        load_recipe(QUICK, [f"evaluation.scenario={copy}"])


def test_a_curriculum_lets_dialogues_grow_linearly_to_their_scenarios_own_turns():
    recipe = load_recipe(QUICK, ["curriculum={turns: 4, steps: 4}"])
    assert [recipe.turns(step, 12) for step in range(6)] == [4, 6, 8, 10, 12, 12]
    assert [recipe.turns(step, 3) for step in range(6)] == [3] * 6 and load_recipe(QUICK).turns(0, 12) == 12


@pytest.mark.parametrize("more", [(), (TWO, "evaluation.scenario=../therapy.yaml", "curriculum={turns: 4, steps: 4}")])
def test_recipe_written_out_reads_as_the_same(tmp_path, more):
    recipe = load_recipe(QUICK, more)
    (tmp_path / "scenario.yaml").write_text(recipe.resolved_yaml())
    again = load_recipe(tmp_path / "scenario.yaml")
    assert again == recipe and again.digest() == recipe.digest()
    assert load_recipe(QUICK, ["tuning.r=4"]).digest() != recipe.digest()
