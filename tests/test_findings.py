"""What each finding's measure makes of respondents whose answer is known: it finds what is there, and nothing that is not."""

from __future__ import annotations

import math

import pytest
from respondents import Planted, failed, heard, noise, stimuli, studied, told

from metrics.finding import CONFIRMS, FAILED, REFUTES, Question
from metrics.findings.register_shift import features
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


# -- register shift --------------------------------------------------------------------------------------------------------------------

VOICES = stimuli("register_shift")
IN_REGISTER = {frame.split("{}")[0]: name for name, one in VOICES.registers.items() for frame in one.says}
SPOKEN = {"questions": 12, "registers": 4, "sampled": 1}


def voice(system=4.0, request=0.0, mirrored=0.0, after_going_back=0.0, anything=0.0) -> Planted:
    """Leans by so many nats to the register that a system text, a request or the user's own talk is in; `anything`: wherever asked to."""
    def asked_for(question: Question) -> dict[str, float]:
        said = [words for role, words in question.messages if role == "user"]
        leans = {}
        for name, one in VOICES.registers.items():
            back = any("go back" in words for words in said)
            leans[name] = (system * (question.messages[0][0] == "system" and one.like in question.messages[0][1])
                           + (after_going_back if back else request) * any(one.like in words for words in said)
                           + mirrored * (said[0] == one.talk[0]) + anything * any("pounds" in words for words in said))
        return leans

    def nats(question: Question, option: str) -> float:
        name = next((name for frame, name in IN_REGISTER.items() if frame and option.startswith(frame)), None)
        return 0.2 * noise(question.item, option) + (asked_for(question)[name] if name else 0.0)

    def words(question: Question) -> str:
        name = max(asked_for(question).items(), key=lambda one: one[1])
        return VOICES.registers[name[0]].told.format("it is so") if name[1] > 0 else VOICES.plain.told.format("it is so")

    return Planted(nats, words)


def test_a_voice_that_only_a_system_prompt_moves_far_confirms_one_register():
    found = studied("register_shift", voice(request=2.0, mirrored=0.1), **SPOKEN)
    implicit, request = (test.found.value for test in found.tests.values())
    assert told(found) == CONFIRMS and implicit == pytest.approx(0.05, abs=0.05) and request == pytest.approx(0.5, abs=0.05)
    assert found.measures["left after going back, share"].value == pytest.approx(0, abs=0.05)


def test_a_voice_that_is_renegotiated_refutes_it_and_what_sticks_is_hysteresis():
    found = studied("register_shift", voice(request=4.0, mirrored=2.0, after_going_back=3.0), **SPOKEN)
    assert told(found) == REFUTES and found.measures["left after going back, share"].value == pytest.approx(0.75, abs=0.05)
    moves = {arm: found.measures[f"move of sampled answers, {arm}"] for arm in ("explicit request", "implicit mirroring")}
    assert all(move.low > 0.2 for move in moves.values())


def test_a_voice_that_no_prompt_moves_or_that_any_request_does_fails_the_instrument():
    assert failed(studied("register_shift", voice(system=0.0), **SPOKEN))[0] == "a system prompt shifts the register"
    found = studied("register_shift", voice(request=2.0, anything=2.0), **SPOKEN)
    assert told(found) == FAILED and failed(found) == ["a request of another kind does not"]


def test_features_of_an_answer_by_hand():
    # 9 words in two sentences: one contraction, one hedge, three marks
    assert features("It's so, perhaps!!! We shall see about it.").tolist() == pytest.approx([1 / 8, 4, 1 / 8, 1.5])
    assert all(map(math.isnan, features("...")))


# -- persona variance ------------------------------------------------------------------------------------------------------------------

CARDS = stimuli("persona_variance").personas
PEOPLE = {"personas": 10, "items": 12, "wordings": 2, "seeds": 3}


