"""Tripwires of lines written here, with the arithmetic beside them."""

from __future__ import annotations

import math
import time

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lab.reports.headline import headline
from lab.store.frames import JUDGEMENTS
from metrics import METRICS_SCHEMA
from metrics.measure import measure_run
from metrics.tripwires import BOUNDS, TEXT, TRIPWIRES, WINDOW, evades, fired, folded_words, line_wires, tripwires

HOW = {"confidence": 0.95}
CARD = (
    "Your name is Grace. You are warm and curious. You live in Osaka. Your favourite dish of all is mushroom risotto."
)


def frame(*lines: str, conversation: int = 0) -> pl.DataFrame:
    """Lines of the user at odd turns, each after a "Tell me more about the garden." of the assistant's."""
    rows = [
        (conversation, 2 * place + of, seat, text)
        for place, line in enumerate(lines)
        for of, (seat, text) in enumerate((("assistant", "Tell me more about the garden."), ("user", line)))
    ]
    return pl.DataFrame(
        rows, schema={"conversation": pl.Int64, "turn": pl.Int64, "seat": pl.String, "text": pl.String}, orient="row"
    )


def over_run(turns: pl.DataFrame, card: str | None = CARD, **how) -> dict[str, float]:
    metrics = tripwires(
        turns, {} if card is None else {(c, "user"): card for c in turns["conversation"].unique()}, **HOW, **how
    )
    assert dict(metrics.schema) == METRICS_SCHEMA and metrics["judge"].null_count() == len(metrics)
    rows = metrics.filter(pl.col("level") == "run", pl.col("seat") == "user")
    return dict(zip(rows["metric"], rows["value"], strict=True))


def test_distinct_counts_within_windows_of_fixed_length_so_that_length_does_not_matter():
    # 10 words over and over: a window of 20 holds 10 different words, 10 different pairs of 19
    text = " ".join(f"word{number}" for number in range(10))
    short, long = over_run(frame(text, text)), over_run(frame(*[text] * 20))
    assert short["distinct_1"] == long["distinct_1"] == 10 / WINDOW
    assert short["distinct_2"] == pytest.approx(10 / (WINDOW - 1)) and long["distinct_2"] == pytest.approx(
        10 / (WINDOW - 1)
    )
    assert math.isnan(over_run(frame(text))["distinct_1"]), "less than one window says nothing"


def test_repetition_is_the_share_of_four_word_runs_said_before():
    # line 1: runs "the rain fell all", "rain fell all day", none said; line 2: the same two and "fell all day long": 2
    # of 3
    metrics = over_run(frame("The rain fell all day.", "The rain fell all day long!"))
    assert metrics["repetition"] == pytest.approx((0 + 2 / 3) / 2)


def test_saying_again_what_another_dialogue_said_is_no_repetition():
    turns = pl.concat([frame("The rain fell all day."), frame("The rain fell all day.", conversation=1)])
    assert over_run(turns)["repetition"] == 0


def test_reciting_the_card_in_either_person_is_parroting_and_a_plain_fact_is_not():
    assert over_run(frame("You are warm and curious. You live in Osaka."))["parroting"] == 1.0
    assert over_run(frame("I am warm and curious. I live in Osaka."))["parroting"] == 1.0
    # "my favourite dish of all is mushroom risotto" is 8 words of the line's 10
    assert over_run(frame("Well, honestly: my favourite dish of all is mushroom risotto."))[
        "parroting"
    ] == pytest.approx(0.8)
    assert over_run(frame("I live in Osaka, and mushroom risotto is lovely."))["parroting"] == 0.0


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("You are Grace, a carpenter.", 1),
        ("Grace is a carpenter from Leeds.", 1),
        ("Your name is Grace.", 1),
        ("You live in Osaka.", 1),
        ("Grace plays the cello.", 1),
        ("My name is Grace.", 0),
        ("I am Grace and I live in Osaka.", 0),
        ("Grace here!", 0),
        ("Do you live in Osaka?", 0),
        ("You are kind.", 0),
    ],
)
def test_wrong_person_is_speaking_of_oneself_as_someone_else(line, wrong):
    assert over_run(frame(line))["wrong_person"] == wrong


