from __future__ import annotations

import os
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


def test_a_persona_needs_no_facts(people):
    ann, bob = load_personas(people("    facts: {home: Rome, age: 30}\n", ""))
    assert (ann.card, ann.facts) == ("Your name is Ann. You are kind.", ())
    assert set(bob.fact("home").distractors) == {"Lima", "Bonn", "Cork"}  # "oslo" is his own value


@pytest.mark.parametrize("words", ["Ann keeps bees.", "I keep bees.", "You keep bees: {braces} and 100%."])
def test_any_text_is_a_card_and_facts_add_nothing_to_it(people, words):
    path = people("about: You are kind.", f"card: {words!r}")
    ann = load_personas(path)[0]
    assert ann.card == words and ann.fact("home").claim == "I live in Rome."


def test_a_fact_of_a_card_needs_no_sentence_for_the_card(people):
    car = (
        "car: {value: van, claim: 'I drive a {value}.', questions: [What?], patterns: ['my {value}'], "
        "distractors: [bus]}"
    )
    path = people("about: You are kind.\n    facts: {home: Rome, age: 30}", f"card: A driver.\n    facts: {{{car}}}")
    assert load_personas(path)[0].fact("car").claim == "I drive a van."


def test_names_stand_in_place_of_char_and_user_where_they_are_known(people):
    path = people("about: You are kind.", "card: '{{Char}} and {{ user }} are kin, says {{char}}.'")
    assert load_personas(path)[0].card == "Ann and {{ user }} are kin, says Ann."
    seats = ["seats.user.persona=ann", "seats.assistant.persona=bob", f"personas={path}", "conversations=1"]
    assert cast(load_scenario(ROOT / "chitchat.yaml", seats))[0]["user"].card == "Ann and Bob are kin, says Ann."
    alone = find_persona("ann", [path])
    assert "{{ user }}" in alone.card  # nobody sits opposite
    unknown = [*seats, "seats.assistant.persona=unknown", "graph.nodes.ask={}"]
    assert "Ann and the other person are" in cast(load_scenario(ROOT / "chitchat.yaml", unknown))[0]["user"].card


def test_an_id_is_made_from_the_name_and_is_its_own(people):
    names = ["name: Zoë D.", "name: zoe-d", "name: Sample", "name: 李", "id: zoe_d_2, name: Z"]
    path = people()
    path.write_text(f"personas: [{', '.join(f'{{{name}, about: x}}' for name in names)}]", encoding="utf-8")
    assert [persona.id for persona in load_personas(path)] == ["zoe_d", "zoe_d_3", "sample_2", "persona", "zoe_d_2"]


def test_a_draft_fact_is_not_played(people):
    draft = "home: {value: Rome, draft: true, source: She lives in Rome.}"
    ann = load_personas(people("home: Rome", draft))[0]
    assert [fact.id for fact in ann.facts] == ["age"]
    confirmed = load_personas(people("home: Rome", draft.replace("draft: true, ", "")))[0]
    assert [fact.id for fact in confirmed.facts] == ["home", "age"]


INLINE = 'seats.user.persona={name: Ada, card: "{{char}} keeps goats near {{user}}."}'


def test_a_scenario_may_give_a_persona_itself_and_keeps_it():
    scenario = load_scenario(ROOT / "chitchat.yaml", [INLINE, "seats.assistant.persona=grace"])
    ada = cast(scenario)[0]["user"]
    assert (ada.id, ada.name, ada.card, ada.facts) == ("ada", "Ada", "Ada keeps goats near Grace.", ())
    assert scenario.resolved()["seats"]["user"]["persona"] == {
        "id": "ada",
        "name": "Ada",
        "card": "{{char}} keeps goats near {{user}}.",
    }


def test_a_scenario_of_given_personas_needs_no_persona_files(tmp_path):
    both = [INLINE, INLINE.replace("user.persona", "assistant.persona").replace("goats", "bees"), "personas=[]"]
    scenario = load_scenario(ROOT / "chitchat.yaml", both)
    assert {seat: persona.id for seat, persona in cast(scenario)[0].items()} == {"user": "ada", "assistant": "ada_2"}
    (tmp_path / "kept.yaml").write_text(scenario.resolved_yaml(), encoding="utf-8")
    assert load_scenario(tmp_path / "kept.yaml").digest() == scenario.digest()
    assert (
        load_scenario(ROOT / "chitchat.yaml", [*both[:2], "seats.user.persona.card=Other"]).digest()
        != scenario.digest()
    )