def chooser(persona=0.0, names=0.0, scrambled=0.0, obeys=True, place=0.0) -> Planted:
    """Log odds of the first option: by the item, and so much by the persona's text, by its name alone, by its words in disorder, and by
    whether it stands first."""
    def nats(question: Question, option: str) -> float:
        (name, asks), system = question.item.split(": ", 1), question.messages[0][1]
        if option != question.options[0]:
            return 0.0
        if "you say: " in system:
            return obeys * (8.0 if f"you say: {option}".lower() in system.lower() else -8.0)
        text = CARDS[name] in system
        disorder = not text and len(system.split()) > 12
        first, second = (heard(question).rfind(one.lower()) for one in question.options)
        return (0.5 * noise(asks) + 0.1 * noise(heard(question)) + (place if first < second else -place)
                + noise(name, asks) * (persona * text + names + scrambled * disorder))

    return Planted(nats, lambda question: question.options[question.seed % 2] if question.seed % 3 else "Well")


def ratio_of(found) -> float:
    return next(iter(found.tests.values())).found.value


def test_personas_who_answer_alike_confirm_that_runs_differ_more():
    found = studied("persona_variance", chooser(), **PEOPLE)
    assert told(found) == CONFIRMS and ratio_of(found) == pytest.approx(1000), "no variance between personas: the ratio's bound"
    assert found.measures["variance, run, at 0.7"].value == pytest.approx(0.25, abs=0.02), "p (1 - p), p near a half"
    words = found.measures["sampled words that are an answer, at 0.7"].value
    assert 0.4 < words < 0.9 and found.measures["variance, sampled runs, at 0.7"].value > 0.1


def test_personas_who_know_their_minds_refute_it_the_more_the_lower_the_temperature():
    found = studied("persona_variance", chooser(persona=8.0), **PEOPLE)
    assert told(found) == REFUTES and ratio_of(found) < 0.4
    assert found.measures["R at 0.3, persona text"].value < ratio_of(found) < found.measures["R at 1.0, persona text"].value


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


# -- card distance ---------------------------------------------------------------------------------------------------------------------

TALK = stimuli("card_distance")
FAR = {"personas": 8, "slots": 2, "exchanges": 16}


def holder(kept, whatever=False) -> Planted:
    """Leans to the value that it was told by 4 nats times `kept(exchanges since)`; or, `whatever` it was told, to the right one."""
    def nats(question: Question, option: str) -> float:
        slot = TALK.slots[question.item.split(", ")[1]] if ", " in question.item else None
        heard_of = [place for place, (role, words) in enumerate(question.messages)
                    if slot and any(slot.card.format(value) in words for value in slot.values if slot.says.format(value) == option)]
        told_any = len(question.messages[0][1]) > 60
        since = (len(question.messages) - 2 - heard_of[-1]) // 2 if heard_of else None
        lean = 4.0 * (told_any and option == question.options[0]) if whatever else 4.0 * kept(since) if heard_of else 0.0
        return noise(question.item, option) + 0.1 * noise(len(question.messages), option) + lean

    return Planted(nats)


def test_a_card_that_fades_and_comes_back_when_told_again_confirms_distance():
    ask = holder(lambda since: 0.9 ** since)
    found = studied("card_distance", ask, **FAR)
    lost = next(iter(found.tests.values())).found
    assert told(found) == CONFIRMS and lost.value == pytest.approx(1 - 0.9 ** 16, abs=0.03)
    assert found.measures["hold, card only 4 of 16 ago, nats"].value == pytest.approx(4 * 0.9 ** 4, abs=0.2)
    assert found.measures["change of hold per 1000 tokens, nats"].value < 0
    assert [x for x, _ in found.pictures["hold"].curves["card at the start"]] == [0, 2, 4, 8, 16, 32], "a planted token a line"
    assert ask.arms["card 16 ago"] == 16 and ask.arms["length of the filler"] == 1


def test_a_card_that_holds_however_far_refutes_it():
    found = studied("card_distance", holder(lambda since: 1.0), **FAR)
    assert told(found) == REFUTES and next(iter(found.tests.values())).found.value == pytest.approx(0, abs=0.03)


def test_a_card_that_nobody_reads_or_that_anybody_could_have_told_fails_the_instrument():
    assert failed(studied("card_distance", holder(lambda since: 0.0), **FAR))[0] == "right after it a card holds"
    assert failed(studied("card_distance", holder(None, whatever=True), **FAR)) == ["another's card does not"]


def test_no_talk_of_other_things_names_what_a_card_tells():
    values = [value for slot in TALK.slots.values() for value in slot.values]
    assert len(TALK.filler) == 32 and not [line for pair in TALK.filler for line in pair for value in values if f" {value}" in line]