@pytest.mark.parametrize(
    "card", ["Meet Ilse Brandt, a surveyor.", "Ilse Brandt is a surveyor.", "My name is Ilse.", "You are Ilse."]
)
def test_name_is_read_from_cards_in_any_person(card):
    assert over_run(frame("Ilse is a patient surveyor.", "I am Ilse."), card)["wrong_person"] == 0.5


@pytest.mark.parametrize(
    ("line", "voice"),
    [
        ("As an AI language model, I have no home.", 1),
        ("How can I help you today?", 1),
        ("I'm an AI assistant.", 1),
        ("I help my neighbour in her garden.", 0),
        ("My aim is to sleep.", 0),
        ("I saw a film about an AI.", 0),
    ],
)
def test_helper_voice_is_a_program_speaking(line, voice):
    assert over_run(frame(line))["helper_voice"] == voice


@pytest.mark.parametrize(
    ("line", "evasive"),
    [
        ("Yes, I agree.", 1),
        ("That is very nice!", 1),
        ("Tell you more about the garden? Okay.", 1),
        ("...", 1),
        ("", 1),
        ("Yes, I live in Osaka.", 0),
        ("The beans are ripe.", 0),
    ],
)
def test_evasion_is_a_line_without_a_word_of_its_own(line, evasive):
    assert over_run(frame(line))["evasion"] == evasive


def test_words_just_heard_are_not_ones_own():
    assert evades(folded_words("Beekeeping, yes"), folded_words("I love beekeeping")) and not evades(
        folded_words("Beekeeping, yes"), folded_words("Hello")
    )


def test_blank_line_has_length_nought_and_is_in_no_other_mean():
    metrics = tripwires(frame("", "One two three."), {(0, "user"): CARD}, **HOW)
    rows = {
        row["metric"]: row
        for row in metrics.filter(pl.col("level") == "run", pl.col("seat") == "user").iter_rows(named=True)
    }
    assert (rows["length"]["value"], rows["length"]["n"]) == (1.5, 2) and rows["parroting"]["n"] == rows[
        "helper_voice"
    ]["n"] == 1


def test_without_a_card_nobody_can_be_said_to_copy_it():
    metrics = over_run(frame("You live in Osaka."), card=None)
    assert math.isnan(metrics["parroting"]) and math.isnan(metrics["wrong_person"]) and metrics["evasion"] == 0.0


def test_relevance_is_the_cosine_with_the_line_that_was_heard():
    def embed(texts):
        return np.array([[1.0, 0.0] if "garden" in text else [0.6, 0.8] for text in texts])

    # cosines 1 and .6; the assistant answers too, but its first line answers nothing
    assert over_run(frame("My garden.", "The sea."), embed=embed)["relevance"] == pytest.approx(0.8)
    metrics = tripwires(frame("My garden.", "The sea."), embed=embed, **HOW)
    assert (
        metrics.filter(pl.col("metric") == "relevance", pl.col("level") == "run", pl.col("seat") == "assistant")[
            "n"
        ].item()
        == 1
    )


def test_perplexity_is_that_of_the_text_under_the_speakers_card():
    asked = []

    def logprobs(cards, texts):
        asked.extend(zip(cards, texts, strict=True))
        return [[-1.0, -3.0], [], [-4.0]][: len(texts)]

    # means 2 and 4 nats; the line without a token is in no mean
    assert over_run(frame("One.", "Two.", "Three."), logprobs=logprobs)["perplexity_nats"] == 3.0
    assert asked == [(CARD, "One."), (CARD, "Two."), (CARD, "Three.")], "a speaker without a card is not asked about"


