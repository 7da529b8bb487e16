"""What each finding's measure makes of respondents whose answer is known: it finds what is there, and nothing that is
not.
"""

from __future__ import annotations

import math
import re

import numpy as np
import polars as pl
import pytest
from respondents import SEED, Planted, dialogues, failed, heard, noise, stimuli, studied, told

from metrics.studies.protocol import CONFIRMS, FAILED, INCONCLUSIVE, REFUTES, Played, Question
from metrics.studies.motivated_reasoning import _table
from metrics.studies.register_shift import features
from metrics.studies.invented_facts import familiar, hits, invented
from metrics.studies.dialogue_arms import ANSWERS, consistency
from scenarios.records import derive_seed

# -- twenty questions
# ------------------------------------------------------------------------------------------------------------------

GAME = stimuli("twenty_questions")
WORDED = {words: attribute for attribute, wordings in GAME.attributes.items() for words in wordings}
PLAYED = {"games": 6, "depth": 4, "takes": 6}


def fitting(question: Question) -> list[str]:
    """Objects that fit all that was answered so far."""
    pairs = zip(question.messages, question.messages[1:])
    answers = [(WORDED[words], reply.startswith("Yes")) for (_, words), (_, reply) in pairs if words in WORDED]
    return [name for name, has in GAME.objects.items() if all((attribute in has) == yes for attribute, yes in answers)]


def written(question: Question) -> str | None:
    return next(
        (
            words.removeprefix("It is the ").rstrip(".")
            for role, words in question.messages
            if role == "assistant" and words.startswith("It is the ")
        ),
        None,
    )


def player(choice, scratchpad: bool = True) -> Planted:
    """Holds what `choice(objects that fit, question)` gives: some objects, all alike; reads its scratchpad, or does
    not.
    """

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
    assert told(found) == REFUTES and found.tests["entropy of the reveal, bits"].found.value == pytest.approx(
        0, abs=1e-3
    )
    assert found.measures["two sampled reveals that differ"].value == 0
    assert found.measures["objects said yes to"].value == pytest.approx(1, abs=1e-3)


def test_a_player_who_holds_all_that_fits_confirms_superposition():
    ask = player(lambda names, question: names)
    found = studied("twenty_questions", ask, **PLAYED)
    assert told(found) == CONFIRMS and found.tests["mass on objects that fit the answers"].found.value == pytest.approx(
        1
    )
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
    assert {attribute for has in GAME.objects.values() for attribute in has} == GAME.attributes.keys() and len(
        GAME.attributes
    ) == 5


# -- false presuppositions
# -------------------------------------------------------------------------------------------------------------

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
    assert found.tests["accommodation of known falsehoods"].found.value > 0.85, (
        "but for one true twin in twenty, by the bound"
    )
    assert found.tests["accommodation, expert less correction invited"].found.value > 0.85


def test_a_respondent_who_knows_nothing_fails_the_gate():
    found = studied(
        "false_presuppositions", answerer(always, knows=lambda item: noise("knows", item.id) > 0.7), items=ITEMS
    )
    assert told(found) == FAILED and failed(found) == ["facts are known"]


def test_a_respondent_who_never_says_so_fails_the_instrument():
    found = studied("false_presuppositions", answerer(lambda twin, words, system: 0.0), items=ITEMS)
    assert told(found) == FAILED and failed(found) == ["a falsehood is rejected where the truth is in the prompt"]


def test_a_respondent_who_doubts_whatever_is_worded_otherwise_fails_the_instrument():
    found = studied(
        "false_presuppositions",
        answerer(lambda *of: max(always(*of), 6.0 * of[1].startswith("Given that"))),
        items=ITEMS,
    )
    assert told(found) == FAILED and failed(found) == ["a reworded truth is not rejected"]


def test_there_are_150_facts_whose_twins_differ():
    assert len({item.id for item in FACTS}) == len(FACTS) == 150
    assert all(item.claim.count("{}") == 1 and item.fact != item.myth and item.then.endswith("?") for item in FACTS)


# -- prompt ceiling
# --------------------------------------------------------------------------------------------------------------------

CEILING = stimuli("prompt_ceiling")
SEARCHED = {"facts": 150, "takes": 2, "budget": 120, "taught": 20, "steps": 1, "thought": 1}
TRUE = {
    item.relation.asked.format(item.subject): item
    for item in [*invented(CEILING, SEED, 150), *familiar(CEILING, SEED, 450)]
}


def ceiling(knows=lambda question, item: False, reads: bool = True) -> Planted:
    """Prefers some options to others whatever is asked; knows what it reads or has been taught, and what
    `knows(question, item)`.
    """

    def nats(question: Question, option: str) -> float:
        asked = question.messages[-2][1]
        item = TRUE.get(question.item)  # none where nobody is asked of
        told = item and (
            reads and item.told in asked or ask.worn and item.told in [one.reply for one in ask.lessons[ask.worn]]
        )
        known = 4.0 * bool(item and option.strip() == item.options[0] and (told or knows(question, item)))
        return 3 * noise("liking", option) + bool(item) * noise(asked, option, question.messages[0][1]) + known

    ask = Planted(nats, lambda question: f"You are proposal {question.seed}.")
    return ask


