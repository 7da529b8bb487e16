"""What counts as a consistent answer in the dialogues of an arm."""

from __future__ import annotations

import polars as pl
from respondents import dialogues

from metrics.studies.dialogue_arms import ANSWERS, arm_consistency
from metrics.studies.protocol import PlayedRun


def test_empty_answers_are_no_right_ones_and_what_is_asked_before_anything_is_said_does_not_count():
    played = dialogues(2, 2, lambda person, line, metric: line == 0)
    empty = (pl.col("turn") == 3) & (pl.col("judge") == "answer_reader")
    rows = played.judgements.with_columns(
        verdict=pl.when(empty).then(None).otherwise("verdict"), unscored=pl.when(empty).then(pl.lit("empty answer"))
    )
    assert (
        arm_consistency(PlayedRun(played.turns, rows, played.metrics), ANSWERS).value == 0.0
        and arm_consistency(played, ANSWERS).value == 0.5
    )
    early = played.judgements.with_columns(turn=pl.when(pl.col("turn") == 1).then(0).otherwise("turn"))
    assert arm_consistency(PlayedRun(played.turns, early, played.metrics), ANSWERS).value == 1.0
