"""Clean dialogues and what is planted in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics.judges.ledger import Ledger
from metrics.planted import DOSES, KINDS, SEAT, clean, pairs, plant, turns_frame
from scenarios.personas import load_personas

PEOPLE = load_personas(Path(__file__).parents[1] / "scenarios/personas/townsfolk.yaml")
BASE = clean(PEOPLE, 6, 40, seed=1)


def changed(dialogue, base) -> set[int]:
    return {line.turn for line, was in zip(dialogue.lines, base.lines, strict=True) if line != was}


def test_clean_dialogue_contradicts_nothing_in_either_form():
    rows = Ledger().judge([pair for dialogue in BASE for pair in pairs(dialogue)])
    assert len(rows) > 1000 and not any(row.verdict for row in rows)
    assert sum(row.against not in ("persona", *map(str, range(40))) for row in rows) > 40, "though much is claimed"


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


def test_every_kind_is_planted_at_the_same_turns():
    assert len({plant(BASE[0], kind, 0.4, PEOPLE, seed=1).planted for kind in KINDS}) == 1


def test_same_seed_plants_the_same_and_another_something_else():
    def once(seed):
        return [plant(dialogue, "persona_swap", 0.4, PEOPLE, seed) for dialogue in clean(PEOPLE, 3, 40, seed)]

    assert once(5) == once(5) != once(6)


def test_contradicted_fact_claims_another_value_and_swap_is_someone_not_present():
    for base in BASE:
        values = {fact.value for fact in base.cast[SEAT].facts}
        for kind in ("contradicted_fact", "persona_swap"):
            planted = plant(base, kind, 0.4, PEOPLE, seed=1)
            rows = Ledger().judge([pair for pair in pairs(planted) if pair.turn in planted.planted and pair.metric == "prompt_to_line"])
            assert all(row.verdict for row in rows if row.against == "persona"), [planted.lines[turn].text for turn in planted.planted]
        assert values


def test_parroting_is_the_card_word_for_word():
    planted = plant(BASE[0], "parroting", 0.4, PEOPLE, seed=1)
    assert all(planted.lines[turn].text in planted.cast[SEAT].card for turn in planted.planted)


def test_frame_holds_every_line():
    assert len(turns_frame(BASE)) == 6 * 40 and turns_frame([]).is_empty()


def test_pairs_within_a_window_are_the_nearest():
    near = [pair for pair in pairs(BASE[0], window=2) if pair.metric == "line_to_line"]
    assert len(near) == 1 + 2 * 18 and all(pair.turn - int(pair.against) <= 4 for pair in near)
    assert next(pairs(BASE[0])).heard == BASE[0].lines[0].text


def test_unknown_drift_and_too_few_people_are_refused():
    with pytest.raises(ValueError, match="'boredom'"):
        plant(BASE[0], "boredom", 0.1, PEOPLE, seed=1)
    with pytest.raises(ValueError, match="at least 3"):
        clean(PEOPLE[:2], 1, 4, seed=1)