def system_of(question: Question) -> str:
    return question.messages[0][1] if question.messages[0][0] == "system" else ""


def test_who_knows_only_what_it_is_told_confirms_the_ceiling_of_prompts():
    ask = ceiling()
    found = studied("prompt_ceiling", ask, **SEARCHED)
    assert (
        told(found) == CONFIRMS
        and found.tests["accuracy of the best prompt on invented facts, over chance"].found.n == 100
    )
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
    assert (
        told(found) == CONFIRMS
        and found.measures["missed facts mended by the best prompt, familiar less invented"].low > 0.4
    )


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
    assert all(40 <= first.count(place) <= 80 for place in range(4)), (
        "240 / 4 = 60 each, and 3 standard deviations of 6.7"
    )
    assert hits(np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])).tolist() == [1, 0, 0.5, 0.25]


# -- personality by conditioning
# ------------------------------------------------------------------------------------------------------

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
        return math.log(
            max(1 - abs(1 + LIKERT.index(option.strip()) - true), 1e-9)
        )  # between two words: both, so that their mean is it

    return Planted(nats)


def test_who_goes_less_than_half_of_the_way_and_further_with_a_role_confirms_that_personality_is_kept():
    found = studied("personality_conditioning", actor(0.3, 0.45), **ASKED)
    assert told(found) == CONFIRMS and found.tests[
        "median flexibility, share of the way to the extreme"
    ].found.value == pytest.approx(0.3)
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
    assert len(KEYED) == 50 and all(
        len(trait.high + trait.low) == 10 and len(trait.situations) == 2 for trait in TRAITS
    )


# -- motivated reasoning
# ---------------------------------------------------------------------------------------------------------------

EVIDENCE = stimuli("motivated_reasoning")
TABLES = {"tables": 8, "thought": 1}


def reader(bend, skill: float = 2.0, obeys: bool = True) -> Planted:
    """Prefers what the ratios say by `skill` nats, and what a persona likes by `bend(words, persona, whether the topic
    polarizes)`.
    """

    def nats(question: Question, option: str) -> float:
        system, words = system_of(question), heard(question)
        topic = next(topic for topic in EVIDENCE.polarizing + EVIDENCE.neutral if topic.asked in words)
        (first, a), (_, b), (_, c), (_, d) = re.findall(rf"({'|'.join(topic.outcomes)}) in (\d+)", words)
        a, b, c, d = map(int, (a, b, c, d))
        true = (a / (a + b) > c / (c + d)) == (option.strip() == first)
        persona = next(
            (n for pair in (EVIDENCE.identities, EVIDENCE.nonsense) for n, card in enumerate(pair) if card in system),
            None,
        )
        liked = persona is not None and topic.outcomes[persona] == option.strip()
        ordered = obeys and system.endswith(f" {option.strip()}.")
        return (
            skill * true
            + bend(words, system, topic in EVIDENCE.polarizing) * liked
            + 8.0 * ordered
            + noise(topic.what, option)
        )

    return Planted(nats)


def partisan(words: str, system: str, polarizes: bool) -> float:
    return 1.5 * (polarizes and ("Democrat" in system or "Republican" in system))


def test_who_reads_what_it_likes_to_read_confirms_motivated_reasoning():
    found = studied("motivated_reasoning", reader(partisan), **TABLES)
    assert told(found) == CONFIRMS and found.measures["right where the truth is liked"].value > 0.9
    assert found.measures["congruence, invented groups"].value == pytest.approx(0), (
        "a liking for an outcome that all have cancels out"
    )


def test_who_reads_the_ratios_refutes_it():
    found = studied("motivated_reasoning", reader(lambda *of: 0.0), **TABLES)
    assert told(found) == REFUTES and found.tests[
        "congruence, polarizing less neutral topics"
    ].found.value == pytest.approx(0)


def test_who_is_unbent_by_an_incentive_refutes_that_debiasing_fails():
    found = studied("motivated_reasoning", reader(lambda *of: partisan(*of) * ("dollars" not in of[0])), **TABLES)
    assert told(found) == REFUTES and found.measures["congruence, accuracy incentive"].value == pytest.approx(0)


def test_who_reads_what_it_likes_on_any_topic_is_not_motivated_by_politics():
    found = studied(
        "motivated_reasoning", reader(lambda words, system, polarizes: partisan(words, system, True)), **TABLES
    )
    assert told(found) == REFUTES and found.tests["congruence, neutral topics"].found.value > 0.1


