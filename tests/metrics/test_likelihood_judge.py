"""The likelihood judge over made-up log-probabilities and likenesses that are written down here; last, over the
embedded models.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from agents.models.chat_template import ChatFormat
from metrics.judges import Pair
from metrics.judges.likelihood import BORROWED, INTERCEPT, NEAR, TYPICAL, UNLIKELY, UNMET, Likelihood, p_inconsistent
from metrics.judges.text.ownership import about_self, asks_of_partner, borrowed, engages, untagged
from scenarios.records import Persona

GRACE = Persona(
    "grace", "Grace", "Your name is Grace. You live in Osaka. You work as a carpenter. You keep a tortoise.", ()
)
LEON = Persona("leon", "Leon", "Your name is Leon. You live in Halifax. You work as a fisherman. You keep a dog.", ())
PUPIL = Persona("pupil", "Pupil", "I learn from little plays. In dialogue, I ask you to lead me through them.", ())


class Speaker:
    """Every token at -2 nats, three times that where the line names what no card of the test holds; remembers what it
    was asked.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, cards, lines):
        self.calls.append(list(zip(cards, lines, strict=True)))
        return [[-6.0 if "Turin" in line else -2.0] * len(line.split()) for line in lines]


def pair(line, turn=0, metric="prompt_to_line", persona=GRACE, partner=LEON, heard=""):
    against = "persona" if metric == "prompt_to_line" else "0"
    return Pair(0, turn, "user", metric, line, against, persona, "before", partner, heard)


def p_of(*pairs, embed=None):
    return [row.p_inconsistent for row in Likelihood(Speaker(), embed).judge(pairs)]


def test_p_is_the_documented_logistic_of_three_terms():
    # own half a nat below what is typical: strange = 0.5
    score = INTERCEPT + BORROWED * 0.2 + UNLIKELY * 0.5 + UNMET * 0.5
    assert p_inconsistent(TYPICAL - 0.5, 0.2, 0.5) == pytest.approx(1 / (1 + math.exp(-score)))


def test_how_odd_a_line_is_tells_little_beyond_a_nat():
    assert p_inconsistent(TYPICAL - 1.0) == p_inconsistent(-1e6) < 0.1
    assert p_inconsistent(TYPICAL + 1.0) == p_inconsistent(0.0)


def test_every_term_moves_p_the_way_it_is_meant_to():
    assert p_inconsistent(-1.0) < p_inconsistent(-3.0) < p_inconsistent(-3.0, 0.2) < p_inconsistent(-3.0, 0.2, 0.5)


def test_own_fact_is_consistent_and_the_partners_fact_as_ones_own_contradicts():
    heard = "As a fisherman in Halifax I have my dog."
    own, slip = Likelihood(Speaker()).judge(
        [pair("As a carpenter in Osaka I have my tortoise.", heard=heard), pair(heard, 2, heard=heard)]
    )
    assert (own.verdict, slip.verdict) == (False, True)
    assert (own.judge, own.against, own.turn, slip.turn) == ("likelihood", "persona", 0, 2)


def test_partners_fact_told_of_the_partner_is_less_than_taking_it_for_oneself():
    heard = "I live in Halifax and work as a fisherman."
    taken, reported = p_of(
        pair("I myself live in Halifax as a fisherman.", heard=heard),
        pair("You live in Halifax as a fisherman.", heard=heard),
    )
    assert reported < taken / 2


def test_echoing_what_was_heard_is_worse_than_saying_it_unheard():
    line = "I love the harbour in winter."
    assert p_of(pair(line, heard="I love the harbour in winter."))[0] > p_of(pair(line))[0]


def test_lines_are_judged_without_a_partner_and_without_a_heard_line():
    own, slip = p_of(pair("I live in Osaka.", partner=None), pair("I live in Turin.", partner=None))
    assert own < slip


