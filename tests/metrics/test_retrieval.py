"""Which pairs of lines are judged: by vectors written down here, and with the real encoder on planted
contradictions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agents.judge_models.embedder import Embedder
from metrics.consistency import judged_pairs
from metrics.judges.pair_retrieval import candidates
from metrics.validation.planted import SEAT, clean_dialogues, plant, planted_contradictions
from scenarios.personas import load_personas

PEOPLE = load_personas(Path(__file__).parents[2] / "scenarios/personas/townsfolk.yaml")
HOW = {"confidence": 0.95}


def by_topic(texts):
    """Unit vectors: one axis for homes, one for pets, one for the rest."""
    axes = [0 if "live" in text else 1 if "keep" in text else 2 for text in texts]
    return np.eye(3)[axes]


def of_last(lines, share=0.4) -> list[int]:
    """What the last line is held against."""
    return [earlier for later, earlier in candidates(lines, by_topic, share=share) if later == len(lines) - 1]


def test_nearest_is_chosen_and_where_nothing_is_near_the_line_before():
    lines = ["I live in Oslo.", "I keep a dog.", "Hello.", "It rains.", "We sing.", "I live in Bergen."]
    assert of_last(lines) == [0], "the other home, though there is room for two"
    assert of_last(lines[:1]) == [] and of_last(lines[:2], share=0.01) == [0] and of_last(lines[:3]) == [1]


def test_lines_are_as_near_as_their_nearest_statements_about_the_speaker():
    lines = [
        "How are you? I live in Oslo. It rains.",
        "I keep a dog.",
        "Where do you live?",
        "Hello.",
        "I hum.",
        "Oh! I live in Bergen. Bye.",
    ]
    assert of_last(lines) == [0], "a question about homes states nothing"


def test_lines_near_any_statement_are_chosen_the_later_of_equals_first():
    lines = [
        *(f"I keep {number} dogs." for number in range(4)),
        "I live in Oslo.",
        "Hello?",
        "Bye.",
        "I keep a cat. I live in Bergen.",
    ]
    # int(0.3 x 28 pairs) - 6 chosen = 2
    assert of_last(lines, share=0.3) == [3, 4]


def test_what_says_the_same_again_is_left_out_unless_one_denies_it():
    lines = [
        "I live in Bergen.",
        *["I live in Oslo.", "Now I live in Oslo."] * 3,
        "It rains.",
        "I really live in Oslo.",
    ]
    assert of_last(lines, share=0.5) == [0]
    assert of_last([*lines[:-1], "I do not live in Oslo."], share=0.6) == [0, 1, 2, 3, 4, 5, 6]


def test_what_small_talk_leaves_is_spent_later_and_the_share_holds_at_every_line():
    lines = ["Does it rain?"] * 20 + [f"I live in town number {number}." for number in range(20)]
    pairs = candidates(lines, by_topic)
    by_line = np.bincount([later for later, _ in pairs], minlength=40)
    assert by_line[:20].tolist() == [0] + [1] * 19, "only the line before"
    assert (
        all(by_line[: n + 1].sum() <= max(n, 0.2 * n * (n + 1) / 2) for n in range(40)) and by_line[29] == 9 > 0.2 * 29
    )


@pytest.mark.parametrize("share", [0, 1.1])
def test_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        candidates(["I am.", "I was."], by_topic, share=share)


def test_all_pairs_are_chosen_for_a_share_of_one():
    assert len(candidates(["I a.", "I b.", "I c.", "I d."], by_topic, share=1.0)) == 6


def kept(dialogue, embed, persona) -> tuple[int, int, int, int]:
    """Planted contradictions that are among the chosen pairs, all of them, chosen pairs, all pairs."""
    turns = [line.turn for line in dialogue.own()]
    chosen = {
        (turns[later], turns[earlier])
        for later, earlier in candidates([line.text for line in dialogue.own()], embed, persona)
    }
    contradicting = planted_contradictions(dialogue)
    return len(contradicting & chosen), len(contradicting), len(chosen), len(turns) * (len(turns) - 1) // 2


@pytest.mark.parametrize(
    ("turns", "kind", "dose", "least"),
    [
        (40, "contradicted_fact", 0.4, 0.95),
        pytest.param(80, "contradicted_fact", 0.2, 0.95, marks=pytest.mark.slow),
        pytest.param(80, "implied_fact", 0.2, 0.95, marks=pytest.mark.slow),
        pytest.param(100, "persona_swap", 0.1, 0.9, marks=pytest.mark.slow),
    ],
)
def test_a_fifth_of_the_pairs_holds_nearly_all_planted_contradictions(one_thread, turns, kind, dose, least):
    """Whatever a judge would make of them: all pairs of lines that tell different values of a slot, said or implied.
    The lines of a persona swap tell two values each.
    """
    embed = Embedder(device="cpu").embed
    dialogues = [plant(dialogue, kind, dose, PEOPLE, seed=3) for dialogue in clean_dialogues(PEOPLE, 8, turns, seed=3)]
    retained, known, judged, possible = np.sum(
        [kept(each_dialogue, embed, each_dialogue.cast[SEAT]) for each_dialogue in dialogues], axis=0
    )
    assert known >= 20 and retained / known >= least and judged / possible <= 0.2, (retained, known, judged, possible)
    assert np.sum([kept(each_dialogue, embed, None) for each_dialogue in dialogues], axis=0)[0] < retained, (
        "the facts of the persona help"
    )


def test_share_of_judged_pairs_is_reported_of_all_pairs_of_those_lines():
    rows = [(0, 2, "0"), (0, 4, "2"), (0, 6, "4"), (0, 6, "0"), (1, 2, "0")]  # 4 of the 6 pairs of 4 lines, and 1 of 1
    judged = pl.DataFrame(
        [
            {
                "conversation": c,
                "turn": turn,
                "seat": "user",
                "metric": "line_to_line",
                "judge": "ledger",
                "against": against,
                "verdict": False,
            }
            for c, turn, against in rows
        ]
    )
    row = judged_pairs(judged, **HOW).row(0, named=True)
    assert row["value"] == pytest.approx(5 / 7) and row["n"] == 7 and row["metric"] == "judged_pairs"