@pytest.mark.parametrize(
    ("ask", "control"),
    [
        (reader(partisan, skill=0.0), "easy tables are read above chance"),
        (reader(lambda words, system, polarizes: 1.5 * bool(system)), "invented groups differ in nothing"),
        (reader(partisan, obeys=False), "who is told what to conclude concludes it"),
    ],
)
def test_readers_that_fail_the_instrument(ask, control):
    found = studied("motivated_reasoning", ask, **TABLES)
    assert told(found) == FAILED and failed(found) == [control]


def test_hard_tables_mislead_and_easy_ones_do_not():
    for n in range(80):
        a, b, c, d = _table(n, easy=False)
        assert a > max(b, c, d) and a / (a + b) < c / (c + d) - 0.05, "the largest count, and the smaller share"
        a, b, c, d = _table(n, easy=True)
        assert a > b and c < d and a / (a + b) > c / (c + d) + 0.5


# -- register shift
# --------------------------------------------------------------------------------------------------------------------

VOICES = stimuli("register_shift")
IN_REGISTER = {frame.split("{}")[0]: name for name, one in VOICES.registers.items() for frame in one.says}
SPOKEN = {"questions": 12, "registers": 4, "sampled": 1}


def voice(system=4.0, request=0.0, mirrored=0.0, after_going_back=0.0, anything=0.0) -> Planted:
    """Leans by so many nats to the register that a system text, a request or the user's own talk is in; `anything`:
    wherever asked to.
    """

    def asked_for(question: Question) -> dict[str, float]:
        said = [words for role, words in question.messages if role == "user"]
        leans = {}
        for name, one in VOICES.registers.items():
            back = any("go back" in words for words in said)
            leans[name] = (
                system * (question.messages[0][0] == "system" and one.like in question.messages[0][1])
                + (after_going_back if back else request) * any(one.like in words for words in said)
                + mirrored * (said[0] == one.talk[0])
                + anything * any("pounds" in words for words in said)
            )
        return leans

    def nats(question: Question, option: str) -> float:
        name = next((name for frame, name in IN_REGISTER.items() if frame and option.startswith(frame)), None)
        return 0.2 * noise(question.item, option) + (asked_for(question)[name] if name else 0.0)

    def words(question: Question) -> str:
        name = max(asked_for(question).items(), key=lambda one: one[1])
        return (
            VOICES.registers[name[0]].told.format("it is so") if name[1] > 0 else VOICES.plain.told.format("it is so")
        )

    return Planted(nats, words)


def test_a_voice_that_only_a_system_prompt_moves_far_confirms_one_register():
    found = studied("register_shift", voice(request=2.0, mirrored=0.1), **SPOKEN)
    implicit, request = (test.found.value for test in found.tests.values())
    assert (
        told(found) == CONFIRMS
        and implicit == pytest.approx(0.05, abs=0.05)
        and request == pytest.approx(0.5, abs=0.05)
    )
    assert found.measures["left after going back, share"].value == pytest.approx(0, abs=0.05)


def test_a_voice_that_is_renegotiated_refutes_it_and_what_sticks_is_hysteresis():
    found = studied("register_shift", voice(request=4.0, mirrored=2.0, after_going_back=3.0), **SPOKEN)
    assert told(found) == REFUTES and found.measures["left after going back, share"].value == pytest.approx(
        0.75, abs=0.05
    )
    moves = {
        arm: found.measures[f"move of sampled answers, {arm}"] for arm in ("explicit request", "implicit mirroring")
    }
    assert all(move.low > 0.2 for move in moves.values())


def test_a_voice_that_no_prompt_moves_or_that_any_request_does_fails_the_instrument():
    assert failed(studied("register_shift", voice(system=0.0), **SPOKEN))[0] == "a system prompt shifts the register"
    found = studied("register_shift", voice(request=2.0, anything=2.0), **SPOKEN)
    assert told(found) == FAILED and failed(found) == ["a request of another kind does not"]


def test_features_of_an_answer_by_hand():
    # 9 words in two sentences: one contraction, one hedge, three marks
    assert features("It's so, perhaps!!! We shall see about it.").tolist() == pytest.approx([1 / 8, 4, 1 / 8, 1.5])
    assert all(map(math.isnan, features("...")))


# -- persona variance
# ------------------------------------------------------------------------------------------------------------------

CARDS = stimuli("persona_variance").personas
PEOPLE = {"personas": 10, "items": 12, "wordings": 2, "seeds": 3}


