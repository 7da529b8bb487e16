"""A persona that is only a card, given in the scenario: played, resumed, forked, scored, exported, shown."""

from __future__ import annotations

import json

import polars as pl
import pytest
import yaml
from commands import NOBODY_TALKS, inside, only

import lab.export
import lab.fork
import lab.report
import lab.run
import lab.score
import lab.watch
from lab.results.load import load_run

CARD = 'seats.user.persona={name: Ada, card: "{{char}} is a retired pilot. She keeps goats and plays with {{user}}."}'
RUN = ["scenarios/chitchat.yaml", *NOBODY_TALKS, CARD, "turns=8", "measure.qa_every=4"]
QUIET = ("--address", "none", "--display", "none")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    runs = tmp_path_factory.mktemp("cards")
    done = inside(
        lab.run.main, *RUN, "measure.metrics=[prompt_to_line, line_to_line, qa, drift]", "--runs", runs, *QUIET
    )
    assert done.returncode == 0, done.stderr
    return only(runs), done.stderr


def test_the_card_is_kept_in_the_runs_scenario(played):
    kept = yaml.safe_load((played[0] / "scenario.yaml").read_text())["seats"]["user"]["persona"]
    assert kept["id"] == "ada" and kept["card"].startswith("{{char}} is a retired pilot")


def test_what_cannot_be_scored_is_told_and_unscored(played):
    run, told = played
    assert "seats.user: Ada has no facts" in told and "graph.nodes: ask: " in told
    rows = load_run(run).judgements.filter(pl.col("seat") == "user")
    assert rows.height and rows["verdict"].null_count() == rows.height
    assert set(rows["unscored"]) == {"the persona has no facts"}
    report = (run / "report.md").read_text()
    assert "| Q&amp;A: answers right | multiple\\_choice | no facts |" in report


def test_a_run_of_it_is_resumed(played):
    done = inside(lab.run.main, "--resume", played[0], *QUIET)
    assert done.returncode == 0, done.stderr


def test_a_run_of_it_is_forked_and_the_card_may_change_there(played, tmp_path):
    at = ("--conversation", 0, "--turn", 2, "--samples", 1, "--runs", tmp_path, *QUIET)
    done = inside(lab.fork.main, played[0], *at, "seats.user.persona.card=A sailor.")
    assert done.returncode == 0 and "Ada has no facts" in done.stderr, done.stderr
    assert yaml.safe_load((only(tmp_path) / "scenario.yaml").read_text())["seats"]["user"]["persona"] == {
        "id": "ada",
        "name": "Ada",
        "card": "A sailor.",
    }


def test_a_run_of_it_is_exported_with_the_filled_card(played, tmp_path):
    done = inside(lab.export.main, played[0], "--format", "messages", "--out", tmp_path / "chats.jsonl")
    assert done.returncode == 0, done.stderr
    cards = [json.loads(line)["personas"]["user"] for line in (tmp_path / "chats.jsonl").read_text().splitlines()]
    partners = [line.partition(" plays with ")[2] for line in cards]
    assert len(cards) == 2 and all(card.startswith("Ada is a retired pilot.") for card in cards)
    assert all(partner.istitle() for partner in partners)


def test_a_run_of_it_is_scored_watched_and_compared(played, tmp_path):
    scored = inside(lab.score.main, played[0], "--judge", "ledger", "--out", tmp_path / "scores")
    assert scored.returncode == 0 and "unscored, prompt-to-line" in scored.stdout, scored.stderr
    shown = inside(lab.watch.main, played[0], "--speed", "max", "--display", "plain")
    assert shown.returncode == 0 and "user ada" in shown.stdout, shown.stderr
    compared = inside(lab.report.main, played[0], tmp_path / "scores", "--out", tmp_path / "compared")
    assert compared.returncode == 0, compared.stderr