def test_every_wire_comes_by_turn_conversation_and_run_with_intervals_over_conversations():
    turns = pl.concat(
        [frame("The rain fell.", "Yes.", conversation=c) for c in range(3)] + [frame("Yes.", "Yes.", conversation=3)]
    )
    metrics = tripwires(turns, **HOW).filter(pl.col("metric") == "evasion", pl.col("seat") == "user")
    assert {level: len(metrics.filter(pl.col("level") == level)) for level in ("turn", "conversation", "run")} == {
        "turn": 2,
        "conversation": 4,
        "run": 1,
    }
    run = metrics.filter(pl.col("level") == "run").row(0, named=True)
    assert run["value"] == 5 / 8 and run["n"] == 8 and run["low"] < 5 / 8 < run["high"], (
        "three conversations of 1/2, one of 1"
    )
    words = tripwires(turns, **HOW).filter(
        pl.col("metric") == "length", pl.col("seat") == "user", pl.col("level") == "run"
    )
    words = words.row(0, named=True)
    interval = stats.ttest_1samp([2, 2, 2, 1], 0).confidence_interval(0.95)  # words a line in each conversation
    assert words["value"] == 14 / 8 and (words["low"], words["high"]) == pytest.approx(tuple(interval))


def test_no_line_gives_nan_and_n_0_for_both_seats():
    metrics = tripwires(frame(), **HOW)
    assert set(metrics["seat"]) == {"user", "assistant"} and set(metrics["metric"]) == set(TEXT)
    assert metrics["n"].sum() == 0 and metrics["value"].is_nan().all()


def judged_line(**outcome) -> pl.DataFrame:
    """The ledger's judgement of the user's line of turn 1 against its persona."""
    where = {"run_id": "r", "conversation": 0, "turn": 1, "seat": "user", "metric": "prompt_to_line"}
    return pl.DataFrame([where | {"judge": "ledger", "against": "persona"} | outcome], schema=JUDGEMENTS)


def test_line_that_no_judge_was_asked_about_trips_nothing():
    judged = judged_line(p_inconsistent=0.0, verdict=False)
    metrics = measure_run(frame("The beans are ripe.", "Yes."), judged, metrics=["tripwires"], window=5, **HOW)
    rows = metrics.filter(pl.col("metric") == "evasion", pl.col("level") == "run").select("seat", "value", "n").rows()
    assert rows[1] == ("user", 0.0, 1) and rows[0][::2] == ("assistant", 0)


def test_bounds_are_the_named_ones_and_follow_a_reference():
    good = {
        "parroting": 0.1,
        "distinct_2": 0.8,
        "relevance": 0.1,
        "evasion": 0.25,
        "length": 3.0,
        "perplexity_nats": 9.0,
    }
    assert fired(good) == [] and set(BOUNDS) <= set(TRIPWIRES)
    assert [name for name, _, _ in fired({"parroting": 0.11, "evasion": math.nan, "length": 2.9})] == [
        "parroting",
        "length",
    ]
    base = {"distinct_2": 0.95, "relevance": 0.4, "perplexity_nats": 2.0}
    # .9 x .95 = .855; at least .4; at most 2 + ln 1.25 = 2.223
    assert fired({"distinct_2": 0.86, "relevance": 0.41, "perplexity_nats": 2.22}, base) == []
    broken = fired({"distinct_2": 0.85, "relevance": 0.39, "perplexity_nats": 2.23}, base)
    assert [(name, str(bound)) for name, _, bound in broken] == [
        ("distinct_2", "≥ 0.85"),
        ("relevance", "≥ 0.40"),
        ("perplexity_nats", "≤ 2.22"),
    ]