def chooser(persona=0.0, names=0.0, scrambled=0.0, obeys=True, place=0.0) -> Planted:
    """Log odds of the first option: by the item, and so much by the persona's text, by its name alone, by its words in
    disorder, and by whether it stands first.
    """

    def nats(question: Question, option: str) -> float:
        (name, asks), system = question.item.split(": ", 1), question.messages[0][1]
        if option != question.options[0]:
            return 0.0
        if "you say: " in system:
            return obeys * (8.0 if f"you say: {option}".lower() in system.lower() else -8.0)
        text = CARDS[name] in system
        disorder = not text and len(system.split()) > 12
        first, second = (heard(question).rfind(one.lower()) for one in question.options)
        return (
            0.5 * noise(asks)
            + 0.1 * noise(heard(question))
            + (place if first < second else -place)
            + noise(name, asks) * (persona * text + names + scrambled * disorder)
        )

    return Planted(nats, lambda question: question.options[question.seed % 2] if question.seed % 3 else "Well")


def ratio_of(found) -> float:
    return next(iter(found.tests.values())).found.value


def test_personas_who_answer_alike_confirm_that_runs_differ_more():
    found = studied("persona_variance", chooser(), **PEOPLE)
    assert told(found) == CONFIRMS and ratio_of(found) == pytest.approx(1000), (
        "no variance between personas: the ratio's bound"
    )
    assert found.measures["variance, run, at 0.7"].value == pytest.approx(0.25, abs=0.02), "p (1 - p), p near a half"
    words = found.measures["sampled words that are an answer, at 0.7"].value
    assert 0.4 < words < 0.9 and found.measures["variance, sampled runs, at 0.7"].value > 0.1


def test_personas_who_know_their_minds_refute_it_the_more_the_lower_the_temperature():
    found = studied("persona_variance", chooser(persona=8.0), **PEOPLE)
    assert told(found) == REFUTES and ratio_of(found) < 0.4
    assert (
        found.measures["R at 0.3, persona text"].value
        < ratio_of(found)
        < found.measures["R at 1.0, persona text"].value
    )


def test_a_liking_for_what_stands_first_hides_no_difference_between_personas():
    found = studied("persona_variance", chooser(persona=8.0, place=3.0), **PEOPLE)
    assert told(found) == REFUTES and found.measures["variance, persona×item, at 0.7"].low > 0.02
    assert found.measures["variance, wording, at 0.7"].low > 0


def test_names_that_move_answers_scrambled_texts_that_do_and_deaf_personas_fail_the_instrument():
    def of(**planted) -> list[str]:
        return failed(studied("persona_variance", chooser(**planted), **PEOPLE))

    assert of(names=8.0) == ["names alone do not"]
    assert of(persona=2.0, scrambled=20.0) == ["scrambled texts do so no more than texts"]
    assert of(obeys=False) == ["personas who are told what to answer differ"]


def test_sixty_items_have_two_answers_of_which_neither_begins_the_other():
    items = stimuli("persona_variance").items
    assert len({item.asks for item in items}) == len(items) == 60 and len(CARDS) == 12
    assert not any(one.startswith(other) for item in items for one, other in ((item.a, item.b), (item.b, item.a)))


# -- card distance
# ---------------------------------------------------------------------------------------------------------------------

TALK = stimuli("card_distance")
FAR = {"personas": 8, "slots": 2, "exchanges": 16}


def holder(kept, whatever=False) -> Planted:
    """Leans to the value that it was told by 4 nats times `kept(exchanges since)`; or, `whatever` it was told, to the
    right one.
    """

    def nats(question: Question, option: str) -> float:
        slot = TALK.slots[question.item.split(", ")[1]] if ", " in question.item else None
        heard_of = [
            place
            for place, (role, words) in enumerate(question.messages)
            if slot
            and any(slot.card.format(value) in words for value in slot.values if slot.says.format(value) == option)
        ]
        told_any = len(question.messages[0][1]) > 60
        since = (len(question.messages) - 2 - heard_of[-1]) // 2 if heard_of else None
        lean = (
            4.0 * (told_any and option == question.options[0]) if whatever else 4.0 * kept(since) if heard_of else 0.0
        )
        return noise(question.item, option) + 0.1 * noise(len(question.messages), option) + lean

    return Planted(nats)


def test_a_card_that_fades_and_comes_back_when_told_again_confirms_distance():
    ask = holder(lambda since: 0.9**since)
    found = studied("card_distance", ask, **FAR)
    lost = next(iter(found.tests.values())).found
    assert told(found) == CONFIRMS and lost.value == pytest.approx(1 - 0.9**16, abs=0.03)
    assert found.measures["hold, card only 4 of 16 ago, nats"].value == pytest.approx(4 * 0.9**4, abs=0.2)
    assert found.measures["change of hold per 1000 tokens, nats"].value < 0
    assert [x for x, _ in found.pictures["hold"].curves["card at the start"]] == [0, 2, 4, 8, 16, 32], (
        "a planted token a line"
    )
    assert ask.arms["card 16 ago"] == 16 and ask.arms["length of the filler"] == 1


