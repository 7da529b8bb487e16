"""Which pairs of lines are judged: by vectors written down here, and with the real encoder on planted contradictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agents.embedder import Embedder
from metrics.judges.ledger import Ledger
from metrics.line_to_line import judged_pairs
from metrics.planted import clean, pairs, plant
from metrics.retrieval import candidates
from scenarios.personas import load_personas

PEOPLE = load_personas(Path(__file__).parents[1] / "scenarios/personas/townsfolk.yaml")
HOW = {"confidence": 0.95, "resamples": 100, "seed": 7}


def by_topic(texts):
    """Unit vectors: one axis for homes, one for pets, one for the rest."""
    axes = [0 if "live" in text else 1 if "keep" in text else 2 for text in texts]
    return np.eye(3)[axes]


def of_last(lines, share=0.4) -> list[int]:
    """What the last line is held against."""
    return [earlier for later, earlier in candidates(lines, by_topic, share) if later == len(lines) - 1]


def test_line_before_is_always_chosen_and_then_the_nearest():
    lines = ["I live in Oslo.", "I keep a dog.", "Hello.", "It rains.", "We sing.", "I live in Bergen."]
    assert of_last(lines) == [0, 4], "the line before, and the other home; nothing else is near"
    assert of_last(lines[:1]) == [] and of_last(lines[:2], share=0.01) == [0]


def test_lines_are_as_near_as_their_nearest_statements_about_the_speaker():
    lines = ["How are you? I live in Oslo. It rains.", "I keep a dog.", "Where do you live?", "Hello.", "I hum.", "Oh! I live in Bergen. Bye."]
    assert of_last(lines) == [0, 4], "a question about homes states nothing"


def test_each_statement_of_a_line_chooses_in_turn():
    lines = [*(f"I keep {number} dogs." for number in range(4)), "I live in Oslo.", "Hello?", "Bye.", "I keep a cat. I live in Bergen."]
    assert set(of_last(lines, share=0.5)) >= {3, 4, 6}


def test_what_says_the_same_again_is_left_out_unless_one_denies_it():
    lines = ["I live in Bergen.", *["I live in Oslo.", "Now I live in Oslo."] * 3, "It rains.", "I really live in Oslo."]
    assert of_last(lines, share=0.5) == [0, 7]
    assert of_last([*lines[:-1], "I do not live in Oslo."], share=0.6) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_what_small_talk_leaves_is_spent_later_and_the_share_holds_at_every_line():
    lines = ["Does it rain?"] * 20 + [f"I live in town number {number}." for number in range(20)]
    found = candidates(lines, by_topic)
    by_line = np.bincount([later for later, _ in found], minlength=40)
    assert by_line[:20].tolist() == [0] + [1] * 19, "only the line before"
    assert all(by_line[: n + 1].sum() <= max(n, 0.2 * n * (n + 1) / 2) for n in range(40)) and by_line[29] == 9 > 0.2 * 29


@pytest.mark.parametrize("share", [0, 1.1])
def test_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        candidates(["I am.", "I was."], by_topic, share)


def test_all_pairs_are_chosen_for_a_share_of_one():
    assert len(candidates(["I a.", "I b.", "I c.", "I d."], by_topic, 1.0)) == 6


@pytest.mark.parametrize(("turns", "kind", "dose"), [(80, "contradicted_fact", 0.2), (120, "contradicted_fact", 0.1), (100, "persona_swap", 0.1)])
def test_a_fifth_of_the_pairs_holds_nearly_all_contradictions_of_long_dialogues(one_thread, turns, kind, dose):
    embed = Embedder(device="cpu").embed
    found = known = judged = possible = 0
    for dialogue in clean(PEOPLE, 4, turns, seed=3):
        dialogue = plant(dialogue, kind, dose, PEOPLE, seed=3)
        own = dialogue.own()
        place = {line.turn: number for number, line in enumerate(own)}
        rows = Ledger().judge([pair for pair in pairs(dialogue) if pair.metric == "line_to_line"])
        contradictions = {(place[row.turn], place[int(row.against)]) for row in rows if row.verdict}
        chosen = set(candidates([line.text for line in own], embed))
        found, known = found + len(contradictions & chosen), known + len(contradictions)
        judged, possible = judged + len(chosen), possible + len(own) * (len(own) - 1) // 2
    assert known >= 20 and found / known >= 0.95 and judged / possible <= 0.2, (found, known, judged, possible)


def test_share_of_judged_pairs_is_reported_of_all_pairs_of_those_lines():
    rows = [(0, 2, "0"), (0, 4, "2"), (0, 6, "4"), (0, 6, "0"), (1, 2, "0")]  # 4 of the 6 pairs of 4 lines, and 1 of 1
    judged = pl.DataFrame([{"conversation": c, "turn": turn, "seat": "user", "metric": "line_to_line", "judge": "ledger", "against": against,
                            "verdict": False} for c, turn, against in rows])
    found = judged_pairs(judged, **HOW).row(0, named=True)
    assert found["value"] == pytest.approx(5 / 7) and found["n"] == 7 and found["metric"] == "judged_pairs"
