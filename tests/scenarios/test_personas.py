from __future__ import annotations

import re
from pathlib import Path

import pytest

from scenarios.personas import cast, find_persona, load_personas, load_slots
from scenarios.scenario import load_scenario
from scenarios.yaml_files import ScenarioError

ROOT = Path(__file__).parents[2] / "scenarios"
SLOTS, TOWNSFOLK, ASSISTANTS = (ROOT / "personas" / f"{name}.yaml" for name in ("slots", "townsfolk", "assistants"))
SLOT_IDS = ["name", "age", "job", "home", "origin", "pet", "dish", "instrument"]
PEOPLE = """\
slots: slots.yaml
personas:
  - id: ann
    name: Ann
    about: You are kind.
    facts: {home: Rome, age: 30}
  - id: bob
    name: Bob
    facts: {home: Oslo, age: 40}
"""
WORDS = """\
slots:
  home:
    claim: "I live in {value}."
    card: "You live in {value}."
    questions: ["Where do you live?"]
    patterns: ["I live in {value}"]
    values: [Lima, Bonn, oslo, Cork]
  age:
    claim: "I am {value}."
    card: "You are {value}."
    questions: ["How old are you?"]
    patterns: ["I am {value}"]
    values: [20, 25]
"""


@pytest.fixture
def people(tmp_path):
    """Writes a persona file and its slots, one text replaced by another, and returns the persona file's path."""

    def write(old: str = "", new: str = "", slots: str = WORDS) -> Path:
        assert old in PEOPLE
        (tmp_path / "slots.yaml").write_text(slots, encoding="utf-8")
        path = tmp_path / "people.yaml"
        path.write_text(PEOPLE.replace(old, new, 1) if old else PEOPLE, encoding="utf-8")
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_personas(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_card_is_name_then_about_then_a_sentence_a_fact_in_the_slots_order(people):
    ann, bob = load_personas(people())
    assert ann.card == "Your name is Ann. You are kind. You live in Rome. You are 30."
    assert bob.card == "Your name is Bob. You live in Oslo. You are 40."
    assert [fact.id for fact in ann.facts] == ["home", "age"]


def test_numbers_are_values_in_digits(people):
    age = load_personas(people())[0].fact("age")
    assert (age.value, age.claim) == ("30", "I am 30.")


def test_slot_values_are_the_personas_first_then_the_extras_each_once(people):
    home = load_personas(people())[0].fact("home")
    assert home.slot.values == ("Rome", "Oslo", "Lima", "Bonn", "Cork")  # "oslo" is "Oslo" again


def test_distractors_are_the_others_values_filled_up_from_the_extras(people):
    ann, bob = load_personas(people())
    home, age = ann.fact("home"), ann.fact("age")
    assert home.distractors[0] == "Oslo"
    assert len(home.distractors) == 3 and set(home.distractors[1:]) < {"Lima", "Bonn", "Cork"}
    assert set(age.distractors) == {"40", "20", "25"}  # all there are
    assert home.options[0] == "I live in Rome."
    assert "Oslo" not in bob.fact("home").distractors


def test_distractors_are_other_personas_values_where_there_are_enough():
    everyone = load_personas(TOWNSFOLK)
    for slot in SLOT_IDS:
        values = {persona.fact(slot).value for persona in everyone}
        for persona in everyone:
            fact = persona.fact(slot)
            assert len(set(fact.distractors)) == 3
            assert set(fact.distractors) <= values - {fact.value}


def test_distractors_are_the_same_at_every_load_and_differ_between_personas():
    first, second = load_personas(TOWNSFOLK), load_personas([TOWNSFOLK, ASSISTANTS])
    assert first == second[: len(first)]
    assert len({persona.fact("age").distractors for persona in first}) > len(first) // 2


def test_fact_in_full_needs_no_slot(people):
    car = (
        "car: {value: van, claim: 'I drive a {value}.', card: 'You drive a {value}.', questions: ['What do you "
        "drive?'], patterns: ['I drive a {value}'], distractors: [bus, tram]}"
    )
    ann = load_personas(people("{home: Rome, age: 30}", "{home: Rome, " + car + "}"))[0]
    fact = ann.fact("car")
    assert (fact.claim, fact.question, fact.distractors) == ("I drive a van.", "What do you drive?", ("bus", "tram"))
    assert fact.slot.values == ("van", "bus", "tram")
    assert ann.card.endswith("You live in Rome. You drive a van.")


def test_fact_may_replace_some_words_of_its_slot(people):
    fact = load_personas(people("home: Rome", "home: {value: Rome, card: 'Home is {value}.', distractors: [Bath]}"))[
        0
    ].fact("home")
    assert fact.slot.card == "Home is {value}."
    assert fact.claim == "I live in Rome."
    assert fact.distractors == ("Bath",)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "home: Rome",
            "hme: Rome",
            "line 6: personas.0.facts.hme is no slot of the slots file and does not bring claim, card, questions, "
            "patterns, distractors; did you mean 'home'?",
        ),
        ("home: Rome", "home: no", "line 6: personas.0.facts.home.value is false; expected text (in quotes"),
        ("home: Rome", "Home: Rome", "line 6: personas.0.facts.Home is 'Home'; expected text of another form"),
        (
            "home: Rome",
            "home: {value: Rome, claim: I live here}",
            "line 6: personas.0.facts.home.claim is 'I live here'; expected exactly one {value}",
        ),
        (
            "home: Rome",
            "home: {value: Rome, clam: x}",
            "line 6: personas.0.facts.home.clam is no key of the file; did you mean 'claim'?",
        ),
        (
            "home: Rome",
            "home: {value: Rome, distractors: [Rome]}",
            "line 6: personas.0.facts.home is 'Rome', the only known value",
        ),
        (
            "home: Rome",
            "home: {value: Rome, distractors: [Bath, rome]}",
            "line 6: personas.0.facts.home.distractors repeats a value",
        ),
        ("home: Rome", "persona: Rome", "line 6: personas.0.facts.persona is 'persona'; expected another id"),
        ("{home: Rome, age: 30}", "{}", "line 6: personas.0.facts is empty; expected at least one fact"),
        ("    about: You", "    abuot: You", "line 5: personas.0.abuot is no key of the file; did you mean 'about'?"),
        ("    name: Ann\n", "", "line 3: personas.0.name is missing"),
        ("id: bob", "id: ann", "line 7: personas.1.id is 'ann', as an earlier one is; expected another"),
        ("id: bob", "id: sample", "line 7: personas.1.id is 'sample'; expected another id"),
        (
            "id: bob",
            "id: b b",
            "line 7: personas.1.id is 'b b'; expected text of another form (letters, digits, '_' and '-')",
        ),
        ("slots.yaml", "slot.yaml", "line 1: slots is 'slot.yaml'; expected the path of a file"),
    ],
)
def test_mistake_is_one_sentence_with_file_line_and_key(people, old, new, expected):
    assert f"people.yaml, {expected}" in refusal(people(old, new))