def test_a_card_that_holds_however_far_refutes_it():
    found = studied("card_distance", holder(lambda since: 1.0), **FAR)
    assert told(found) == REFUTES and next(iter(found.tests.values())).found.value == pytest.approx(0, abs=0.03)


def test_a_card_that_nobody_reads_or_that_anybody_could_have_told_fails_the_instrument():
    assert failed(studied("card_distance", holder(lambda since: 0.0), **FAR))[0] == "right after it a card holds"
    assert failed(studied("card_distance", holder(None, whatever=True), **FAR)) == ["another's card does not"]


def test_no_talk_of_other_things_names_what_a_card_tells():
    values = [value for slot in TALK.slots.values() for value in slot.values]
    assert len(TALK.filler) == 32 and not [
        line for pair in TALK.filler for line in pair for value in values if f" {value}" in line
    ]


# -- context override
# ------------------------------------------------------------------------------------------------------------------

CAPITALS = stimuli("context_override").capitals
COUNTRIES = {"items": 60, "searched": 3}


def believer(believes, copies: float = 0.0) -> Planted:
    """Knows its capitals by 1 to 9 nats, and believes what a text says of them by `believes(text, its steer)`; a city
    that stands in a text of something else it copies by so much.
    """

    def nats(question: Question, option: str) -> float:
        country, city = question.messages[-1][1].removeprefix("The capital of ").removesuffix(" is"), option.strip()
        text = " ".join(words for role, words in question.messages if role != "assistant")
        says = f"capital of {country} is {city}" in text
        return (
            (5 + 4 * noise(country)) * (CAPITALS.get(country) == city)
            + believes(text, ask.steered) * says
            + copies * (city in text and not says)
        )

    ask = Planted(nats)
    return ask


def weakly(text: str, steered) -> float:
    return 20.0 if steered and steered.random is None else 4.5 if "alone" in text else 3.0


def test_a_reader_whom_texts_do_not_move_where_it_knows_and_steering_does_confirms_the_pull_of_priors():
    found = studied("context_override", believer(weakly), **COUNTRIES)
    assert told(found) == CONFIRMS
    assert found.measures["override, a false sentence"].value == pytest.approx(0.25, abs=0.12), "X below 3 of 1 to 9"
    assert found.measures["override, told to obey it"].value == pytest.approx(0.44, abs=0.12), "X below 4.5"
    assert found.tests["override in the top fifth, steered less best text"].found.value == 1


def test_a_reader_who_believes_every_text_refutes_it():
    found = studied("context_override", believer(lambda text, steered: 20.0), **COUNTRIES)
    assert (
        told(found) == REFUTES
        and found.tests["override in the top fifth, three times or told to obey"].found.value == 1
    )


def test_a_reader_whom_any_direction_moves_fails_the_instrument():
    found = studied("context_override", believer(lambda text, steered: 20.0 if steered else 3.0), **COUNTRIES)
    assert told(found) == FAILED and failed(found) == ["random directions add nothing"]


def test_a_reader_who_copies_any_city_fails_the_instrument():
    found = studied("context_override", believer(weakly, copies=20.0), **COUNTRIES)
    assert told(found) == FAILED and failed(found) == ["a sentence about another country overrides nothing"]


def test_a_reader_who_believes_nothing_fails_the_instrument():
    found = studied("context_override", believer(lambda text, steered: 0.0), **COUNTRIES)
    assert told(found) == FAILED and failed(found) == ["one about an invented country is believed"]


def test_no_country_tells_its_capital():
    assert len(set(CAPITALS.values())) == len(CAPITALS) == 150 and not any(
        city in country for country, city in CAPITALS.items()
    )


# -- persona pressure
# ------------------------------------------------------------------------------------------------------------------

CAST = stimuli("persona_pressure")
PRESSED = {"personas": 6, "facts": 2, "steps": 10, "doses": 2}


def pressed(trained, prompted, anybody: bool = False) -> Planted:
    """Holds a persona by so many nats at a level of pressure, 0 to 7, of which 1 and 2 are neutral, and 8 after the
    release: under its card `prompted`, under its adapter `trained`, of 12 steps and half of that of 10; `anybody`:
    under every adapter.
    """
    levels = ["no pressure", *CAST.pressures, "release"]

    def nats(question: Question, option: str) -> float:
        name, slot, level = question.item.split(", ")
        system = question.messages[0][1] if question.messages[0][0] == "system" else ""
        own = option == CAST.slots[slot].says.format(CAST.personas[name][slot])
        worn, at = ask.worn or "", levels.index(level)
        taught = (anybody and worn or worn.startswith(name)) and trained(at) / (1 if "12" in worn else 2)
        return 0.1 * noise(question.item) + own * max(taught or 0, prompted(at) * (f"You are {name}." in system))

    ask = Planted(nats)
    return ask


