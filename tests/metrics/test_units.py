"""Conversations or people as the units of intervals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from metrics.measure import measure_run
from metrics.stats.intervals import clustered_slope
from metrics.stats.shares import clustered_share
from metrics.units import PEOPLE, fewest, units_text, with_units

LINES = 4


def run(people: list[str], host: list[str] | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turns and judgements of a run in which these people sit in the user's seat, one in each conversation."""
    hosts = host or [f"host {c}" for c in range(len(people))]
    turns = [
        {"conversation": c, "turn": 2 * t + at, "seat": seat, "persona": who, "node": "talk", "text": "x"}
        for c, both in enumerate(zip(people, hosts, strict=True))
        for t in range(LINES)
        for at, (seat, who) in enumerate(zip(("user", "assistant"), both, strict=True))
    ]
    rng = np.random.default_rng(4)
    judgements = [
        {key: line[key] for key in ("conversation", "turn", "seat")}
        | {"metric": "prompt_to_line", "judge": "ledger", "against": "persona", "unscored": None}
        | {"p_inconsistent": 0.0, "verdict": bool(rng.random() < 0.4)}
        for line in turns
    ]
    return pl.DataFrame(turns), pl.DataFrame(judgements, schema_overrides={"unscored": pl.String})


def rows(turns: pl.DataFrame, judgements: pl.DataFrame) -> dict[tuple[str, str], dict]:
    """By metric and seat over the run."""
    metrics = measure_run(turns, judgements, metrics=["prompt_to_line", "drift"], window=2, confidence=0.95)
    over_run = metrics.filter(pl.col("level") == "run")
    return {(row["metric"], row["seat"]): row for row in over_run.iter_rows(named=True)}


def test_people_who_sit_in_several_conversations_are_the_units():
    people = [f"person {c % PEOPLE}" for c in range(3 * PEOPLE)]
    turns, judgements = run(people)
    found = rows(turns, judgements)
    mine = judgements.filter(pl.col("seat") == "user")
    bad, conversations = mine["verdict"].cast(pl.Float64).to_numpy(), mine["conversation"].to_numpy()
    who = np.array(people)[conversations]
    share = clustered_share(1 - bad, who)
    assert (found["prompt_to_line", "user"]["low"], found["prompt_to_line", "user"]["high"]) == pytest.approx(
        (share.low, share.high)
    )
    slope = clustered_slope(mine["turn"].to_numpy(), bad, who, centred=conversations)
    row = found["global_drift_slope", "user"]
    assert (row["value"], row["low"]) == pytest.approx((slope.value, slope.low))
    assert found["p_global_drift_slope", "user"]["n"] == PEOPLE
    assert found["p_global_drift_slope", "assistant"]["n"] == 3 * PEOPLE, "each host sits once"
    assert fewest(turns) == PEOPLE
    assert units_text(turns) == (
        "The units of intervals are 6 people, who sit in 18 conversations for the user and 18 conversations for the "
        "assistant."
    )


def test_conversations_are_the_units_where_nobody_or_hardly_anybody_sits_twice():
    once, _ = run([f"person {c}" for c in range(8)])
    assert with_units(once, once) is once and fewest(once) == 8
    assert units_text(once) == "The units of all intervals are 8 conversations."
    same, _ = run(["ada"] * 8, ["host"] * 8)
    assert with_units(same, same) is same and fewest(same) == 8
    assert units_text(same) == "The units of all intervals are 8 conversations of 1 person alone."
    assert units_text(once.clear()) == "" and fewest(once.clear()) == 0