def test_borrowed_is_the_documented_share():
    # the card lacks halifax (a name: 1, + 1 the partner's, + 1/2 heard) and love (1/2); osaka is its own: 3 / (3 words
    # + 4);
    # first person once, second never: (1 + 1/4) / (1 + 1/2)
    said = borrowed("I love Osaka, Halifax.", GRACE.card, LEON.card, "Halifax is cold.")
    assert said == pytest.approx(3.0 / 7 * 1.25 / 1.5)
    assert borrowed("I live in Osaka.", GRACE.card, LEON.card) == 0.0


def test_address_by_name_is_nobodys_word_but_taking_the_name_is():
    assert borrowed("Thank you, Leon.", GRACE.card, LEON.card, names={"Leon"}) == 0.0
    assert borrowed("My name is Leon.", GRACE.card, LEON.card, names={"Leon"}) > 0.0


def test_about_self_counts_first_against_second_person():
    # I, my against you: (2 + 1/4) / (3 + 1/2)
    assert about_self("I told you about my cat.") == pytest.approx(2.25 / 3.5)
    assert about_self("The cat sleeps.") == 0.5


def test_lecture_of_a_speaker_who_has_to_ask_is_worse_than_a_question():
    lecture, question = p_of(
        pair("The lever has two arms.", persona=PUPIL), pair("Could I try the lever now?", persona=PUPIL)
    )
    assert question < lecture
    assert p_of(pair("The lever has two arms."))[0] < lecture  # Grace's card demands nothing


def test_only_cards_that_speak_to_or_of_oneself_demand_asking():
    assert asks_of_partner(PUPIL.card) and asks_of_partner("You are calm. You ask one open question at a time.")
    assert not asks_of_partner(GRACE.card)
    assert not asks_of_partner("Orla likes her pupils to ask questions. She has met many challenges.")


def test_engaging_is_asking_and_speaking_of_oneself():
    assert [engages(line) for line in ("It has two arms.", "Has it two arms?", "I see two arms.", "May I see?")] == [
        0.0,
        0.5,
        0.5,
        1.0,
    ]


def test_of_who_has_to_ask_only_the_partners_words_are_borrowed():
    assert borrowed("I see the lever.", PUPIL.card, "You teach physics.") == 0.0
    assert borrowed("I teach physics.", PUPIL.card, "You teach physics.") > 0.0


def test_likeness_to_the_nearest_sentence_of_the_card_lessens_what_is_unmet():
    def embed(texts):  # the line lies on the card's second sentence, 60 degrees from its first
        assert len(texts) == len(set(texts))
        return np.array([[0.5, 0.75**0.5] if text.startswith("I learn") else [1.0, 0.0] for text in texts], np.float32)

    line = pair("The lever has two arms.", persona=PUPIL)
    (without,), (near,) = p_of(line), p_of(line, embed=embed)
    assert math.log(without / (1 - without)) - math.log(near / (1 - near)) == pytest.approx(UNMET * NEAR * 1.0)


def test_name_tag_before_a_line_is_no_part_of_it():
    assert untagged("Ann Lee: I live here.") == ("I live here.", "Ann Lee")
    assert untagged("I told him: go.") == ("I told him: go.", "")
    speaker = Speaker()
    tagged, plain = Likelihood(speaker).judge([pair("Grace: I live in Osaka."), pair("I live in Osaka.", 2)])
    assert tagged.p_inconsistent == plain.p_inconsistent and speaker.calls == [[(GRACE.card, "I live in Osaka.")]]


def test_all_pairs_are_scored_in_one_call_and_each_card_and_line_once():
    speaker = Speaker()
    Likelihood(speaker).judge([pair("Hello there"), pair("Hello there", 2), pair("Good day", 4)])
    assert speaker.calls == [[(GRACE.card, "Hello there"), (GRACE.card, "Good day")]]