def test_mistake_in_the_slots_file_is_named_by_that_file(people):
    message = refusal(people(slots=WORDS.replace("You live in {value}.", "You live in {place}.")))
    assert "slots.yaml, line 4: slots.home.card is 'You live in {place}.'; expected exactly one {value}" in message


def test_own_name_fact_must_be_the_name(people):
    words = (
        WORDS + '  name: {claim: "I am {value}.", card: "You are {value}.", questions: ["Who?"], patterns: ["I am '
        '{value}"]}\n'
    )
    assert load_personas(people(slots=words))[0].fact("name").value == "Ann"
    message = refusal(people("home: Rome", "name: Anne, home: Rome", slots=words))
    assert "line 6: personas.0.facts.name is 'Anne', but the persona is called 'Ann'" in message


def test_same_id_in_two_files_is_refused(people, tmp_path):
    people()
    (tmp_path / "more.yaml").write_text(PEOPLE)
    with pytest.raises(ScenarioError, match=r"more.yaml: holds persona 'ann', which .*people.yaml holds too"):
        load_personas([tmp_path / "people.yaml", tmp_path / "more.yaml"])


def test_persona_is_found_in_the_other_files_of_the_folder():
    assert find_persona("radio_host", [TOWNSFOLK]).name == "Stella"
    assert find_persona("grace", [TOWNSFOLK]).name == "Grace"


def test_named_file_goes_before_its_neighbours(people, tmp_path):
    path = people()
    (tmp_path / "a_first.yaml").write_text(PEOPLE.replace("home: Rome", "home: Bonn"))
    assert find_persona("ann", [path]).fact("home").value == "Rome"


