"""What a sweep's axes do to a measure, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.stats.effects import coded, interaction, response

HOW = {"confidence": 0.95}
CELLS = {(0, 0): 0.2, (1, 0): 0.4, (0, 1): 0.5, (1, 1): 0.9}


def rows(cells, talks=3):
    """(values, clusters, first, second): every cell in each of the conversations, which differ by 0.01 each."""
    cell_rows = [(value + 0.01 * talk, talk, *place) for place, value in cells.items() for talk in range(talks)]
    return (np.array(column) for column in zip(*cell_rows, strict=True))


def test_response_is_the_mean_over_all_that_was_scored_at_a_level():
    means = response([1.0, 0.0, 0.5], [1, 3, 2], ["a", "b", "a"], ["hot", "hot", "cold"], **HOW)
    assert means["hot"].value == pytest.approx(1 / 4) and means["hot"].n == 2  # (1 * 1 + 3 * 0) / (1 + 3)
    assert means["cold"].value == 0.5 and np.isnan(means["cold"].low)  # one conversation has no interval


def test_response_is_marginal_over_the_other_axes():
    values, clusters, first, _ = rows(CELLS)
    means = response(values, np.ones(len(values)), clusters, first, **HOW)
    assert means[0].value == pytest.approx((0.2 + 0.5) / 2 + 0.01) and means[1].value == pytest.approx(
        (0.4 + 0.9) / 2 + 0.01
    )


def test_interaction_of_two_levels_each_is_the_difference_of_differences():
    values, clusters, first, second = rows(CELLS)
    interval = interaction(values, np.ones(len(values)), clusters, first, second, **HOW)
    assert interval.value == pytest.approx((0.9 - 0.5) - (0.4 - 0.2)) and interval.n == 12  # 0.2
    # the same in all conversations, which share their draws
    assert interval.low == pytest.approx(interval.value) == interval.high


def test_axes_that_add_up_have_none():
    values, clusters, first, second = rows({(a, b): 0.1 + 0.3 * a - 0.05 * b for a in (0, 0.5, 1) for b in (0, 1)})
    assert interaction(values, np.ones(len(values)), clusters, first, second, **HOW).value == pytest.approx(0, abs=1e-9)


def test_interaction_recovers_the_product_term_of_drawn_values():
    rng = np.random.default_rng(0)
    u, v = rng.random(200), rng.random(200)
    interval = interaction(
        1 + 2 * u - v + 0.7 * u * v + rng.normal(0, 0.05, 200), np.ones(200), np.arange(200) % 20, u, v, **HOW
    )
    assert interval.low < 0.7 < interval.high and interval.value == pytest.approx(0.7, abs=0.2)


def test_where_a_corner_is_empty_there_is_no_interaction_to_tell():
    cells = {place: value for place, value in CELLS.items() if place != (1, 1)}
    values, clusters, first, second = rows(cells)
    assert np.isnan(interaction(values, np.ones(len(values)), clusters, first, second, **HOW).value)


def test_numbers_are_coded_by_their_place_and_words_by_their_ends():
    assert coded([0.2, 0.8, 1.4]) == pytest.approx([0, 0.5, 1]) and coded(
        [1e-4, 1e-3, 1e-2], logarithmic=True
    ) == pytest.approx([0, 0.5, 1])
    assert coded(["bare", "reminder", "both", "bare"]) == [0, None, 1, 0] and coded([True, False]) == [0, 1]