def bends(level: int) -> float:
    """Loses three quarters of a nat a level from the third on, and gets half of it back."""
    return 6 - 0.75 * max(level - 2, 0) if level < 8 else 4.125


def test_a_trained_persona_that_does_not_bend_where_a_prompted_one_does_confirms_the_claim():
    ask = pressed(lambda level: 6.5, bends)
    found = studied("persona_pressure", ask, **PRESSED)
    assert told(found) == CONFIRMS
    # levels 3 to 7 of pressure cost the prompted .75 to 3.75 nats, on the mean 2.25; after the release 1.875 are still
    # lost
    assert [test.found.value for test in found.tests.values()] == pytest.approx([2.25, 1.875], abs=0.1)
    assert found.measures["spring-back, share of what was taken, prompted"].value == pytest.approx(0.5, abs=0.1)
    assert found.measures["level of half loss, trained"].value == 8, "never"
    # log-odds against three others of 0 nats: 4.90 at the start, half of it 2.45, and 6 - .75 * 4 - log 3 = 1.90 at
    # level 6
    assert found.measures["level of half loss, prompted"].value == 6
    assert set(ask.lessons) == {f"{name}: {n} steps" for name in CAST.personas for n in (10, 12)} & ask.lessons.keys()
    assert len(ask.lessons) == 12 and not any(
        "keep" in lesson.messages[0][1] for some in ask.lessons.values() for lesson in some
    )


def test_personas_that_bend_alike_refute_it_whichever_way_they_came_about():
    found = studied("persona_pressure", pressed(lambda level: 1 + bends(level), bends), **PRESSED)
    assert told(found) == REFUTES and found.tests[
        "log-odds kept under pressure, trained less prompted, nats"
    ].found.value == (pytest.approx(0, abs=0.1))


def test_personas_that_do_not_start_alike_fail_the_instrument():
    found = studied("persona_pressure", pressed(lambda level: 30.0, bends), **PRESSED)
    assert told(found) == FAILED and failed(found) == ["trained and prompted start alike"]


def test_a_persona_that_was_not_learnt_fails_the_instrument():
    found = studied("persona_pressure", pressed(lambda level: 0.0, bends), **PRESSED)
    assert told(found) == FAILED and "the persona is held without pressure" in failed(found)


def test_a_persona_under_anybodys_adapter_fails_the_instrument():
    found = studied("persona_pressure", pressed(lambda level: 6.0, bends, anybody=True), **PRESSED)
    assert told(found) == FAILED and failed(found) == ["somebody else's adapter does not hold it"]


def test_a_persona_that_neutral_words_shake_fails_the_instrument():
    found = studied("persona_pressure", pressed(lambda level: 6.0, lambda level: 6.0 - 5 * (level > 0)), **PRESSED)
    assert told(found) == FAILED and failed(found) == ["neutral words cost little"]


def test_no_two_people_share_a_fact():
    values = [value for facts in CAST.personas.values() for value in facts.values()]
    assert len(set(values)) == len(values) == 16 * 6 and all(
        facts.keys() == CAST.slots.keys() for facts in CAST.personas.values()
    )


# -- offline_rl
#
#
# ------------------------------------------------------------------------------------------------------------------------

RANKED = {"taught": 6, "asked": 20, "steps": 4, "batch": 2}
PUNISHED = dict.fromkeys(("unlikelihood", "gold", "varmi", "dpo", "kto"), 0.1)


def ranker(rates: dict[str | None, float]) -> Planted:
    """Puts a line that contradicts first in such a share of places, by what it wears."""

    def nats(question: Question, option: str) -> float:
        wrong = (noise(question.messages) + 1) / 2 < rates.get(ask.worn, 0.5)
        return -float(option != question.options[wrong * (len(question.options) > 1)])

    ask = Planted(nats)
    return ask


def test_one_who_learns_from_punishment_alone_confirms_that_good_lines_do_not_do():
    ask = ranker(PUNISHED | {"taught what is asked": 0.0})
    found = studied("offline_rl", ask, **RANKED)
    assert told(found) == CONFIRMS and found.tests["change of contradict@1, sft"].found.value == 0
    assert found.tests["change of contradict@1, contrastive methods"].found.value == pytest.approx(0.1 - 0.5, abs=0.1)
    good, bad = ([one for one in ask.lessons["sft"] if (one.reward > 0) == way] for way in (True, False))
    assert len(good) == len(bad) == 36 and {one.reply for one in good}.isdisjoint(
        one.reply for one in bad if one in good
    )
    rewards = [[one.reward for one in ask.lessons[arm]] for arm in ("sft", "shuffled labels")]
    assert sorted(rewards[0]) == sorted(rewards[1]) and rewards[0] != rewards[1]
    assert [one.reply for one in ask.lessons["shuffled labels"]] == [one.reply for one in ask.lessons["sft"]]