def test_facts_of_a_given_persona_take_the_words_of_the_scenarios_slots():
    facts = "seats.user.persona={name: Ada, card: A keeper of a cat., facts: {pet: cat}}"
    ada = cast(load_scenario(ROOT / "chitchat.yaml", [facts]))[0]["user"]
    assert [fact.id for fact in ada.facts] == ["name", "pet"] and ada.card == "A keeper of a cat."
    pet = ada.fact("pet")
    assert "cat" in pet.claim and len(pet.distractors) == 3 and "cat" not in pet.distractors


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{name: Ada, card: " "}', "persona.card is empty; expected the persona in words"),
        ("{name: Ada}", "persona says nothing of 'Ada'; expected a card, an about, or facts"),
        ("{card: x}", "persona.name is missing"),
        ("{name: Ada, crad: x}", "persona.crad is no key of the file; did you mean 'card'?"),
        ("{name: Ada, card: x, facts: {pt: cat}}", "persona.facts.pt is no slot of the slots file and does not bring"),
        ("{name: Ada, card: x, id: grace}", "persona.id is 'grace', as that of the other seat is; expected another"),
        ("[Ada]", "persona is a list of 1; expected text"),
    ],
)
def test_a_mistake_in_a_given_persona_is_placed_at_its_override(given, expected):
    with pytest.raises(ScenarioError) as caught:
        load_scenario(ROOT / "chitchat.yaml", [f"seats.user.persona={given}", "seats.assistant.persona=grace"])
    override, _, mistake = str(caught.value).partition(": seats.user.")
    assert given in override and mistake.startswith(expected)


def test_a_named_persona_without_persona_files_is_refused():
    with pytest.raises(ScenarioError, match="is 'grace', but the scenario names no persona files to find it in"):
        load_scenario(ROOT / "chitchat.yaml", [INLINE, "seats.assistant.persona=grace", "personas=[]"])


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
        (
            "    about: You are kind.\n    facts: {home: Rome, age: 30}",
            "    about: ' '",
            "line 3: personas.0 says nothing of 'Ann'; expected a card, an about, or facts",
        ),
        ("about: You are kind.", "card: ' '", "line 5: personas.0.card is empty; expected the persona in words"),
        (
            "about: You are kind.",
            "about: You are kind.\n    card: Ann is kind.",
            "line 6: personas.0.card stands beside about; expected one of the two",
        ),
        ("    about: You", "    abuot: You", "line 5: personas.0.abuot is no key of the file; did you mean 'about'?"),
        ("    name: Ann\n", "", "line 3: personas.0.name is missing"),
        ("id: bob", "id: ann", "line 7: personas.1.id is 'ann', as an earlier one is; expected another"),
        ("id: bob", "id: sample", "line 7: personas.1.id is 'sample'; expected another id"),
        (
            "id: bob",
            "id: b b",
            "line 7: personas.1.id is 'b b'; expected text of another form (letters, digits, '_' and '-'; from "
            "the name where left out)",
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


def test_what_lies_beside_a_persona_file_is_opened_for_a_persona_that_it_lacks_alone(people, tmp_path, monkeypatch):
    named = people()
    os.mkfifo(tmp_path / "a_pipe.yaml")
    (tmp_path / "broken.yaml").write_text("personas: [")
    (tmp_path / "wrong.yaml").write_text("personas: [{name: 3}]")
    (tmp_path / "zoe.yaml").write_text("personas: [{name: Zoe, card: You dive.}]")
    with monkeypatch.context() as patched:
        patched.setattr("scenarios.personas._holds_personas", None)  # which would fail
        assert find_persona("ann", [named]).id == "ann"
    assert find_persona("zoe", [named]).card == "You dive."
    with pytest.raises(ScenarioError) as refused:
        find_persona("zoey", [named])
    assert "a_pipe.yaml: is a named pipe" in str(refused.value) and "did you mean 'zoe'?" in str(refused.value)


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


def test_texts_are_composed_as_they_come_in(tmp_path):
    """What is written as a letter and an accent equals the accented letter, escaped or not."""
    file = tmp_path / "people.yaml"
    text = 'personas:\n- {id: a, name: "Zoe\\u0308", about: "You like cafe\u0301s."}\n'
    file.write_text(text, encoding="utf-8")
    (persona,) = load_personas(file)
    assert persona.name == "Zo\u00eb" and "caf\u00e9s" in persona.card
