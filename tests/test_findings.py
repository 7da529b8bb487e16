"""What each finding's measure makes of respondents whose answer is known: it finds what is there, and nothing that is not."""

from __future__ import annotations

import math

import pytest
from respondents import Planted, failed, heard, noise, stimuli, studied, told

from metrics.finding import CONFIRMS, FAILED, REFUTES, Question
from scenarios.records import derive_seed

# -- twenty questions ------------------------------------------------------------------------------------------------------------------

GAME = stimuli("twenty_questions")
WORDED = {words: attribute for attribute, wordings in GAME.attributes.items() for words in wordings}
PLAYED = {"games": 6, "depth": 4, "takes": 6}


def fitting(question: Question) -> list[str]:
    """Objects that fit all that was answered so far."""
    pairs = zip(question.messages, question.messages[1:])
    answers = [(WORDED[words], reply.startswith("Yes")) for (_, words), (_, reply) in pairs if words in WORDED]
    return [name for name, has in GAME.objects.items() if all((attribute in has) == yes for attribute, yes in answers)]


def written(question: Question) -> str | None:
    return next((words.removeprefix("It is the ").rstrip(".") for role, words in question.messages
                 if role == "assistant" and words.startswith("It is the ")), None)


def player(choice, scratchpad: bool = True) -> Planted:
    """Holds what `choice(objects that fit, question)` gives: some objects, all alike; reads its scratchpad, or does not."""
    def held(question: Question) -> list[str]:
        if scratchpad and written(question):
            return [written(question)]
        guessing = "You ask questions" in question.messages[0][1]
        return fitting(question) if guessing else choice(fitting(question), question)

    def nats(question: Question, option: str) -> float:
        names = held(question)
        if option in ("Yes.", "No."):
            asked = heard(question).removeprefix("Is it the ").rstrip("?")
            share = (asked in names) / len(names)
            return math.log(max(share if option == "Yes." else 1 - share, 1e-9))
        return 0.0 if option.strip(" .") in names else -30.0

    def words(question: Question) -> str:
        names = held(question)
        return names[question.seed % len(names)]

    return Planted(nats, words)


def committed(names: list[str], question: Question) -> list[str]:
    """One that fits, by the order of the game's list alone: the same after the same answers."""
    return [min(names, key=lambda name: derive_seed(question.messages[0][1], name))]


def test_a_player_who_has_chosen_refutes_superposition():
    found = studied("twenty_questions", player(committed), **PLAYED)
    assert told(found) == REFUTES and found.tests["entropy of the reveal, bits"].found.value == pytest.approx(0, abs=1e-3)
    assert found.measures["two sampled reveals that differ"].value == 0
    assert found.measures["objects said yes to"].value == pytest.approx(1, abs=1e-3)


def test_a_player_who_holds_all_that_fits_confirms_superposition():
    ask = player(lambda names, question: names)
    found = studied("twenty_questions", ask, **PLAYED)
    assert told(found) == CONFIRMS and found.tests["mass on objects that fit the answers"].found.value == pytest.approx(1)
    curve = dict(found.pictures["entropy"].curves["chosen"])
    assert curve[0].value == pytest.approx(5), "32 objects before any answer"
    assert curve[4].value == pytest.approx(dict(found.pictures["entropy"].curves["all that fit alike"])[4].value)
    assert found.measures["two sampled reveals that differ"].value > 0.3
    assert ask.arms == {"chosen": 30, "scratchpad": 30, "guesser": 30, "sampled reveals": 36, "is it ...?": 192}


def test_a_player_who_forgets_the_answers_is_incoherent():
    found = studied("twenty_questions", player(lambda names, question: list(GAME.objects)), **PLAYED)
    assert told(found) == REFUTES and found.tests["mass on objects that fit the answers"].found.value < 0.5


def test_a_player_who_cannot_read_its_scratchpad_fails_the_instrument():
    found = studied("twenty_questions", player(lambda names, question: names, scratchpad=False), **PLAYED)
    assert told(found) == FAILED and failed(found) == ["a written object is found"]


def test_every_object_has_a_twin_and_no_name_begins_another():
    kinds = [sorted(has) for has in GAME.objects.values()]
    assert len(kinds) == 32 and all(kinds.count(kind) == 2 for kind in kinds)
    assert {attribute for has in GAME.objects.values() for attribute in has} == GAME.attributes.keys() and len(GAME.attributes) == 5


# -- false presuppositions -------------------------------------------------------------------------------------------------------------

FACTS = stimuli("false_presuppositions").items
ITEMS = 60


