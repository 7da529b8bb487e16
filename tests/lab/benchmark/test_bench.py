"""The bench's two ways of doing the same work must come to the same numbers, or a ratio of their speeds means
nothing.
"""

from __future__ import annotations

import pytest
import tiny

from lab.benchmark import engine
from lab.benchmark.work import Sizes, _ceilings, _engine, _notebook

SIZES = Sizes(
    dialogues=2,
    lines=3,
    tokens=6,
    decode=((1, 16), (3, 16)),
    steps=3,
    facts=2,
    options=3,
    rounds=2,
    scored=6,
    long=18,
    reread=(1, 10),
)


@pytest.fixture(scope="module")
def figures() -> dict:
    loaded = tiny.engine(tiny.plain(tiny.llama())).loaded
    return engine.combine(
        {"ceilings": _ceilings(loaded, SIZES), "engine": _engine(loaded, SIZES), "generate": _notebook(loaded, SIZES)},
        quick=True,
    )


def test_both_ways_come_to_the_same_log_probabilities(figures):
    assert figures["questions"]["largest_difference_nats"] < 1e-3
    assert figures["scoring"]["largest_difference_nats"] < 1e-3


def test_the_engine_computes_each_token_once_and_the_notebook_many_times(figures):
    """3 lines, 2 dialogues: the notebook reads 120 + 6k tokens at line k and the engine each of them once."""
    dialogue = figures["dialogue"]
    assert dialogue["engine_computed_over_new"] <= 1.0
    # read 120, 126, 132 and 5 each decoded; new: two cards of 120 and three lines of 6 in both views
    assert dialogue["generate_computed_over_new"] == pytest.approx((120 + 126 + 132 + 3 * 5) / (240 + 36))
    assert figures["questions"]["computed_over_new"] <= 1.15


def test_every_figure_is_there_for_every_size(figures):
    assert [(row["batch"], row["context"]) for row in figures["decode"]] == [(1, 16), (3, 16)]
    assert all(
        row["ratio"] == pytest.approx(row["engine_tokens_per_s"] / row["generate_tokens_per_s"])
        for row in figures["decode"]
    )
    assert len(figures["long"]["seconds"]) == 18
    assert figures["dialogue"]["engine_tokens_per_s"] > 0 < figures["ceilings"]["read_bytes_per_s"]