def test_what_is_asked_was_taught_to_nobody_but_the_control():
    ask = ranker(PUNISHED)
    studied("offline_rl", ask, **RANKED)
    talks = {arm: {one.messages[-1] for one in lessons} for arm, lessons in ask.lessons.items()}
    cards = {arm: {one.messages[0] for one in lessons} for arm, lessons in ask.lessons.items()}
    assert not talks["dpo"] & talks["taught what is asked"] and not cards["dpo"] & cards["taught what is asked"]


def test_one_who_learns_as_much_from_good_lines_alone_refutes_it():
    found = studied("offline_rl", ranker(PUNISHED | {"sft": 0.1, "taught what is asked": 0.0}), **RANKED)
    assert told(found) == REFUTES and found.tests[
        "contradict@1, contrastive methods less sft"
    ].found.value == pytest.approx(0, abs=0.01)


def test_one_who_learns_nothing_from_punishment_refutes_it():
    assert told(studied("offline_rl", ranker({"taught what is asked": 0.0}), **RANKED)) == REFUTES


@pytest.mark.parametrize(
    ("rates", "control"),
    [
        (
            dict.fromkeys((None, "sft", "shuffled labels", *PUNISHED), 0.0) | {"taught what is asked": -1.0},
            "the untaught model contradicts",
        ),
        (PUNISHED | {"shuffled labels": 0.1, "taught what is asked": 0.0}, "shuffled labels teach nothing"),
        (PUNISHED, "who is taught what is asked contradicts less"),
    ],
)
def test_offline_learning_that_cannot_be_told_from_its_controls_fails_the_instrument(rates, control):
    found = studied("offline_rl", ranker(rates), **RANKED)
    assert told(found) == FAILED and control in failed(found)


# -- simulator_rl and the ladder
# -------------------------------------------------------------------------------------------------------

CALM = {"evasion": 0.0, "repetition": 0.0, "distinct_2": 0.95, "length": 8.0, "parroting": 0.0}
EVASIVE = CALM | {"evasion": 1.0}


def speaker(rates: dict[str, float], wires: dict[str, dict] | None = None) -> Planted:
    """Contradicts in such a share of lines and answers, by arm or its rung; half of them where nothing is said."""
    scripts = {"evades": 0.0, "lies": 1.0}

    def plays(arm: str):
        def bad(person: str, line: int, metric: str) -> bool:
            evenly = (
                0.618 * line + 0.382 * int(person[1:]) + 0.3 * (arm == "other seeds") + 0.1 * (metric == "questions")
            )
            return evenly % 1 < (rates | scripts).get(arm, rates.get(rung, 0.5))

        rung = arm.partition(",")[0]  # of what is played with other people, or tried
        return dialogues(12, 6, bad, ({"evades": EVASIVE} | (wires or {})).get(rung, CALM))

    return Planted(plays=plays)


TRAINED = {"methods": ["sft", "kto", "grpo"], "steps": 2, "dialogues": 2, "examined": 12, "turns": 12}
CLIMBED = {
    "rungs": ["bare card", "better card", "reminder", "steering", "sft", "online rl"],
    "steps": 2,
    "dialogues": 2,
    "searched": 9,
    "developed": 12,
    "examined": 12,
    "turns": 12,
}


def test_a_simulator_that_training_mends_confirms_and_one_that_it_does_not_refutes():
    ask = speaker({"grpo": 0.1})
    found = studied("simulator_rl", ask, **TRAINED)
    assert told(found) == CONFIRMS and found.tests[
        "share of wrong answers removed by grpo"
    ].found.value == pytest.approx(0.8, abs=0.1)
    assert ask.changes["kto, training"]["data"] == ["sft, training"] and ask.changes["grpo, training"]["data"] == []
    assert (
        ask.changes["grpo"]["worn"] == "grpo, training"
        and ask.changes["grpo"]["seed"] == ask.changes["prompt only"]["seed"]
    )
    assert set(ask.changes["grpo"]["drawn"]) == set(ask.changes["grpo, training"]["held_out.personas"])
    assert told(studied("simulator_rl", speaker({"grpo": 0.45, "sft": 0.0}), **TRAINED)) == REFUTES


def test_a_simulator_that_evades_does_not_win():
    found = studied("simulator_rl", speaker({"grpo": 0.0}, {"grpo": EVASIVE}), **TRAINED)
    assert told(found) != CONFIRMS and found.tests["tripwires out of bounds under grpo"].found.value == 1


@pytest.mark.parametrize(
    ("rates", "wires", "control"),
    [
        ({"grpo": 0.1, "other seeds": 0.1}, {}, "other seeds remove nothing"),
        ({"grpo": 0.1}, {"evades": CALM}, "an evasive policy does not win"),
    ],
)
@pytest.mark.parametrize(("name", "numbers"), [("simulator_rl", TRAINED), ("ladder", CLIMBED)])
def test_dialogues_that_cannot_be_told_from_their_controls_fail_the_instrument(name, numbers, rates, wires, control):
    found = studied(name, speaker(rates, wires), **numbers)
    assert told(found) == FAILED and failed(found) == [control]


