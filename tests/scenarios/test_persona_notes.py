"""What is told of the personas before a run is played."""

from __future__ import annotations

from pathlib import Path

from scenarios.persona_notes import persona_notes
from scenarios.scenario import load_scenario

CHITCHAT = Path(__file__).parents[2] / "scenarios" / "chitchat.yaml"


def notes(*overrides: str) -> list[str]:
    return persona_notes(load_scenario(CHITCHAT, ["conversations=1", *overrides]))


def test_there_is_nothing_to_tell_of_the_townsfolk():
    assert notes("conversations=30") == []


def test_a_seat_without_facts_and_what_is_left_out_for_it_are_told():
    ada = "seats.user.persona={name: Ada, card: A pilot.}"
    unscored, left_out = notes(ada)
    assert unscored == "seats.user: Ada has no facts, so there is nothing to ask in Q&A; judged by combined"
    assert notes(ada, "measure.judge=[ledger,nli]")[0] == (
        "seats.user: Ada has no facts, so there is nothing to ask in Q&A; judged by ledger, nli; the ledger leaves "
        "every line unscored"
    )
    assert left_out == (
        "graph.nodes: ask: where the user has no facts, the assistant is not instructed to speak of one"
    )


def test_facts_outside_the_card_are_told_in_one_sentence():
    [note] = notes("seats.user.persona={name: Ada, card: Ada has a cat., facts: {pet: cat, home: Bergen, age: 30}}")
    assert note == "ada: facts that are not in the card: age (30), home (Bergen)"


def test_drafts_and_shared_names_are_told(tmp_path):
    people = tmp_path / "people.yaml"
    people.write_text(
        "personas:\n"
        "  - {name: Ada, card: A., facts: {pet: {value: cat, draft: true}}}\n"
        "  - {name: Ada, card: B.}\n"
        "  - {name: Bo, card: C.}\n"
    )
    told = notes(f"personas={people}", "seats.user.persona=ada", "seats.assistant.persona=bo")
    assert "ada: 1 draft fact is not played until 'draft: true' is removed" in told
    assert f"{people}: several personas share a name: Ada (ada, ada_2)" in told