def test_scenario_beside_the_personas_is_not_taken_for_a_persona_file(people, tmp_path):
    path = people()
    (tmp_path / "scenario.yaml").write_text("personas: people.yaml\n")
    with pytest.raises(ScenarioError, match=r"is 'an', which is no persona; did you mean 'ann'?"):
        find_persona("an", [path])


def test_cast_seats_named_personas_and_draws_the_rest_without_replacement():
    scenario = load_scenario(ROOT / "long_dialogue.yaml", ["conversations=28"])
    casts = cast(scenario)
    assert {seats["assistant"].id for seats in casts} == {"radio_host"}
    assert len({seats["user"].id for seats in casts}) == 28 == len(load_personas(TOWNSFOLK))


def test_cast_reshuffles_once_everybody_was_drawn():
    ids = [seats["user"].id for seats in cast(load_scenario(ROOT / "long_dialogue.yaml", ["conversations=56"]))]
    assert sorted(ids[:28]) == sorted(ids[28:])
    assert ids[:28] != ids[28:]


def test_cast_is_the_same_for_a_seed_and_longer_casts_start_the_same():
    few = cast(load_scenario(ROOT / "chitchat.yaml"))
    many = cast(load_scenario(ROOT / "chitchat.yaml", ["conversations=40"]))
    other = cast(load_scenario(ROOT / "chitchat.yaml", ["seed=12"]))
    assert many[: len(few)] == few
    assert other != few


def test_cast_never_seats_a_persona_opposite_itself():
    casts = cast(load_scenario(ROOT / "chitchat.yaml", ["conversations=300"]))
    assert all(seats["user"].id != seats["assistant"].id for seats in casts)
    casts = cast(load_scenario(ROOT / "chitchat.yaml", ["conversations=100", "seats.assistant.persona=grace"]))
    assert all(seats["user"].id != "grace" for seats in casts)


def test_cast_without_a_choice_is_refused(people):
    path = people("  - id: bob\n    name: Bob\n    facts: {home: Oslo, age: 40}\n", "")
    with pytest.raises(ScenarioError, match="personas holds 1 personas, too few to draw 2"):
        load_scenario(ROOT / "chitchat.yaml", [f"personas={path}"])


def test_bundled_personas_have_every_slot_and_unlike_ids():
    townsfolk, assistants = load_personas(TOWNSFOLK), load_personas(ASSISTANTS)
    assert len(townsfolk) >= 24
    assert [p.id for p in assistants] == [
        "radio_host",
        "tutor",
        "therapist",
        "librarian",
        "travel_agent",
        "fitness_coach",
    ]
    for persona in (*townsfolk, *assistants):
        assert [fact.id for fact in persona.facts] == SLOT_IDS
        assert persona.fact("home").value != persona.fact("origin").value
        assert persona.card.startswith(f"Your name is {persona.name}. You ")
        for fact in persona.facts:
            assert fact.value in persona.card


def test_bundled_values_are_known_to_the_slots_file_so_that_any_file_recognises_them():
    slots = load_slots(SLOTS)
    for persona in load_personas([TOWNSFOLK, ASSISTANTS]):
        for fact in persona.facts:
            assert fact.value in slots[fact.id].values


@pytest.mark.parametrize("slot", SLOT_IDS)
def test_no_bundled_value_holds_another_as_a_word(slot):
    values = [value.casefold() for value in load_slots(SLOTS)[slot].values]
    assert len(values) == len(set(values))
    assert not [(a, b) for a in values for b in values if a != b and re.search(rf"(?<!\w){re.escape(a)}(?!\w)", b)]


def test_bundled_slots_offer_enough_words():
    slots = load_slots(SLOTS)
    assert list(slots) == SLOT_IDS
    for slot in slots.values():
        assert len(slot.questions) >= 2 and len(set(slot.questions)) == len(slot.questions)
        assert len(slot.patterns) >= 10 and len(set(slot.patterns)) == len(slot.patterns)
        assert not any("'" in pattern for pattern in slot.patterns)  # full forms
    assert min(len(slots[s].values) for s in ("job", "home", "origin")) >= 60
    assert min(len(slots[s].values) for s in ("pet", "dish", "instrument")) >= 40