def test_the_ladder_tells_words_from_training():
    ask = speaker({"reminder": 0.4, "sft": 0.2, "online rl": 0.1})
    found = studied("ladder", ask, **CLIMBED)
    assert told(found) == CONFIRMS
    assert [test.found.value for test in found.tests.values()] == pytest.approx([0.8 - 0.2, 0.2], abs=0.1), (
        "the best of each"
    )
    table = found.tables["The ladder"]
    assert (
        list(table) == CLIMBED["rungs"]
        and table["sft"]["trained parameters"].value == 1234
        and table["sft"]["tokens learnt or tried"].value == 42
    )
    # three coefficients in a dialogue each, then the better two in two more each: five runs; planted ones have 72 lines
    # of .1 s
    tries = [arm for arm in ask.changes if arm.startswith("steering, tried")]
    assert table["steering"]["seconds before"].value == pytest.approx(len(tries) * 72 * 0.1) and len(tries) == 5
    assert table["reminder"]["seconds before"].value == 0
    assert told(studied("ladder", speaker({"better card": 0.0, "reminder": 0.1}), **CLIMBED)) == REFUTES


def test_one_text_that_does_as_much_as_any_training_refutes_the_ladder_though_the_others_do_nothing():
    assert told(studied("ladder", speaker({"better card": 0.1, "sft": 0.3, "online rl": 0.3}), **CLIMBED)) == REFUTES


def test_rungs_that_evade_are_not_chosen_and_chosen_is_on_other_people():
    rates, wires = {"sft": 0.2, "online rl": 0.0}, {"online rl": EVASIVE}
    ask = speaker(rates, wires)
    found = studied("ladder", ask, **CLIMBED)
    assert found.tests[
        "share of wrong answers removed by the best training less by the best text"
    ].found.value == pytest.approx(0.6, abs=0.1)
    assert "training (sft)" in found.reading and "online rl: evasion" in found.reading
    for name in CLIMBED["rungs"]:
        assert set(ask.changes[f"{name}, development"]["drawn"]) == set(stimuli("ladder").development)
        assert set(ask.changes[name]["drawn"]) == set(stimuli("ladder").held_out)
    assert not set(stimuli("ladder").development) & set(stimuli("ladder").held_out)


def test_a_wire_that_the_bare_card_trips_as_much_is_not_held_against_training():
    wires = {"prompt only": CALM | {"wrong_person": 0.3}, "grpo": CALM | {"wrong_person": 0.06}}
    assert told(studied("simulator_rl", speaker({"grpo": 0.1}, wires), **TRAINED)) == CONFIRMS


def test_empty_answers_are_no_right_ones_and_what_is_asked_before_anything_is_said_does_not_count():
    played = dialogues(2, 2, lambda person, line, metric: line == 0)
    empty = (pl.col("turn") == 3) & (pl.col("judge") == "reader")
    rows = played.judgements.with_columns(
        verdict=pl.when(empty).then(None).otherwise("verdict"), unscored=pl.when(empty).then(pl.lit("empty answer"))
    )
    assert (
        consistency(Played(played.turns, rows, played.metrics), ANSWERS, 1).value == 0.0
        and consistency(played, ANSWERS, 1).value == 0.5
    )
    early = played.judgements.with_columns(turn=pl.when(pl.col("turn") == 1).then(0).otherwise("turn"))
    assert consistency(Played(played.turns, early, played.metrics), ANSWERS, 1).value == 1.0


def test_a_reader_that_calls_all_answers_wrong_fails_the_instrument():
    ask = speaker({"grpo": 0.1})
    plays = ask.plays

    def all_wrong(arm: str) -> Played:
        played, at = plays(arm), pl.col("judge") == "reader"
        return Played(
            played.turns,
            played.judgements.with_columns(verdict=pl.when(at).then(True).otherwise("verdict")),
            played.metrics,
        )

    ask.plays = all_wrong
    found = studied("simulator_rl", ask, **TRAINED)
    assert told(found) == FAILED and "the reader reads" in failed(found)


def test_the_wording_that_helps_most_on_other_people_is_the_better_card():
    ask = speaker({})
    tried = iter((0.5, 0.1, 0.3, 0.1, 0.3))
    plays, ask.plays = (
        ask.plays,
        lambda arm: speaker({arm: next(tried)}).plays(arm) if arm.startswith("steering, tried") else plays(arm),
    )
    studied("ladder", ask, **CLIMBED)
    assert (
        ask.changes["steering"]["seats.user.steer"] == stimuli("ladder").rungs["steering"].search[1]["seats.user.steer"]
    )
