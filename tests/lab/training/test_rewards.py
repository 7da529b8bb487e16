"""What sampled lines are worth, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from agents.engine.protocol import Sample
from agents.seats.base import Spoken
from lab.training.rewards import Rollout, rewarded, tripwire_means
from metrics.judges.ledger import Ledger
from scenarios.jobs.training_keys import Reward
from scenarios.personas import load_personas
from scenarios.records import Line

PEOPLE = {persona.id: persona for persona in load_personas("scenarios/personas/townsfolk.yaml")}
CAST = {"user": PEOPLE["grace"], "assistant": PEOPLE["leon"]}


LINES = Reward(prompt_to_line=1.0, qa=0)


def spoken(turn, *texts, given=(), about=""):
    """Lines sampled at one place; a line of n words has n tokens."""
    samples = tuple(Sample(tuple(range(len(text.split()))), (-1.0,) * len(text.split()), "stop") for text in texts)
    return Spoken(turn, 10 + turn, samples, texts, given, about)


def talk(*places, lines=()):
    said = [Line(0, turn, seat, CAST[seat].id, "", text, 3, (1,), -1.0) for turn, (seat, text) in enumerate(lines)]
    return Rollout(0, "user", CAST, said, tuple(range(40)), places)


def rewards(dialogue, reward, embed=None):
    views, totals = rewarded([dialogue], reward, Ledger(), embed)
    return [line.reward for line in views[0].lines], totals


def test_line_that_contradicts_its_persona_is_worth_minus_one_and_one_that_does_not_plus_one():
    dialogue = talk(
        spoken(1, "I play the cello in my garden.", "I play the flute in my garden."),
        lines=[("assistant", "What do you play?")],
    )
    assert rewards(dialogue, LINES)[0] == [1.0, -1.0]


def test_answer_off_the_record_is_worth_whether_it_is_right_and_no_judge_is_asked():
    dialogue = talk(spoken(1, "The cello.", "I like music.", given=(5, 6), about="instrument"))
    values, totals = rewards(dialogue, Reward())
    assert values == [1.0, -1.0] and totals["reward_qa"] == 0.0 and math.isnan(totals["reward_prompt_to_line"])


def test_earlier_lines_of_ones_own_count_as_much_as_their_weight():
    # consistent with the card, but not with what was said on line 0: (1 * 1 + 0.5 * -1) / 1.5
    lines = [("user", "I play the flute every day."), ("assistant", "Really?")]
    weights = Reward(prompt_to_line=1.0, qa=0, line_to_line=0.5)
    values, _ = rewards(talk(spoken(2, "I play the cello every day."), lines=lines), weights)
    assert values == [pytest.approx(1 / 3)]


@pytest.mark.parametrize(
    "text",
    ["You are Grace and you play the cello.", "As an AI language model, I play nothing at all.", "Yes, I agree."],
)
def test_line_that_trips_a_wire_pays_for_it(text):
    dialogue = talk(spoken(1, text), lines=[("assistant", "What do you play?")])
    assert rewards(dialogue, LINES)[0][0] <= 0.0
    assert rewards(dialogue, LINES)[1]["penalised"] == 1.0


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("I play the cello, and you?", 1.0),
        ("I play the flute.", -1.0),
        ("I play the cello, but I live in Leeds.", -1.0),
        ("I don't play the cello.", -1.0),
        ("What a lovely day.", 0.0),
        ("You play the flute well.", 0.0),
        ("Grace (smiling)", 0.0),
        ("My name is Grace.", 1.0),
        ("I'm Leon.", -1.0),
        ("Nice to meet you, Leon.", 0.0),
        ("…", 0.0),
    ],
)
def test_line_is_worth_what_it_claims_whoever_asked_so_that_silence_wins_nothing(text, worth):
    dialogue = talk(spoken(1, text), lines=[("assistant", "Hello! I am Leon.")])
    assert rewards(dialogue, Reward(claims=1.0, qa=0, penalty=0))[0] == [worth]


def test_fact_that_was_stated_before_is_worth_nothing_again_unless_it_is_asked_for():
    lines = [("user", "I play the cello."), ("assistant", "Hm.")]
    again = spoken(2, "I play the cello.", "I play the cello in Osaka, where I live.", "I play the harp.")
    weights = Reward(claims=1.0, qa=0, penalty=0)
    assert rewards(talk(again, lines=lines), weights)[0] == [0.0, 1.0, -1.0]
    asked = [*lines[:1], ("assistant", CAST["user"].fact("instrument").slot.questions[0])]
    assert rewards(talk(again, lines=asked), weights)[0] == [1.0, 1.0, -1.0]


def test_line_of_which_a_judge_of_claims_says_nothing_about_the_named_fact_claims_nothing():
    class Silent(Ledger):
        """Finds no claim in any line; of those with a harp it cannot tell."""

        def judge(self, pairs):
            rows = [row for row in super().judge(pairs) if row.against == "persona"]
            return [
                replace(row, p_inconsistent=None, verdict=None, unscored="?") if "harp" in pair.line else row
                for row, pair in zip(rows, pairs, strict=True)
            ]

    dialogue = talk(spoken(1, "I play the cello.", "I play the harp."), lines=[("assistant", "Hm.")])
    views, totals = rewarded([dialogue], Reward(claims=1.0, qa=0, penalty=0), Silent(), None)
    assert [line.reward for line in views[0].lines] == [0.0, None] and totals["unscored"] == 1


def test_claims_need_a_judge_of_single_facts():
    with pytest.raises(ValueError, match="expected another judge than 'llm' beside claims"):
        Reward(claims=1.0, judge="llm")


def test_relevance_is_the_cosine_with_the_line_that_it_answers():
    vectors = {"I play the cello all day.": (1.0, 0.0), "What do you play?": (0.6, 0.8)}
    dialogue = talk(spoken(1, "I play the cello all day."), lines=[("assistant", "What do you play?")])
    weights = Reward(prompt_to_line=1.0, qa=0, relevance=1.0)
    values, _ = rewards(dialogue, weights, lambda texts: np.array([vectors[text] for text in texts]))
    assert values == [pytest.approx((1 + 0.6) / 2)]


def test_what_nobody_could_score_has_no_reward_and_is_counted():
    dialogue = talk(spoken(1, "…"), lines=[("assistant", "What do you play?")])
    values, totals = rewards(dialogue, LINES)
    assert values == [None] and totals["unscored"] == 1 and totals["lines"] == 1


def test_line_that_its_judge_cannot_score_is_worth_nothing_known_whatever_else_applies():
    dialogue = talk(spoken(1, "…", "I play the cello."), lines=[("assistant", "What do you play?")])
    values, totals = rewards(
        dialogue, Reward(prompt_to_line=1.0, qa=0, relevance=1.0), lambda texts: np.ones((len(texts), 1))
    )
    assert values == [None, 1.0] and totals["unscored"] == 1


def test_first_line_of_a_place_is_on_the_trunk_and_the_others_beside_it():
    views, _ = rewarded(
        [talk(spoken(1, "I sing.", "I dance."), spoken(1, "The cello.", given=(7,), about="instrument"))],
        Reward(),
        Ledger(),
        None,
    )
    assert [(line.on_trunk, line.start, line.given) for line in views[0].lines] == [
        (True, 11, ()),
        (False, 11, ()),
        (False, 11, (7,)),
    ]
    assert views[0].ids == tuple(range(40)) and views[0].persona == "grace"


def test_answer_in_the_dialogue_to_a_question_about_a_fact_is_worth_whether_it_is_right_and_evading_costs_more():
    asked = "And tell me. " + CAST["user"].fact("instrument").slot.questions[0]
    values, totals = rewards(
        talk(spoken(1, "The cello.", "The flute.", "Well, yes."), lines=[("assistant", asked)]), Reward()
    )
    assert values == [1.0, -1.0, -2.0] and totals["unscored"] == 0


def test_line_that_nothing_applies_to_is_worth_nothing_and_pays_for_a_wire_all_the_same():
    values, totals = rewards(
        talk(spoken(1, "The cello.", "As an AI language model, I agree."), lines=[("assistant", "Nice weather!")]),
        Reward(),
    )
    # the mean of what says something
    assert values == [0.0, -1.0] and totals["unscored"] == 0 and totals["reward"] == -1.0


def test_reciting_facts_nobody_asked_for_pays_even_where_the_answer_is_right():
    # three facts besides the name
    dialogue = talk(
        spoken(
            1,
            "I'm Grace, 34, a carpenter from Leeds, with a cello.",
            "The cello, in Osaka.",
            given=(5,),
            about="instrument",
        )
    )
    assert rewards(dialogue, Reward())[0] == [0.0, 1.0]


def test_tripwires_of_a_steps_dialogues_are_means_over_the_seats_own_lines():
    lines = [
        ("assistant", "What do you play?"),
        ("user", "I play the cello."),
        ("assistant", "Really?"),
        ("user", "Yes, I agree."),
    ]
    means = tripwire_means(
        [talk(lines=lines)], "user", embed=None, logprobs=lambda cards, texts: [[-2.0, -3.0]] * len(texts)
    )
    assert (
        means["evasion"] == 0.5
        and means["length"] == 3.5
        and means["perplexity_nats"] == 2.5
        and "relevance" not in means
    )
