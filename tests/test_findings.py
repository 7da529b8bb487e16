"""What each finding's measure makes of respondents whose answer is known: it finds what is there, and nothing that is not."""

from __future__ import annotations

import math

import pytest
from respondents import Planted, dialogues, failed, heard, noise, stimuli, studied, told

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


# -- offline_rl ------------------------------------------------------------------------------------------------------------------------

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
    assert len(good) == len(bad) == 36 and {one.reply for one in good}.isdisjoint(one.reply for one in bad if one in good)
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
    assert told(found) == REFUTES


def test_one_who_learns_nothing_from_punishment_refutes_it():
    assert told(studied("offline_rl", ranker({"taught what is asked": 0.0}), **RANKED)) == REFUTES


@pytest.mark.parametrize(("rates", "control"), [
    (dict.fromkeys((None, "sft", "shuffled labels", *PUNISHED), 0.0) | {"taught what is asked": -1.0}, "the untaught model contradicts"),
    (PUNISHED | {"shuffled labels": 0.1, "taught what is asked": 0.0}, "shuffled labels teach nothing"),
    (PUNISHED, "who is taught what is asked contradicts less")])
def test_offline_learning_that_cannot_be_told_from_its_controls_fails_the_instrument(rates, control):
    found = studied("offline_rl", ranker(rates), **RANKED)
    assert told(found) == FAILED and control in failed(found)


# -- simulator_rl and the ladder -------------------------------------------------------------------------------------------------------

CALM = {"evasion": 0.0, "repetition": 0.0, "distinct_2": 0.95, "length": 8.0, "parroting": 0.0}
EVASIVE = CALM | {"evasion": 1.0}


def speaker(rates: dict[str, float], wires: dict[str, dict] | None = None) -> Planted:
    """Contradicts in such a share of lines and answers, by arm; half of them where nothing is said."""
    scripts = {"evades": 0.0, "lies": 1.0}

    def plays(arm: str):
        def bad(person: str, line: int, metric: str) -> bool:
            evenly = 0.618 * line + 0.382 * int(person[1:]) + 0.3 * (arm == "other seeds") + 0.1 * (metric == "questions")
            return evenly % 1 < (rates | scripts).get(arm, 0.5)

        return dialogues(12, 6, bad, ({"evades": EVASIVE} | (wires or {})).get(arm, CALM))

    return Planted(plays=plays)


TRAINED = {"methods": ["sft", "kto", "grpo"], "steps": 2, "dialogues": 2, "examined": 12, "turns": 12}
CLIMBED = {"rungs": ["bare card", "better card", "reminder", "sft", "online rl"], "steps": 2, "dialogues": 2, "examined": 12, "turns": 12}


def test_a_simulator_that_training_mends_confirms_and_one_that_it_does_not_refutes():
    ask = speaker({"grpo": 0.1})
    found = studied("simulator_rl", ask, **TRAINED)
    assert told(found) == CONFIRMS and found.tests["share of wrong answers removed by grpo"].found.value == pytest.approx(0.8, abs=0.1)
    assert ask.changes["kto, training"]["data"] == ["sft, training"] and ask.changes["grpo, training"]["data"] == []
    assert ask.changes["grpo"]["worn"] == "grpo, training" and ask.changes["grpo"]["seed"] == ask.changes["prompt only"]["seed"]
    assert set(ask.changes["grpo"]["drawn"]) == set(ask.changes["grpo, training"]["held_out.personas"])
    assert told(studied("simulator_rl", speaker({"grpo": 0.45, "sft": 0.0}), **TRAINED)) == REFUTES


def test_a_simulator_that_evades_does_not_win():
    found = studied("simulator_rl", speaker({"grpo": 0.0}, {"grpo": EVASIVE}), **TRAINED)
    assert told(found) == REFUTES and found.tests["tripwires out of bounds under grpo"].found.value == 1


@pytest.mark.parametrize(("rates", "wires", "control"), [
    ({"grpo": 0.1, "other seeds": 0.1}, {}, "other seeds remove nothing"), ({"grpo": 0.1}, {"evades": CALM}, "an evasive policy does not win")])
@pytest.mark.parametrize(("name", "numbers"), [("simulator_rl", TRAINED), ("ladder", CLIMBED)])
def test_dialogues_that_cannot_be_told_from_their_controls_fail_the_instrument(name, numbers, rates, wires, control):
    found = studied(name, speaker(rates, wires), **numbers)
    assert told(found) == FAILED and failed(found) == [control]


def test_the_ladder_tells_words_from_training():
    ask = speaker({"reminder": 0.4, "sft": 0.2, "online rl": 0.1})
    found = studied("ladder", ask, **CLIMBED)
    assert told(found) == CONFIRMS
    more = found.tests["share of wrong answers removed by training less by texts"].found
    assert more.value == pytest.approx((0.6 + 0.8) / 2 - (0.0 + 0.2) / 2, abs=0.1)
    table = found.tables["The ladder"]
    assert list(table) == CLIMBED["rungs"] and table["sft"]["trained parameters"].value == 1234 and table["sft"]["tokens learnt or tried"].value == 42
    assert table["better card"]["seconds before"].value == pytest.approx(3 * 72 * 0.1), "three wordings tried on 72 lines"
    assert table["reminder"]["seconds before"].value == 0
    assert told(studied("ladder", speaker({"better card": 0.0, "reminder": 0.1}), **CLIMBED)) == REFUTES


def test_the_wording_that_helps_most_on_other_people_is_the_better_card():
    ask = speaker({})
    told_apart = iter((0.5, 0.1, 0.3))
    plays, ask.plays = ask.plays, lambda arm: (speaker({arm: next(told_apart)}).plays(arm) if arm == "better card, development" else plays(arm))
    studied("ladder", ask, **CLIMBED)
    wordings = stimuli("ladder").rungs["better card"].search
    assert ask.changes["better card"]["seats.user.instruction"] == wordings[1]["seats.user.instruction"]
    assert not set(stimuli("ladder").development) & set(stimuli("ladder").held_out)
