"""Clean dialogues and what is planted in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics.judges.ledger import Ledger, contradicts_fact, slots_of
from metrics.judges.text.claims import claims
from metrics.validation.planted import (
    ANY,
    DOSES,
    KINDS,
    SEAT,
    WORDINGS,
    clean_dialogues,
    plant,
    planted_contradictions,
    planted_pairs,
    planted_turns,
)
from metrics.validation.planted_words import CLAIMS, IMPLIED, PLAIN, SPOKEN
from scenarios.personas import load_personas

PEOPLE = load_personas(Path(__file__).parents[2] / "scenarios/personas/townsfolk.yaml")
BASE = clean_dialogues(PEOPLE, 6, 40, seed=1)
GRACE = next(persona for persona in PEOPLE if persona.id == "grace")


def changed(dialogue, base) -> set[int]:
    return {line.turn for line, was in zip(dialogue.lines, base.lines, strict=True) if line != was}


def test_clean_dialogue_contradicts_nothing_in_either_form():
    rows = Ledger().judge([pair for dialogue in BASE for pair in planted_pairs(dialogue)])
    assert len(rows) > 1000 and not any(row.verdict for row in rows)
    assert sum(row.against not in ("persona", *map(str, range(40))) for row in rows) > 30, "though much is claimed"


@pytest.mark.parametrize("kind", KINDS)
def test_fault_takes_the_place_of_some_later_lines_of_one_seat_and_of_nothing_else(kind):
    for base in BASE:
        for dose, count in zip(DOSES, (0, 1, 2, 4), strict=True):  # of 10 later lines
            planted = plant(base, kind, dose, PEOPLE, seed=1)
            assert changed(planted, base) == planted.planted and len(planted.planted) == count
            assert all(base.lines[turn].seat == SEAT and turn >= 20 for turn in planted.planted)


@pytest.mark.parametrize("kind", KINDS)
def test_smaller_dose_is_part_of_a_larger_one_word_for_word(kind):
    small, large = (plant(BASE[0], kind, dose, PEOPLE, seed=1) for dose in (0.2, 0.4))
    assert small.planted < large.planted and all(small.lines[turn] == large.lines[turn] for turn in small.planted)
    assert all(small.stated[turn] == large.stated[turn] for turn in small.planted)


def test_every_kind_is_planted_at_the_same_turns():
    assert len({plant(BASE[0], kind, 0.4, PEOPLE, seed=1).planted for kind in KINDS}) == 1


def test_same_seed_plants_the_same_and_another_something_else():
    def once(seed):
        return [plant(dialogue, "persona_swap", 0.4, PEOPLE, seed) for dialogue in clean_dialogues(PEOPLE, 3, 40, seed)]

    assert once(5) == once(5) != once(6)


@pytest.mark.parametrize("kind", [*WORDINGS, "persona_swap"])
def test_planted_fact_is_told_with_a_value_that_is_not_the_speakers(kind):
    for base in BASE:
        own = {fact.id: fact.value for fact in base.cast[SEAT].facts}
        planted = plant(base, kind, 0.4, PEOPLE, seed=1)
        for turn in planted.planted:
            assertions = planted.stated[turn]
            assert assertions and all(
                assertion.value != own[assertion.slot] and assertion.value in planted.lines[turn].text
                for assertion in assertions
            )
            assert {assertion.wording for assertion in assertions} <= set(WORDINGS.get(kind, ANY))
        assert all(stated.value == own[stated.slot] for line in base.own() for stated in base.stated[line.turn]), (
            "and nobody else's before"
        )


def test_lines_that_tell_different_values_of_a_slot_contradict():
    assert all(planted_contradictions(base) == set() for base in BASE)
    planted = plant(BASE[0], "contradicted_fact", 0.1, PEOPLE, seed=1)
    (turn,) = planted.planted
    (fault,) = planted.stated[turn]
    same = {
        line.turn
        for line in planted.own()
        if line.turn != turn and any(assertion.slot == fault.slot for assertion in planted.stated[line.turn])
    }
    assert planted_contradictions(planted) == {(max(turn, other), min(turn, other)) for other in same} and same


def test_ledger_reads_plain_wordings_best_and_implied_ones_least():
    """Implied ones name a value without saying what it is to the speaker."""
    read = {wording: [] for wording in ANY}
    for kind in WORDINGS:
        for base in clean_dialogues(PEOPLE, 24, 40, seed=2):
            planted = plant(base, kind, 0.4, PEOPLE, seed=2)
            rows = Ledger().judge([pair for pair in planted_pairs(planted, 0) if pair.turn in planted.planted])
            for row in rows:
                if row.against == "persona":
                    read[planted.stated[row.turn][0].wording].append(row.verdict)
    shares = {wording: sum(hits) / len(hits) for wording, hits in read.items()}
    assert shares[PLAIN] >= 0.95 and shares[PLAIN] >= shares[SPOKEN] >= 0.8 > 0.4 > shares[IMPLIED], shares
    assert all(len(ways[PLAIN]) >= 2 and len(ways[SPOKEN]) >= 4 and len(ways[IMPLIED]) >= 2 for ways in CLAIMS.values())


def test_parroting_is_the_card_word_for_word():
    planted = plant(BASE[0], "parroting", 0.4, PEOPLE, seed=1)
    assert all(planted.lines[turn].text in planted.cast[SEAT].card for turn in planted.planted)


def test_frame_holds_every_line():
    assert len(planted_turns(BASE)) == 6 * 40 and planted_turns([]).is_empty()


def test_pairs_within_a_window_are_the_nearest():
    near = [pair for pair in planted_pairs(BASE[0], window=2) if pair.metric == "line_to_line"]
    assert len(near) == 1 + 2 * 18 and all(pair.turn - int(pair.against) <= 4 for pair in near)
    assert next(planted_pairs(BASE[0])).heard == BASE[0].lines[0].text


def test_unknown_drift_and_too_few_people_are_refused():
    with pytest.raises(ValueError, match="'boredom'"):
        plant(BASE[0], "boredom", 0.1, PEOPLE, seed=1)
    with pytest.raises(ValueError, match="at least 3"):
        clean_dialogues(PEOPLE[:2], 1, 4, seed=1)


@pytest.mark.parametrize(
    "line",
    [
        "At 20, I moved to Paris.",
        "When I turned 18, I left home.",
        "I turned 30 in Rome.",
        "Here in Lisbon for the week, I feel fine.",
        "My guitar teacher was strict.",
        "Our dog next door barks.",
        "I could eat lasagne every day.",
        "Give me pizza any day.",
        "As a nurse, I would have quit.",
        "Being a nurse must be hard.",
        "I have worked as a nurse.",
        "My sister works here in Lisbon.",
        "I learned the flute at school, but gave it up.",
        "I adopted a dog for my mother.",
        "I was a child in Rome for a while.",
        "My childhood friends live in Oslo.",
        "I am in Paris now, for a wedding.",
    ],
)
def test_line_about_the_past_others_or_a_passing_thing_is_no_claim_about_now(line):
    assert not any(contradicts_fact(claim, GRACE.fact(claim.slot)) for claim in claims(line, slots_of(GRACE)))
