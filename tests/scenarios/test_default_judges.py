"""Which judges a scenario has where it names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.scenario import default_judges, load_scenario

CHITCHAT = Path(__file__).parents[2] / "scenarios/chitchat.yaml"
ADA, BEN = "seats.user.persona={name: Ada, card: A pilot.}", "seats.assistant.persona={name: Ben, card: A cook.}"


@pytest.mark.parametrize(
    ("overrides", "judges"),
    [
        ([], ["ledger"]),
        ([ADA], ["ledger", "combined"]),
        ([ADA, BEN], ["combined"]),
        ([ADA, BEN, "measure.judge=nli"], ["nli"]),
        ([ADA, "seats.assistant.persona=unknown"], ["combined"]),
    ],
)
def test_judges_follow_from_the_personas_where_none_is_named(overrides, judges):
    assert load_scenario(CHITCHAT, overrides).measure.judge == judges


def test_without_any_card_it_is_the_judge_that_reads_pairs_of_any_lines():
    assert default_judges([]) == ["combined"]
