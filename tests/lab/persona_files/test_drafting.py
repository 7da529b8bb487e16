"""Draft facts: what the rules read in a card, what they leave, and that nobody plays a draft."""

from __future__ import annotations

import json

import pytest
import yaml

from lab.persona_files.drafting import conflicts, statements_of, with_drafts
from lab.persona_files.reading import PersonasRead, as_yaml
from lab.personas import main
from scenarios.persona_schema import PersonaSpec
from scenarios.personas import load_personas

ADA = (
    "Ada is a 34-year-old baker who lives in Bergen. She has two sisters and a cat. She loves skiing and tea, but "
    "hates fog. She cannot swim. My favorite food is pizza."
)
BO = "I am 52 years old. I live in Ohio with my wife. I work as a nurse. I grew up in Kansas. I own a red truck."


def person(card: str, name: str = "Ada") -> PersonaSpec:
    return PersonaSpec(id=name.lower(), name=name, card=card)


def read(*people: PersonaSpec) -> PersonasRead:
    return PersonasRead(people, "jsonl", (), ())


def values(card: str) -> dict[str, str]:
    return {statement.kind.slot: statement.value for statement in statements_of(person(card, "Nobody"))}


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (ADA, {"age": "34", "home": "Bergen", "job": "a baker", "sisters": "two sisters", "pet": "a cat"}),
        (ADA, {"likes_skiing": "love", "likes_tea": "love", "likes_fog": "hate", "can_swim": "cannot"}),
        (ADA, {"favourite_food": "pizza"}),
        (BO, {"age": "52", "home": "Ohio", "job": "a nurse", "origin": "Kansas", "has_a_red_truck": "own"}),
        ("You are a retired ferry pilot. You keep goats.", {"job": "a retired ferry pilot", "pet": "goats"}),
        ("A watchmaker who enjoys jazz", {"job": "a watchmaker", "likes_jazz": "enjoy"}),
        ("{{char}} works as a tram driver.", {"job": "a tram driver"}),
        ("I don't like cold soup.", {"likes_cold_soup": "don't like"}),
    ],
)
def test_statements_are_read_in_any_person(card, expected):
    assert expected.items() <= values(card).items()


@pytest.mark.parametrize(
    "card",
    [
        "I am a vegetarian and a good listener.",
        "Do I live in Oslo?",
        "The village has two churches.",
        "I like it when you smile.",
        "I am thrilled. I can be shy.",
        "Curious, dry, fond of long silences.",
    ],
)
def test_what_no_rule_reads_gives_no_fact(card):
    assert values(card) == {}


def test_a_draft_has_its_source_and_others_values_and_is_not_played(tmp_path):
    drafted, lines = with_drafts(read(person(ADA), person(BO, "Bo")))
    facts = drafted.people[0].facts
    assert all(fact.draft and fact.source in ADA for fact in facts.values())
    assert facts["age"].distractors == ["52"] and facts["job"].distractors == ["a nurse"]
    assert facts["likes_fog"].distractors == ["love", "like", "enjoy"] and len(facts["likes_fog"].questions) == 2
    assert facts["name"].distractors == ["Bo"] and facts["name"].source.startswith("Ada is")
    assert "none is played until you remove its 'draft: true'" in lines[0]
    path = tmp_path / "people.yaml"
    path.write_text(as_yaml(drafted, "x"))
    assert [persona.facts for persona in load_personas(path)] == [(), ()]
    data = yaml.safe_load(path.read_text())
    for given in data["personas"]:
        for fact in given["facts"].values():
            del fact["draft"]
    path.write_text(yaml.safe_dump(data))
    ada, _ = load_personas(path)
    assert ada.fact("home").claim == "I live in Bergen." and ada.fact("can_swim").options[0] == "I cannot swim."
    assert {fact.id for fact in ada.facts} == facts.keys() and ada.card == ADA


def test_the_same_drafts_are_made_every_time():
    people = read(*(person(f"I am {age} years old.", f"P{age}") for age in range(20, 40)))
    first, again = with_drafts(people)[0], with_drafts(people)[0]
    assert first == again
    wrong = [given.facts["age"].distractors for given in first.people]
    assert all(len(set(values)) == 3 for values in wrong) and len(set(map(tuple, wrong))) > 5
    assert all(given.facts["age"].value not in given.facts["age"].distractors for given in first.people)


def test_facts_that_are_there_stay_and_those_outside_the_card_are_told():
    spec = PersonaSpec.model_validate(
        {"id": "ada", "name": "Ada", "card": "Ada is 34 years old.", "facts": {"age": "35", "home": "Bergen"}}
    )
    drafted, lines = with_drafts(read(spec))
    assert drafted.people[0].facts["age"].value == "35" and not drafted.people[0].facts["age"].draft
    assert "facts that are not in the card: Ada: age, home" in lines


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("You are 40. You are 41 years old.", "'You are 40.' and 'You are 41 years old.'"),
        ("I like tea. I hate tea.", "'I like tea.' and 'I hate tea.'"),
        ("My favourite colour is red. My favorite colour is blue.", "is red.' and 'My favorite colour is blue.'"),
    ],
)
def test_a_card_that_contradicts_itself_is_told_and_gives_no_such_fact(card, told):
    [sentence] = conflicts(person(card))
    assert sentence.startswith("the card of Ada contradicts itself: ") and told in sentence
    assert values(card) == {}


def test_two_homes_jobs_and_pets_are_no_contradiction():
    card = "I live in Norway. I live in Oslo. I am a baker. I am a singer. I have a cat. I have two dogs. I love tea."
    assert conflicts(person(card)) == []


def test_the_command_drafts_and_says_so(tmp_path, capsys):
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps({"persona": card}) + "\n" for card in (ADA, BO)))
    assert main([str(path), "--facts", "--out", str(tmp_path / "people.yaml")]) == 0
    assert "draft facts, of which none is played" in capsys.readouterr().err
    assert (tmp_path / "people.yaml").read_text().count("draft: true") > 10


def test_long_cards_are_read_in_time():
    card = "I have a cat, a dog and " * 8000 + "x" * 50_000
    assert len(statements_of(person(card))) < 5
