"""What an answer says to a language model: by hand over made-up log-probabilities, then over the embedded model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agents.judge_models.card_likelihood import Reference
from metrics.judges import Pair, scored_by
from metrics.judges.answer_reader import VALUES, Reader
from metrics.judges.nli import Nli
from scenarios.personas import load_personas

PEOPLE = {persona.id: persona for persona in load_personas("scenarios/personas/townsfolk.yaml")}
GRACE = PEOPLE["grace"]


def pair(answer, fact="instrument", persona=GRACE):
    return Pair(0, 3, "user", "qa", answer, fact, persona, persona.fact(fact).slot.questions[1])


def copying(contexts, texts):
    """Two nats a text, but half a nat where its last word stands in the context; and the cello likelier than all else,
    always.
    """

    def likelihood(context, text):
        word = text.rstrip(".").split()[-1]
        return -2.0 + 1.5 * (word in context) + (1.0 if word == "cello" else 0.0)

    return [[likelihood(context, text)] for context, text in zip(contexts, texts, strict=True)]


def test_p_is_the_share_of_the_other_values_once_what_the_question_makes_likely_is_taken_away():
    # named: gains 1.5 and 0 for each of the others, whatever the cello's own likelihood; unnamed: all gains 0
    right, wrong, nothing = Reader(copying).judge([pair("The cello."), pair("The flute."), pair("I like music.")])
    others = VALUES - 1
    assert right.p_inconsistent == pytest.approx(1 - math.exp(1.5) / (math.exp(1.5) + others))
    assert wrong.p_inconsistent == pytest.approx(1 - 1 / (math.exp(1.5) + others))
    assert nothing.p_inconsistent == pytest.approx(1 - 1 / VALUES) and nothing.verdict
    assert (right.metric, right.judge, right.against, right.turn) == ("qa", "answer_reader", "instrument", 3)


def test_lines_blank_answers_and_answers_too_long_come_back_unscored_in_their_places():
    line = replace(pair("I play the cello."), metric="prompt_to_line")
    judgements = Reader(copying).judge([line, pair("…"), pair("The cello.")])
    assert [row.unscored is None for row in judgements] == [False, False, True] and judgements[
        2
    ].p_inconsistent is not None
    assert "reads answers" in judgements[0].unscored and judgements[1].unscored == "empty answer"
    [long] = Reader(lambda contexts, texts: [[]] * len(texts)).judge([pair("The cello.")])
    assert "longer than the model reads" in long.unscored and long.p_inconsistent is None


def test_each_question_is_read_once_with_nothing_said():
    asked = []

    def logprobs(contexts, texts):
        asked.extend(contexts)
        return copying(contexts, texts)

    Reader(logprobs).judge([pair("The cello."), pair("The flute.")])
    assert len(asked) == 3 * VALUES and sum("Hm." in context for context in asked) == VALUES


def test_judges_are_given_what_is_their_business():
    pairs = [pair("The cello."), replace(pair("I play the cello."), metric="prompt_to_line")]
    assert [judgement.metric for judgement in scored_by(Reader(copying), pairs)] == ["qa"]
    assert len(scored_by(Nli(lambda premises, hypotheses: None), pairs)) == 2


ANSWERS = [
    ("grace", "home", "I live in Osaka, near the river.", False),
    ("grace", "home", "In Bergen, with my aunt.", True),
    ("grace", "home", "What a lovely question!", True),
    ("leon", "pet", "A dog, he sleeps all day.", False),
    ("leon", "pet", "My goldfish keeps me company.", True),
    ("tomas", "job", "I repair watches, I am a watchmaker.", False),
    ("tomas", "job", "I bake bread, I am a baker.", True),
    ("mateo", "instrument", "The guitar, since I was six.", False),
    ("mateo", "instrument", "The oboe, since I was six.", True),
    ("ingrid", "dish", "Fish pie, always.", False),
    ("ingrid", "dish", "Paella, always.", True),
]


def test_embedded_model_reads_plain_answers_and_passes_no_wrong_one(embedded):
    pairs = [pair(answer, fact, PEOPLE[who]) for who, fact, answer, _ in ANSWERS]
    judgements = Reader(Reference(embedded).logprobs).judge(pairs)
    assert all(row.verdict for row, (*_, wrong) in zip(judgements, ANSWERS, strict=True) if wrong)
    assert sum(not row.verdict for row, (*_, wrong) in zip(judgements, ANSWERS, strict=True) if not wrong) >= 3  # of 5