def test_evasive_speaker_does_not_come_out_as_the_best():
    talkative, evasive = (
        ["I grew up in Leeds.", "I keep a tortoise.", "The beans are ripe."],
        ["Yes, I agree.", "Okay.", "That is nice."],
    )
    rows = [
        {
            "run_id": "r",
            "conversation": 0,
            "turn": 2 * place + 1,
            "seat": "user",
            "metric": "prompt_to_line",
            "judge": "ledger",
            "against": "persona",
            "p_inconsistent": 0.0,
            "verdict": False,
            "unscored": None,
        }
        for place in range(3)
    ]
    judged = pl.DataFrame(rows, schema=JUDGEMENTS)
    shown = {}
    for name, lines in (("talkative", talkative), ("evasive", evasive)):
        metrics = measure_run(
            frame(*lines), judged, metrics=["prompt_to_line", "tripwires"], window=5, cards={(0, "user"): CARD}, **HOW
        )
        shown[name] = {row.label: row for row in headline(metrics, judged)}
    consistency = "prompt-to-line consistency"
    assert (
        shown["talkative"][consistency].cells["user"] == "1.00 n=3"
        and shown["evasive"][consistency].cells["user"] == "1.00 n=3 ⚠"
    )
    wire = "non-informative lines (≤ 0.25)"
    assert "user" in shown["evasive"][wire].worse and "user" not in shown["talkative"][wire].worse


def test_a_consistency_without_a_value_is_not_marked():
    judged = judged_line(unscored="names no fact")
    metrics = measure_run(frame("Oh."), judged, metrics=["prompt_to_line", "tripwires"], window=5, cards=None, **HOW)
    shown = {row.label: row for row in headline(metrics, judged)}
    assert "user" in shown["words per line (≥ 3.00)"].worse
    assert shown["prompt-to-line consistency"].cells["user"] == "– n=0"


@pytest.mark.slow
def test_two_thousand_dialogues_take_seconds():
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{number}" for number in range(2000)])
    texts = [" ".join(said) for said in rng.choice(vocabulary, (400, 20))]
    turns = pl.DataFrame(
        {
            "conversation": np.repeat(np.arange(2000), 40),
            "turn": np.tile(np.arange(40), 2000),
            "seat": ["assistant", "user"] * 40_000,
            "text": [texts[place] for place in rng.integers(400, size=80_000)],
        }
    )
    start = time.process_time()
    tripwires(turns, {(c, seat): CARD for c in range(2000) for seat in ("user", "assistant")}, **HOW)
    assert time.process_time() - start < 60  # CPU seconds, so that other work does not count


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Fine, thanks.\nAssistant: I live in Bristol.", 1.0),
        ("Fine.\n<|assistant|> I live in Bristol.", 1.0),
        ("User: I am fine.", 0.0),
        ("My plan for today:\nTea: two cups.", 0.0),
    ],
)
def test_line_that_goes_on_with_the_others_turn_speaks_for_the_other(text, share):
    assert line_wires(text, "You are Grace.")["speaks_for_other"] == share


def test_what_reads_english_leaves_lines_and_cards_in_another_script_out():
    read = {"evasion", "helper_voice", "wrong_person"}
    assert read <= set(line_wires("I live in Kiel.", "You are Ada."))
    assert not read & set(line_wires("我住在上海。", "You are Ada."))
    assert read - set(line_wires("I live in Kiel.", "你住在成都。")) == {"wrong_person"}
    assert line_wires("...", "")["evasion"] == 1.0, "a line without letters says nothing in any script"
    relevance = tripwires(frame("我是小梅。"), embed=lambda texts: np.ones((len(texts), 1)), **HOW).filter(
        pl.col("metric") == "relevance", pl.col("level") == "run"
    )
    assert relevance["n"].to_list() == [0, 0]


def test_words_of_scripts_without_blanks_are_their_letters_and_marks_cut_no_word():
    assert line_wires("我住在上海。", "")["length"] == 5
    assert folded_words("मैं ठीक हूँ।") == ("मैं", "ठीक", "हूँ")
    assert len(folded_words("ไปไหน")) == 5
    assert folded_words("It's naïve, isn’t it?") == ("it's", "naïve", "isn't", "it")