def test_pairs_of_lines_blank_lines_and_unknown_speakers_are_unscored_and_nothing_is_asked_for_them():
    speaker = Speaker()
    unknown, russian = replace(GRACE, card=" "), replace(GRACE, card="Тебя зовут Грейс.")
    rows = Likelihood(speaker).judge(
        [
            pair("Hello", 2, "line_to_line"),
            pair(" \n"),
            pair("Hello", persona=unknown),
            pair("Здравствуйте, Leon"),
            pair("Hello", persona=russian),
        ]
    )
    assert [row.unscored for row in rows] == [
        "scores lines against personas only",
        "empty line",
        "nothing is known of the speaker",
        "most letters of the line are Cyrillic, and this judge reads English",
        "most letters of the persona are Cyrillic, and this judge reads English",
    ]
    assert all(row.verdict is None and row.p_inconsistent is None for row in rows) and speaker.calls == []


@pytest.mark.parametrize("tokens", [[], [-1.0, -math.inf], [math.nan]])
def test_line_without_finite_tokens_is_unscored(tokens):
    (row,) = Likelihood(lambda cards, lines: [tokens for _ in lines]).judge([pair("Hello")])
    assert row.verdict is None and row.unscored.startswith("no finite log-probability")


def test_wrong_number_of_answers_is_refused():
    with pytest.raises(ValueError, match=r"1 lists .* each of 2"):
        Likelihood(lambda cards, lines: [[-1.0]]).judge([pair("Hello"), pair("Good day")])


def test_cards_stay_read_up_to_so_many_tokens_the_last_asked_about_longest(monkeypatch):
    from agents.judge_models import card_likelihood

    class Reader:
        """A token a character; says which cards are open."""

        def __init__(self):
            self.cards, self.read = {}, []

        def info(self):
            form = ChatFormat("", "", "", "")
            return SimpleNamespace(context=1000, format=form)

        def encode(self, texts):
            return [list(text) for text in texts]

        def open(self, prompts, adapter=None):
            self.read += ["".join(prompt).removesuffix(card_likelihood.HEARD) for prompt in prompts]
            first = len(self.read) - len(prompts)
            self.cards |= {first + place: self.read[first + place] for place in range(len(prompts))}
            return list(range(first, len(self.read)))

        def score(self, branches, asked):
            return [[[-1.0] * len(ids) for _, ids in texts] for texts in asked]

        def drop(self, branches):
            for branch in branches:
                del self.cards[branch]

    # room for two cards of one letter
    monkeypatch.setattr(card_likelihood, "KEPT", 2 * (1 + len(card_likelihood.HEARD)))
    reader = Reader()
    judge = card_likelihood.Reference(reader)
    assert judge.logprobs(["a", "b"], ["xy", "x"]) == [[-1.0, -1.0], [-1.0]]
    judge.logprobs(["a"], ["x"])
    judge.logprobs(["c"], ["x"])
    assert reader.read == ["a", "b", "c"] and sorted(reader.cards.values()) == ["a", "c"]


def test_embedded_models_tell_slips_from_ones_own_lines(embedded):
    from agents.judge_models.card_likelihood import Reference
    from agents.judge_models.embedder import Embedder

    heard = "As a fisherman in Halifax I love my dog and the cold sea."
    lines = (
        "As a carpenter in Osaka I love my tortoise.",
        "Thank you for telling me about your dog, Leon.",
        "As a fisherman in Halifax I love the cold sea.",
    )
    lessons = (
        "The lever is a rigid bar that turns on a pivot.",
        "Could you lead me through a play of it? I am the lever!",
    )
    pupil = [pair(line, persona=PUPIL) for line in lessons]
    judge = Likelihood(Reference(embedded).logprobs, Embedder(device="cpu").embed)
    rows = judge.judge([*(pair(line, heard=heard) for line in lines), *pupil])
    own, thanks, slip, lecture, question = (row.p_inconsistent for row in rows)
    assert own < 0.2 and thanks < 0.2 and slip > 0.5
    assert question < 0.2 < lecture