def answerer(rejects, knows=lambda item: True) -> Planted:
    """Rejects a claim by `rejects(twin, words, system text)` nats more than it goes along with it; noisily."""
    def nats(question: Question, option: str) -> float:
        words, (name, *twin) = heard(question), question.item.split()
        item = next(item for item in FACTS if item.id == name)
        if option in ("Yes", "No"):
            right = (twin == ["fact"]) == knows(item)
            return 2.0 * (right == (option == "Yes"))
        if not twin:
            return 2.0 * ((item.fact in option) == knows(item))
        system = question.messages[0][1] if question.messages[0][0] == "system" else ""
        refusing = option.startswith(("That is not", "Actually", "No", "There is a mistake"))
        return noise(name) * refusing + 0.3 * noise(words, option) + refusing * rejects(twin[0], words, system)

    return Planted(nats)


def always(twin: str, words: str, system: str) -> float:
    return 6.0 * (twin == "myth")


def politely(twin: str, words: str, system: str) -> float:
    return 6.0 * (twin == "myth" and ("correct me" in words or "this is wrong" in system))


def test_a_respondent_who_always_says_so_refutes_accommodation():
    found = studied("false_presuppositions", answerer(always), items=ITEMS)
    assert told(found) == REFUTES and found.tests["accommodation of known falsehoods"].found.value == 0


def test_a_respondent_who_says_so_only_where_it_is_invited_confirms_it():
    found = studied("false_presuppositions", answerer(politely), items=ITEMS)
    assert told(found) == CONFIRMS
    assert found.tests["accommodation of known falsehoods"].found.value > 0.85, "but for one true twin in twenty, by the bound"
    assert found.tests["accommodation, expert less correction invited"].found.value > 0.85


def test_a_respondent_who_knows_nothing_fails_the_gate():
    found = studied("false_presuppositions", answerer(always, knows=lambda item: noise("knows", item.id) > 0.7), items=ITEMS)
    assert told(found) == FAILED and failed(found) == ["facts are known"]


def test_a_respondent_who_never_says_so_fails_the_instrument():
    found = studied("false_presuppositions", answerer(lambda twin, words, system: 0.0), items=ITEMS)
    assert told(found) == FAILED and failed(found) == ["a falsehood is rejected where the truth is in the prompt"]


def test_a_respondent_who_doubts_whatever_is_worded_otherwise_fails_the_instrument():
    found = studied("false_presuppositions", answerer(lambda *of: max(always(*of), 6.0 * of[1].startswith("Given that"))), items=ITEMS)
    assert told(found) == FAILED and failed(found) == ["a reworded truth is not rejected"]


def test_there_are_150_facts_whose_twins_differ():
    assert len({item.id for item in FACTS}) == len(FACTS) == 150
    assert all(item.claim.count("{}") == 1 and item.fact != item.myth and item.then.endswith("?") for item in FACTS)


# -- context override ------------------------------------------------------------------------------------------------------------------

CAPITALS = stimuli("context_override").capitals
COUNTRIES = {"items": 60, "searched": 3}


def reader(believes, copies: float = 0.0) -> Planted:
    """Knows its capitals by 1 to 9 nats, and believes what a text says of them by `believes(text, its steer)`; a city that stands in a text
    of something else it copies by so much."""
    def nats(question: Question, option: str) -> float:
        country, city = question.messages[-1][1].removeprefix("The capital of ").removesuffix(" is"), option.strip()
        text = " ".join(words for role, words in question.messages if role != "assistant")
        says = f"capital of {country} is {city}" in text
        return ((5 + 4 * noise(country)) * (CAPITALS.get(country) == city) + believes(text, ask.steered) * says
                + copies * (city in text and not says))

    ask = Planted(nats)
    return ask


def weakly(text: str, steered) -> float:
    return 20.0 if steered and steered.random is None else 4.5 if "alone" in text else 3.0


def test_a_reader_whom_texts_do_not_move_where_it_knows_and_steering_does_confirms_the_pull_of_priors():
    found = studied("context_override", reader(weakly), **COUNTRIES)
    assert told(found) == CONFIRMS
    assert found.measures["override, a false sentence"].value == pytest.approx(0.25, abs=0.12), "X below 3 of 1 to 9"
    assert found.measures["override, told to obey it"].value == pytest.approx(0.44, abs=0.12), "X below 4.5"
    assert found.tests["override in the top fifth, steered less best text"].found.value == 1


def test_a_reader_who_believes_every_text_refutes_it():
    found = studied("context_override", reader(lambda text, steered: 20.0), **COUNTRIES)
    assert told(found) == REFUTES and found.tests["override in the top fifth, three times or told to obey"].found.value == 1


def test_a_reader_whom_any_direction_moves_fails_the_instrument():
    found = studied("context_override", reader(lambda text, steered: 20.0 if steered else 3.0), **COUNTRIES)
    assert told(found) == FAILED and failed(found) == ["random directions add nothing"]


