"""Swapping a seat's settings in mid-dialogue, with speakers whose words are known."""

from __future__ import annotations

import json
import subprocess

import polars as pl
import pytest
from commands import LONG, inside, only, turns

from lab import attribute as command
from lab import run
from lab.runs.attribution import attribute, beginning, scenarios

TALK = [
    'seats.user.script=["What weather!"]',
    'seats.assistant.script=["Really?"]',
    "seats.user.persona=grace",
    "conversations=2",
    "turns=9",
    "measure.judge=ledger",
    "measure.metrics=[prompt_to_line]",
]
DENIES = 'seats.user.script=["I live in Krakow."]'  # Grace does not
HOSTS = 'seats.assistant.script=["Oh."]'


def swap(*arguments: object) -> subprocess.CompletedProcess:
    return inside(command.main, *arguments)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    done = inside(run.main, LONG, *TALK, "--runs", runs, "--address", "none", "--display", "none")
    assert done.returncode == 0, done.stderr
    return only(runs)


@pytest.mark.usefixtures("unreported")
def test_drift_is_attributed_to_the_seat_that_was_changed(stored):
    done = swap(stored, "--turn", 4, DENIES, HOSTS, "--address", "none", "--display", "none")
    assert done.returncode == 0, done.stderr
    out = stored / "swap-t4"
    attribution = json.loads((out / "attribution.json").read_text())
    arms = {arm: out / name for arm, name in attribution["arms"].items()}
    assert len(set(arms.values())) == 4 and attribution["turn"] == 4
    for arm, path in arms.items():
        said, was = turns(path).filter(pl.col("seat") == "user"), turns(stored).filter(pl.col("seat") == "user")
        assert said.filter(pl.col("turn") < 4)["text"].to_list() == was.filter(pl.col("turn") < 4)["text"].to_list()
        assert ("I live in Krakow." in said["text"].to_list()) == (arm[0] == "B")
    # from turn 4 on the user denies her home in every line of arms BA and BB, and in none of the others
    of_user = {row["effect"]: row for row in attribution["rows"] if row["lines"] == "user"}
    assert of_user["user"]["inconsistency"] == {"AA": 0.0, "AB": 0.0, "BA": 1.0, "BB": 1.0}
    assert [of_user[effect]["value"] for effect in ("user", "assistant", "interaction")] == [1.0, 0.0, 0.0]
    assert attribution["user"]["value"] > 0 == attribution["assistant"]["value"] and attribution["user"]["n"] == 2
    assert of_user["user"]["scored"] == dict.fromkeys(("AA", "AB", "BA", "BB"), of_user["user"]["scored"]["AA"])
    assert (
        "inconsistency added" in done.stdout
        and "from turn 4 on" in done.stdout
        and "+1.000 [+1.000, +1.000]" in done.stdout
    )


def test_arms_that_are_the_same_scenario_are_one(stored):
    arms = scenarios(stored, [DENIES])
    assert arms["AA"].digest() == arms["AB"].digest() != arms["BA"].digest() == arms["BB"].digest()


def test_lines_of_someone_else_are_judged_again(stored):
    same, other = (scenarios(stored, [change])["BB"] for change in (DENIES, "seats.user.persona=tomas"))
    assert {event["event"] for event in beginning(stored, 4, same)} == {"line", "judged"}
    assert {event["event"] for event in beginning(stored, 4, other)} == {"line"}
    assert {event["turn"] for event in beginning(stored, 4, same)} == {0, 1, 2, 3}


def test_unscored_lines_and_lines_before_the_swap_are_in_no_effect(stored):
    def rows(verdict):
        lines = [(0, 2, True), (0, 4, verdict), (0, 6, None), (1, 4, False)]
        return pl.DataFrame(
            [
                {
                    "conversation": c,
                    "turn": turn,
                    "seat": "user",
                    "metric": "prompt_to_line",
                    "judge": "ledger",
                    "against": "persona",
                    "verdict": contradicts,
                }
                for c, turn, contradicts in lines
            ]
        )

    arms = {"AA": rows(False), "AB": rows(False), "BA": rows(True), "BB": rows(False)}
    effects = {row["effect"]: row for row in attribute(stored, arms, 4, confidence=0.9) if row["lines"] == "user"}
    # y: BA 1 of 2, the others 0 of 2: user (.5 + 0) / 2, assistant (0 - .5) / 2, interaction -.5 - 0
    assert [effects[effect]["value"] for effect in ("user", "assistant", "interaction")] == [0.25, -0.25, -0.5]


def test_what_cannot_be_swapped_is_refused_in_one_sentence(stored):
    with pytest.raises(ValueError, match="'seed=9' is of no seat"):
        scenarios(stored, ["seed=9"])
    with pytest.raises(ValueError, match="nothing was changed"):
        scenarios(stored, [])
    with pytest.raises(ValueError, match="turn 9: expected 1 to 8"):
        beginning(stored, 9, scenarios(stored, [DENIES])["AA"])
    done = swap(stored, "--turn", 4, "turns=3")
    assert done.returncode == 2 and done.stderr.startswith("lab.attribute: ") and done.stderr.count("\n") == 1
