"""What is evaluated, in which words, and how what was found becomes a table."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml
from metric_frames import judgements_frame, turns_frame

from lab.training.evaluation import (
    ConditionResult,
    _slots_apart,
    evaluation_conditions,
    evaluation_frame,
    reduction,
    staged,
)
from lab.training.reward_parts import REWARDS, has_probes
from metrics.measure import measure_run
from metrics.stats.shares import share_of_counts
from scenarios.jobs.training import load_recipe, split
from scenarios.personas import load_personas
from scenarios.records import SEATS
from scenarios.schema import Measure
from scenarios.yaml_files import ScenarioError

QUICK = "scenarios/training/quick.yaml"
SCRIPTED = [
    "overrides={turns: 12, seats.assistant.persona: sample}",
    "evaluation={judge: [ledger], conversations: 6, turns: 12}",
]
HOW = {"confidence": 0.95}


def recipe(*more):
    return load_recipe(QUICK, [*SCRIPTED, *more])


def test_every_arm_is_evaluated_with_held_out_personas_and_with_the_people_of_training():
    settings = recipe("evaluation.arms={reminder: {seats.user.reminder: 'Remember: {card}'}}")
    planned = evaluation_conditions(settings)
    assert [(condition.arm, condition.held_out, condition.trained) for condition in planned] == [
        ("base", True, False),
        ("base", False, False),
        ("grpo", True, True),
        ("grpo", False, True),
        ("reminder", True, False),
        ("reminder", False, False),
    ]
    assert (
        planned[-1].scenario.seats["user"].reminder == "Remember: {card}"
        and planned[0].scenario.seats["user"].reminder == ""
    )
    learnt, unseen = split(settings)
    assert [set(condition.scenario.persona_pool) for condition in planned[:2]] == [set(unseen), set(learnt)]
    # the arms say the same dialogues
    assert len({condition.scenario.seed for condition in planned if condition.held_out}) == 1
    assert [condition.held_out for condition in evaluation_conditions(recipe("evaluation.as_learnt=false"))] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("evaluation.arms={base: {}}", "'base'"),
        ("evaluation.arms={grpo: {}}", "'grpo'"),
        ("evaluation.arms={hot: {seats.user.temperatur: 2.0}}", "evaluation.arms.hot"),
        ("evaluation.arms={other: {seed: 3}}", "sets seed"),
        ("evaluation.arms={kind: {measure.judge: nli}}", "sets measure.judge"),
        ("evaluation.scenario=interview.yaml", "is interview.yaml, which is trained on"),
    ],
)
def test_arm_or_scenario_that_cannot_be_compared_is_refused_before_anything_is_played(more, message):
    with pytest.raises(ScenarioError) as caught:
        evaluation_conditions(recipe(more))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_held_out_personas_are_evaluated_in_every_other_scenario_too():
    planned = evaluation_conditions(recipe("evaluation.scenario=[../chitchat.yaml, ../therapy.yaml]"))
    labels = [
        ("interview", "base, held out"),
        ("interview", "base, as learnt"),
        ("chitchat", "base, chitchat"),
        ("therapy", "base, therapy"),
    ]
    assert [(condition.scenario.name, condition.label) for condition in planned[:4]] == labels
    assert {condition.arm for condition in planned[4:]} == {"grpo"} and len(planned) == 8


def test_each_of_several_scenarios_of_a_training_is_evaluated_under_its_name():
    planned = evaluation_conditions(
        recipe("scenario=[interview.yaml, ../tutoring.yaml]", "evaluation.scenario=../chitchat.yaml")
    )
    assert [condition.label.removeprefix("base, ") for condition in planned[:5]] == [
        "interview, held out",
        "tutoring, held out",
        "interview, as learnt",
        "tutoring, as learnt",
        "chitchat",
    ]
    _, unseen = split(recipe())
    assert all(set(planned[place].scenario.persona_pool) == set(unseen) for place in (0, 1, 4))
    assert all(condition.scenario.turns == 12 for condition in planned)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": "some/model"}, "some/model"),
        ({"script": ["Well."]}, "a script"),
        ({"adapter": "/some/where"}, "an adapter"),
    ],
)
def test_other_scenario_in_which_the_trained_model_does_not_speak_is_refused(tmp_path, spec, message):
    chitchat = Path("scenarios/chitchat.yaml")
    other = yaml.safe_load(chitchat.read_text())
    other["seats"]["user"] |= spec
    other["personas"] = str((chitchat.parent / other["personas"]).resolve())
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(ScenarioError, match=f"evaluation.scenario.*{message}"):
        evaluation_conditions(recipe(f"evaluation.scenario={tmp_path / 'other.yaml'}"))


@pytest.mark.parametrize("judge", ["ledger", "cascade"])
def test_judge_that_gives_rewards_evaluates_nothing_on_its_own_or_in_a_cascade(judge):
    with pytest.raises(ScenarioError, match=r"evaluation.judge"):
        evaluation_conditions(
            recipe(
                "reward.prompt_to_line=1.0",
                f"evaluation.judge={judge}",
                "overrides={turns: 4, measure.cascade.first: ledger}",
            )
        )
    assert evaluation_conditions(recipe("reward.prompt_to_line=1.0", "evaluation.judge=answer_reader"))
    with pytest.raises(ScenarioError, match=r"evaluation.judge has 'ledger', which gives the rewards"):
        evaluation_conditions(recipe("reward.claims=1.0"))


def test_reduction_is_the_share_of_the_inconsistency_that_is_gone_over_people_of_both_sides():
    # base 4 of 10 wrong, trained 1 of 10: 1 - .1 / .4
    before = {"ann": np.array([3.0, 5.0]), "ben": np.array([3.0, 5.0])}
    # nobody evaluated eve before
    after = {
        "ann": np.array([5.0, 5.0]),
        "ben": np.array([4.0, 5.0]),
        "eve": np.array([0.0, 9.0]),
    }
    share = reduction(before, after, **HOW)
    assert share.value == pytest.approx(0.75) and share.n == 2
    # what is left: 1/4; 1/2 without ann, none without ben: se² = 1/2 (1/16 + 1/16); t of one degree, on the log scale
    factor = math.exp(12.706205 * 0.25 / 0.25)
    assert (share.low, share.high) == pytest.approx((1 - factor / 4, 1 - 1 / (4 * factor)), rel=1e-5)


def test_held_out_personas_are_asked_in_words_that_training_never_used():
    settings = recipe()
    facts = [fact for person in load_personas("scenarios/personas/townsfolk.yaml") for fact in person.facts]
    learnt, held_out = ({fact.slot.questions[number] for fact in facts} for number in (0, 1))
    for condition in evaluation_conditions(settings)[:2]:
        talk = condition.scenario
        silent = talk.seats.model_copy(
            update={seat: talk.seats[seat].model_copy(update={"script": ("I see.",)}) for seat in SEATS}
        )
        talk = talk.model_copy(update={"seats": silent, "measure": talk.measure.model_copy(update={"metrics": []})})
        play = staged(settings, replace(condition, scenario=talk), {}).play
        off_the_record = {
            play._wording(fact) for seats in play.cast for person in seats.values() for fact in person.facts
        }
        assert off_the_record <= (held_out if condition.held_out else learnt)
        said = [event["text"] for event in play.events() if event["event"] == "line" and event["seat"] == "assistant"]
        asked = {question for text in said for question in learnt | held_out if question in text}
        assert asked and asked <= (held_out if condition.held_out else learnt)


def test_table_says_what_was_rewarded_and_clusters_by_person():
    settings = recipe("evaluation.as_learnt=false")
    before, after = evaluation_conditions(settings)
    key = ("qa", "answer_match", "user")
    rows = pl.DataFrame(
        [
            {
                "level": "run",
                "metric": "qa",
                "judge": judge,
                "seat": "user",
                "value": 0.5,
                "low": 0.4,
                "high": 0.6,
                "n": 20,
            }
            for judge in ("answer_match", "answer_reader")
        ]
    )
    sums = {key: {"ann": np.array([9.0, 10.0]), "ben": np.array([1.0, 10.0])}}
    better = {key: {"ann": np.array([10.0, 10.0]), "ben": np.array([10.0, 10.0])}}
    frame = evaluation_frame(settings, [ConditionResult(before, rows, sums), ConditionResult(after, rows, better)])
    by = {(row["arm"], row["judge"]): row for row in frame.iter_rows(named=True)}
    assert by["grpo", "answer_match"]["rewarded"] and not by["grpo", "answer_reader"]["rewarded"]
    base, by_person = by["base", "answer_match"], share_of_counts([9, 1], [10, 10])
    assert (base["low"], base["high"]) == (by_person.low, by_person.high), "two clusters of ten answers"
    all_right = by["grpo", "answer_match"]
    assert all_right["low"] < 1.0 == all_right["high"]
    assert by["grpo", "answer_match"]["reduction"] == 1.0 and by["base", "answer_match"]["reduction"] is None
    assert by["grpo", "answer_reader"]["reduction"] is None  # nothing was summed


def test_answers_about_held_out_slots_are_a_measure_of_their_own():
    turns = turns_frame([(0, 1, "user"), (1, 1, "user")])
    judged = [(0, 1, "prompt_to_line", "persona", False)]
    judged += [(c, 1, "qa", fact, fact == "pet") for c in (0, 1) for fact in ("job", "home", "pet")]
    judgements = judgements_frame([*judged, (1, 1, "qa", "dish", None)])
    how = Measure(metrics=["prompt_to_line", "qa"])
    rows = measure_run(turns, judgements, metrics=how.metrics, window=how.window, confidence=how.confidence)
    assert _slots_apart(rows, turns, judgements, [], how) is rows
    apart = _slots_apart(rows, turns, judgements, ["pet", "dish"], how).filter(pl.col("level") == "run")
    values = dict(apart.select("metric", "value").iter_rows())
    assert (values["prompt_to_line"], values["qa"], values["qa_held_out_slots"]) == (1.0, 1.0, 0.0)
    # one of three answers could not be scored, and none of the others
    assert (values["unscored_qa"], values["unscored_qa_held_out_slots"]) == (0.0, pytest.approx(1 / 3))
    assert apart["metric"].n_unique() == len(apart)


def test_training_never_asks_in_the_held_out_wording():
    from lab.training.rollouts import _ask

    settings, asked = recipe("reward.probes=3"), []
    people = load_personas("scenarios/personas/townsfolk.yaml")
    seat = SimpleNamespace(
        answer=lambda questions, cues: asked.extend(question for probes in questions.values() for question in probes)
    )
    play = SimpleNamespace(cast=[{"user": person} for person in people], seats={"user": seat})
    for step in range(6):
        for turn in range(1, 5):
            _ask(settings, play, "user", step, turn, 4, range(len(people)))
    words = {fact.id: fact.slot.questions for person in people for fact in person.facts}
    used = {words[question.about].index(question.text) for question in asked}
    assert len(asked) == 6 * 3 * len(people) and used == set(range(max(map(len, words.values())))) - {1}


def test_probes_are_put_where_a_weighted_part_reads_the_answers_and_lines_are_compared(monkeypatch):
    assert has_probes(recipe("reward.qa=1")) and not has_probes(recipe("reward.qa=1", "groups=episodes"))
    others = ("reward.qa=0", "reward.relevance=1")
    assert not has_probes(recipe(*others))
    monkeypatch.setitem(REWARDS, "relevance", replace(REWARDS["relevance"], probes=True))  # as a package's part may say
    assert has_probes(recipe(*others))