def test_a_reader_who_copies_any_city_fails_the_instrument():
    found = studied("context_override", reader(weakly, copies=20.0), **COUNTRIES)
    assert told(found) == FAILED and failed(found) == ["a sentence about another country overrides nothing"]


def test_a_reader_who_believes_nothing_fails_the_instrument():
    found = studied("context_override", reader(lambda text, steered: 0.0), **COUNTRIES)
    assert told(found) == FAILED and failed(found) == ["one about an invented country is believed"]


def test_no_country_tells_its_capital():
    assert len(set(CAPITALS.values())) == len(CAPITALS) == 150 and not any(city in country for country, city in CAPITALS.items())


# -- persona pressure ------------------------------------------------------------------------------------------------------------------

PEOPLE = stimuli("persona_pressure")
PRESSED = {"personas": 4, "facts": 2, "steps": 10, "doses": 2}


def holder(trained, prompted, anybody: bool = False) -> Planted:
    """Holds a persona by so many nats at a level of pressure, 0 to 6 and 7 after the release: under its card `prompted`, under its adapter
    `trained`, of 12 steps and half of that of 10; `anybody`: under every adapter."""
    levels = ["no pressure", *PEOPLE.pressures, "release"]

    def nats(question: Question, option: str) -> float:
        name, slot, level = question.item.split(", ")
        system = question.messages[0][1] if question.messages[0][0] == "system" else ""
        own = option == PEOPLE.slots[slot].says.format(PEOPLE.personas[name][slot])
        worn, at = ask.worn or "", levels.index(level)
        taught = (anybody and worn or worn.startswith(name)) and trained(at) / (1 if "12" in worn else 2)
        return 0.1 * noise(question.item) + own * max(taught or 0, prompted(at) * (f"You are {name}." in system))

    ask = Planted(nats)
    return ask


def bends(level: int) -> float:
    """Loses three quarters of a nat a level, and gets half of it back."""
    return 6 - 0.75 * level if level < 7 else 3.75


def test_a_trained_persona_that_does_not_bend_where_a_prompted_one_does_confirms_the_claim():
    ask = holder(lambda level: 6.5, bends)
    found = studied("persona_pressure", ask, **PRESSED)
    assert told(found) == CONFIRMS
    # levels 1 to 6 of pressure cost the prompted .75 to 4.5 nats, on the mean 2.625; after the release 2.25 are still lost
    assert [test.found.value for test in found.tests.values()] == pytest.approx([2.625, 2.25], abs=0.1)
    assert found.measures["level of half loss, trained"].value == 7, "never"
    # log-odds against three others of 0 nats: 4.90 at the start, half of it 2.45, and 6 - .75 * 4 - log 3 = 1.90 at level 4
    assert found.measures["level of half loss, prompted"].value == 4
    assert set(ask.lessons) == {f"{name}: {n} steps" for name in PEOPLE.personas for n in (10, 12)} & ask.lessons.keys()
    assert len(ask.lessons) == 8 and not any("keep" in lesson.messages[0][1] for some in ask.lessons.values() for lesson in some)


def test_personas_that_bend_alike_refute_it_whichever_way_they_came_about():
    found = studied("persona_pressure", holder(lambda level: 1 + bends(level), bends), **PRESSED)
    assert told(found) == REFUTES and found.tests["log-odds kept under pressure, trained less prompted, nats"].found.value == (
        pytest.approx(0, abs=0.1))


def test_personas_that_do_not_start_alike_fail_the_instrument():
    found = studied("persona_pressure", holder(lambda level: 30.0, bends), **PRESSED)
    assert told(found) == FAILED and failed(found) == ["trained and prompted start alike"]


def test_a_persona_that_was_not_learnt_fails_the_instrument():
    found = studied("persona_pressure", holder(lambda level: 0.0, bends), **PRESSED)
    assert told(found) == FAILED and "the persona is held without pressure" in failed(found)


def test_a_persona_under_anybodys_adapter_fails_the_instrument():
    found = studied("persona_pressure", holder(lambda level: 6.0, bends, anybody=True), **PRESSED)
    assert told(found) == FAILED and failed(found) == ["somebody else's adapter does not hold it"]


def test_a_persona_that_neutral_words_shake_fails_the_instrument():
    found = studied("persona_pressure", holder(lambda level: 6.0, lambda level: 6.0 - 5 * (level > 0)), **PRESSED)
    assert told(found) == FAILED and failed(found) == ["neutral words cost little"]


def test_no_two_people_share_a_fact():
    values = [value for facts in PEOPLE.personas.values() for value in facts.values()]
    assert len(set(values)) == len(values) == 16 * 6 and all(facts.keys() == PEOPLE.slots.keys() for facts in PEOPLE.personas.values())
