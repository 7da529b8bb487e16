"""Lines of any length: what reads a line takes time in proportion to it, and what is not read is unscored."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest

from agents.engine.sentences import first_sentences
from agents.servers.answers import well_formed
from lab.progress.run import State, apply
from lab.reports.markdown import quote
from lab.transcripts.reading import read_records
from metrics import tripwires
from metrics.judges import READ, Pair
from metrics.judges.answer_words import match_judgement
from metrics.judges.ledger import MOST_CLAIMS, Ledger
from metrics.judges.likelihood import Likelihood
from metrics.judges.llm import LONGEST, Llm
from metrics.judges.nli import MOST_READ, Nli
from metrics.judges.pair_retrieval import candidates
from metrics.tripwires import line_wires
from scenarios.messages import clean_lines, composed, hidden
from scenarios.personas import load_personas
from scenarios.scripts import count_words, not_english, unreadable
from scenarios.spoken import Speaker, spoken_words
from scenarios.turn_marks import next_turn, own_words

GRACE, TOMAS, *_ = load_personas("scenarios/personas/townsfolk.yaml")
KINDS = {  # of long lines, each of one piece again and again
    "word": "word ",
    "blank": " ",
    "dots": ".",
    "key": "?key",
    "quote": '"',
    "curly": "“",
    "quoted": "“a” ",
    "comma": ", ",
    "a": "a ",
    "negation": "not ",
    "fillers": "do ",
    "capitals": "Anna Bella ",
    "marks": "e\u0301\u0300",
    "letters": "x",
    "cjk": "我住在",
    "newline": "\n",
    "other": "\nUser: a",
    "colon": "a:\n",
    "thought": "<think>",
    "channel": "<|channel|>",
    "claim": "I live in Osaka. ",
    "name": "My name is Sven ",
}
BOUNDED = ("ledger", "answer_match", "nli", "retrieval")  # which read no more than READ characters
SHORT, LONG = 8_000, 64_000  # characters


def pair(metric: str, line: str, other: str = "I live in Leeds.") -> Pair:
    return Pair(0, 5, "user", metric, line, "3" if metric == "line_to_line" else "persona", GRACE, other, TOMAS, other)


def embed(texts):
    return np.ones((len(texts), 2)) / 2**0.5


NLI = Nli(lambda first, second: np.full((len(first), 3), 1 / 3), embed)
LLM = Llm(lambda prompts, options: [[0.0] * len(words) for words in options], "strict")
LIKELIHOOD = Likelihood(lambda cards, texts: [[-2.0] for _ in texts], embed)


def shown(text: str) -> None:
    event = {"event": "line", "conversation": 0, "turn": 0, "seat": "user", "persona": "a", "node": "", "text": text}
    apply(State(), event | {"time": "2026-01-01T00:00:00.000Z"})
    quote(text, None)


def stored(text: str) -> None:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "Hi."}]
    read_records("sent.jsonl", json.dumps({"messages": messages}).encode())


READERS: dict[str, Callable[[str], object]] = {
    "ledger": lambda text: Ledger().judge([pair("prompt_to_line", text), pair("line_to_line", text, text[1:])]),
    "answer_match": lambda text: match_judgement(0, 5, "user", GRACE.facts[0], text),
    "nli": lambda text: NLI.judge([pair("prompt_to_line", text), pair("line_to_line", text, text[1:])]),
    "llm": lambda text: LLM.judge([pair("line_to_line", text, text[1:])]),
    "likelihood": lambda text: LIKELIHOOD.judge([pair("prompt_to_line", text, text[1:])]),
    "retrieval": lambda text: candidates([text, text[1:], text[2:]], embed, GRACE),
    "tripwires": lambda text: line_wires(text, GRACE.card, text[1:]),
    "words": lambda text: (count_words(text), not_english("it", text), unreadable(text, ("I live in {value}",))),
    "turns": lambda text: (own_words(text, "user", "Ann", "Bob"), next_turn(text, "user", "Ann", "Bob")),
    "speech": lambda text: spoken_words(first_sentences(text, 2) + text, Speaker("user", "Ann", "Bob")),
    "messages": lambda text: (clean_lines(text), composed(text), hidden(text), well_formed(text)),
    "views": shown,
    "transcripts": stored,
}


def seconds(reader: str, kind: str, length: int) -> float:
    piece = KINDS[kind]
    text = f"I am a {piece * (length // len(piece))}q"
    began = time.thread_time()
    READERS[reader](text)
    return time.thread_time() - began


@pytest.mark.parametrize("reader", READERS)
def test_what_reads_a_line_takes_time_in_proportion_to_its_length(reader):
    for kind in KINDS:
        first, last = (READ // 32, READ // 4) if reader in BOUNDED else (SHORT, LONG)
        seconds(reader, kind, first // 2)  # what is made once
        short, long = seconds(reader, kind, first), seconds(reader, kind, last)
        # quadratic would be 64 times as long, and seconds even for the fastest of those that read all
        assert long < max(0.3, 3 * 8 * short), (kind, short, long)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_line_of_ten_megabytes_takes_seconds(reader):
    for kind in KINDS:
        length = 10_000_000 // len(KINDS[kind].encode()) * len(KINDS[kind])
        assert seconds(reader, kind, length) < 30, kind  # CPU seconds; some 10 on a machine without other work


LONG_LINE = "I live in Leeds. " + "So it goes. " * (READ // 12)


@pytest.mark.parametrize("judge", [Ledger(), NLI], ids=lambda judge: judge.name)
def test_a_line_that_is_longer_than_judges_read_is_unscored_and_never_consistent(judge):
    rows = judge.judge([pair("prompt_to_line", LONG_LINE[:READ]), pair("prompt_to_line", LONG_LINE)])
    assert rows[0].unscored is None and rows[-1].verdict is None
    assert f"more than the {READ:,} that are read" in rows[-1].unscored
    for line, other in ((LONG_LINE, "Fine."), ("Fine.", LONG_LINE)):
        (row,) = judge.judge([pair("line_to_line", line, other)])
        assert row.verdict is None and "that are read" in row.unscored


def test_an_answer_that_is_longer_than_is_read_is_unscored():
    home = GRACE.fact("home")
    row = match_judgement(0, 5, "user", home, f"{home.value}. " + "So it goes. " * (READ // 12))
    assert row.verdict is None and "that are read" in row.unscored


def test_a_line_that_is_longer_than_tripwires_read_counts_in_two_of_them():
    wires = line_wires("So it goes. " * (tripwires.LONGEST // 12) + "\nUser: Fine.", GRACE.card)
    assert wires == {"length": 3.0 * (tripwires.LONGEST // 12) + 2, "speaks_for_other": 1.0}
    assert len(line_wires("So it goes.", GRACE.card, LONG_LINE * 20)) > 5


def test_pairs_of_many_claims_sentences_or_statements_are_unscored():
    towns = "".join(
        f"I live in {first}{last}. " for first in "BDFGHKLMNP" for last in ("ada", "elo", "inu", "oro", "usa", "aro")
    )
    (row,) = Ledger().judge([pair("line_to_line", towns, towns)])
    assert row.verdict is None and row.unscored == f"more than {MOST_CLAIMS} different claims in a line"
    assert Ledger().judge([pair("prompt_to_line", towns)])[0].verdict is True
    many = "".join(f"I own {number} boats. " for number in range(240))
    (row,) = NLI.judge([pair("line_to_line", many, many)])
    assert (
        row.verdict is None
        and row.unscored == f"2,880 different pairs of sentences, more than the {MOST_READ:,} that are read"
    )
    (row,) = LLM.judge([pair("line_to_line", "Fine.", many * 2)])
    assert row.verdict is None and row.unscored == "480 statements, more than the 450 that are asked about"
    (row,) = LLM.judge([pair("line_to_line", "Fine. " * (LONGEST // 6), "Fine.")])
    assert row.verdict is not None
    (row,) = LLM.judge([pair("line_to_line", "Fine. " * LONGEST, "Fine.")])
    assert row.verdict is None and f"more than the {LONGEST:,} that are read" in row.unscored


def test_equal_lines_of_many_claims_are_compared_in_no_time():
    line = "I live in Osaka. I don't have a tortoise. " * (READ // 45)
    Ledger().judge([pair("line_to_line", line, line)])
    began = time.thread_time()
    Ledger().judge([pair("line_to_line", line, line) for _ in range(50)])
    assert time.thread_time() - began < 3
