"""What each finding's measure makes of respondents whose answer is known: it finds what is there, and nothing that is not."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from respondents import SEED, Planted, failed, heard, noise, stimuli, studied, told

from metrics.finding import CONFIRMS, FAILED, INCONCLUSIVE, REFUTES, Question
from metrics.findings.motivated_reasoning import _table
from metrics.invented import familiar, hits, invented
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


# -- prompt ceiling --------------------------------------------------------------------------------------------------------------------

CEILING = stimuli("prompt_ceiling")
SEARCHED = {"facts": 150, "takes": 2, "budget": 120, "taught": 20, "steps": 1, "thought": 1}
TRUE = {item.relation.asked.format(item.subject): item for item in [*invented(CEILING, SEED, 150), *familiar(CEILING, SEED, 450)]}


def ceiling(knows=lambda question, item: False, reads: bool = True) -> Planted:
    """Prefers some options to others whatever is asked; knows what it reads or has been taught, and what `knows(question, item)`."""
    def nats(question: Question, option: str) -> float:
        asked = question.messages[-2][1]
        item = TRUE.get(question.item)  # none where nobody is asked of
        told = item and (reads and item.told in asked or ask.worn and item.told in [one.reply for one in ask.lessons[ask.worn]])
        known = 4.0 * bool(item and option.strip() == item.options[0] and (told or knows(question, item)))
        return 3 * noise("liking", option) + bool(item) * noise(asked, option, question.messages[0][1]) + known

    ask = Planted(nats, lambda question: f"You are proposal {question.seed}.")
    return ask


def system_of(question: Question) -> str:
    return question.messages[0][1] if question.messages[0][0] == "system" else ""


def test_who_knows_only_what_it_is_told_confirms_the_ceiling_of_prompts():
    ask = ceiling()
    found = studied("prompt_ceiling", ask, **SEARCHED)
    assert told(found) == CONFIRMS and found.tests["accuracy of the best prompt on invented facts, over chance"].found.n == 100
    assert found.measures["invented, fact in context, over chance"].value == pytest.approx(0.75)
    held = sorted(invented(CEILING, SEED, 150)[50:], key=lambda item: item.relation.stem)
    assert [one.reply for one in ask.lessons["lessons"]] == [item.told for item in held[:20]]


def test_a_prompt_that_adds_knowledge_refutes_the_ceiling_and_is_found():
    found = studied("prompt_ceiling", ceiling(lambda question, item: "encyclopedia" in system_of(question)), **SEARCHED)
    assert told(found) == REFUTES and "“You are an encyclopedia" in found.reading


def test_familiar_facts_that_a_prompt_recalls_are_told_from_luck():
    def recalls(question: Question, item) -> bool:
        return hasattr(item.relation, "facts") and "encyclopedia" in system_of(question)

    found = studied("prompt_ceiling", ceiling(recalls), **SEARCHED)
    assert told(found) == CONFIRMS and found.measures["missed facts mended by the best prompt, familiar less invented"].low > 0.4


def test_who_cannot_read_or_knows_what_nobody_can_fails_the_instrument():
    blind = studied("prompt_ceiling", ceiling(reads=False), **SEARCHED)
    assert told(blind) == FAILED and failed(blind) == ["a fact in the prompt is found"]
    seer = studied("prompt_ceiling", ceiling(lambda question, item: True), **SEARCHED)
    assert told(seer) == FAILED and failed(seer) == ["nobody knows invented facts"]


def test_invented_options_are_of_one_length_and_no_familiar_value_is_its_own_distractor():
    made, real = invented(CEILING, SEED, 240), familiar(CEILING, SEED, 240)
    assert len({item.subject for item in made}) == 240 and all(len(set(map(len, item.options))) == 1 for item in made)
    assert len(real) == 240 and all(len(set(item.options)) == 4 for item in made + real)
    assert all(item.options[0] == item.relation.facts[item.subject] for item in real)
    first = [item.relation.values.index(item.options[0]) for item in made]
    assert all(40 <= first.count(place) <= 80 for place in range(4)), "240 / 4 = 60 each, and 3 standard deviations of 6.7"
    assert hits(np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])).tolist() == [1, 0, 0.5, 0.25]


# -- personality by conditioning ------------------------------------------------------------------------------------------------------

TRAITS = stimuli("personality_conditioning").traits
KEYED = {f"I {words}": (trait, end) for trait in TRAITS for end in ("high", "low") for words in getattr(trait, end)}
LIKERT = stimuli("personality_conditioning").words
ASKED = {"traits": 5, "paraphrases": 1}


def actor(told: float, role: float, reads: bool = True, bicycle: float = 0.0) -> Planted:
    """Goes so far from a default of its own towards what it is told to be, more or less of the way with a role."""
    def level(trait, system: str) -> float:
        default = 3 + noise(trait.name)
        for end, extreme in (("high", 5), ("low", 1)):
            meant = getattr(trait.told, end) in system and "opposite" not in system
            if meant or "opposite" in system and getattr(trait.told, "low" if end == "high" else "high") in system:
                return default + (role if getattr(trait.role, end) in system else told) * (extreme - default)
        return default + bicycle * (5 - default) * ("bicycle" in system)

    def nats(question: Question, option: str) -> float:
        system, words = system_of(question), heard(question)
        if option.strip() not in LIKERT:
            trait = next(trait for trait in TRAITS if any(one.asked == words for one in trait.situations))
            high = any(one.high == option for one in trait.situations)
            return (level(trait, system) - 3) * (1 if high else -1)
        trait, end = KEYED[question.item.partition(": ")[2]]
        true = level(trait, system) if end == "high" else 6 - level(trait, system)
        if reads and system.endswith("true of you."):
            true = 1 if "never" in system else 5
        return math.log(max(1 - abs(1 + LIKERT.index(option.strip()) - true), 1e-9))  # between two words: both, so that their mean is it

    return Planted(nats)


def test_who_goes_less_than_half_of_the_way_and_further_with_a_role_confirms_that_personality_is_kept():
    found = studied("personality_conditioning", actor(0.3, 0.45), **ASKED)
    assert told(found) == CONFIRMS and found.tests["median flexibility, share of the way to the extreme"].found.value == pytest.approx(0.3)
    assert found.tests["rise of it with a role"].found.value == pytest.approx(0.15)
    assert found.measures["median flexibility, told by its opposite"].value == pytest.approx(0.3)
    assert found.measures["p of the high choice, told high less told low, target"].value == pytest.approx(0.5, abs=0.1)


def test_who_becomes_what_it_is_told_to_be_refutes_it():
    found = studied("personality_conditioning", actor(0.9, 0.95), **ASKED)
    assert told(found) == REFUTES and found.measures["targets past the middle"].value == 1


def test_a_role_that_adds_nothing_leaves_it_open():
    assert told(studied("personality_conditioning", actor(0.3, 0.3), **ASKED)) == INCONCLUSIVE


def test_a_liking_for_a_word_is_no_personality():
    found = studied("personality_conditioning", Planted(lambda question, option: 3.0 * (option == " always")), **ASKED)
    assert told(found) == FAILED and failed(found) == ["answers in the prompt move it"]
    assert found.tests["median flexibility, share of the way to the extreme"].found.value == pytest.approx(0)


def test_who_is_another_for_a_bicycle_fails_the_instrument():
    found = studied("personality_conditioning", actor(0.3, 0.45, bicycle=0.5), **ASKED)
    assert told(found) == FAILED and failed(found) == ["a bicycle does not"]


def test_there_are_50_statements_and_10_situations():
    assert len(KEYED) == 50 and all(len(trait.high + trait.low) == 10 and len(trait.situations) == 2 for trait in TRAITS)


# -- motivated reasoning ---------------------------------------------------------------------------------------------------------------

EVIDENCE = stimuli("motivated_reasoning")
TABLES = {"tables": 8, "thought": 1}


def reader(bend, skill: float = 2.0, obeys: bool = True) -> Planted:
    """Prefers what the ratios say by `skill` nats, and what a persona likes by `bend(words, persona, whether the topic polarizes)`."""
    def nats(question: Question, option: str) -> float:
        system, words = system_of(question), heard(question)
        topic = next(topic for topic in EVIDENCE.polarizing + EVIDENCE.neutral if topic.asked in words)
        (first, a), (_, b), (_, c), (_, d) = re.findall(rf"({'|'.join(topic.outcomes)}) in (\d+)", words)
        a, b, c, d = map(int, (a, b, c, d))
        true = (a / (a + b) > c / (c + d)) == (option.strip() == first)
        persona = next((n for pair in (EVIDENCE.identities, EVIDENCE.nonsense) for n, card in enumerate(pair) if card in system), None)
        liked = persona is not None and topic.outcomes[persona] == option.strip()
        ordered = obeys and system.endswith(f" {option.strip()}.")
        return skill * true + bend(words, system, topic in EVIDENCE.polarizing) * liked + 8.0 * ordered + noise(topic.what, option)

    return Planted(nats)


def partisan(words: str, system: str, polarizes: bool) -> float:
    return 1.5 * (polarizes and ("Democrat" in system or "Republican" in system))


def test_who_reads_what_it_likes_to_read_confirms_motivated_reasoning():
    found = studied("motivated_reasoning", reader(partisan), **TABLES)
    assert told(found) == CONFIRMS and found.measures["right where the truth is liked"].value > 0.9
    assert found.measures["congruence, invented groups"].value == pytest.approx(0), "a liking for an outcome that all have cancels out"


def test_who_reads_the_ratios_refutes_it():
    found = studied("motivated_reasoning", reader(lambda *of: 0.0), **TABLES)
    assert told(found) == REFUTES and found.tests["congruence, polarizing less neutral topics"].found.value == pytest.approx(0)


def test_who_is_unbent_by_an_incentive_refutes_that_debiasing_fails():
    found = studied("motivated_reasoning", reader(lambda *of: partisan(*of) * ("dollars" not in of[0])), **TABLES)
    assert told(found) == REFUTES and found.measures["congruence, accuracy incentive"].value == pytest.approx(0)


def test_who_reads_what_it_likes_on_any_topic_is_not_motivated_by_politics():
    found = studied("motivated_reasoning", reader(lambda words, system, polarizes: partisan(words, system, True)), **TABLES)
    assert told(found) == REFUTES and found.tests["congruence, neutral topics"].found.value > 0.1


@pytest.mark.parametrize(("ask", "control"), [
    (reader(partisan, skill=0.0), "easy tables are read above chance"),
    (reader(lambda words, system, polarizes: 1.5 * bool(system)), "invented groups differ in nothing"),
    (reader(partisan, obeys=False), "who is told what to conclude concludes it")])
def test_readers_that_fail_the_instrument(ask, control):
    found = studied("motivated_reasoning", ask, **TABLES)
    assert told(found) == FAILED and failed(found) == [control]


def test_hard_tables_mislead_and_easy_ones_do_not():
    for n in range(80):
        a, b, c, d = _table(n, easy=False)
        assert a > max(b, c, d) and a / (a + b) < c / (c + d) - 0.05, "the largest count, and the smaller share"
        a, b, c, d = _table(n, easy=True)
        assert a > b and c < d and a / (a + b) > c / (c + d) + 0.5
