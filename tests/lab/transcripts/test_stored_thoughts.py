"""Stored lines are read without thoughts and up to where they go on as the other speaker."""

from __future__ import annotations

import json

import polars as pl

from lab.transcripts.reading import read_records
from metrics.tripwires import tripwires

TALK = {
    "messages": [
        {"role": "user", "content": "Hello.\nAssistant: I live in Bristol."},
        {"role": "assistant", "content": "<think>Which town? Rome.</think>I live by the sea."},
        {"role": "user", "content": [{"type": "reasoning", "summary": "Hm"}, {"type": "text", "text": "Nice."}]},
    ]
}


def test_stored_thoughts_and_words_for_the_other_are_no_words_of_a_line():
    [transcript] = read_records("talk.jsonl", json.dumps(TALK).encode()).transcripts
    assert [line.text for line in transcript.lines] == ["Hello.", "I live by the sea.", "Nice."]
    assert [line.cut for line in transcript.lines] == ["Assistant: I live in Bristol.", "", ""]


def test_a_line_that_was_cut_counts_in_the_tripwire():
    [transcript] = read_records("talk.jsonl", json.dumps(TALK).encode()).transcripts
    turns = pl.DataFrame(
        [{"conversation": 0, "turn": x.turn, "seat": x.seat, "text": x.text, "cut": x.cut} for x in transcript.lines]
    )
    rows = tripwires(turns, confidence=0.9)
    shares = rows.filter(pl.col("metric") == "speaks_for_other", pl.col("level") == "run").select("seat", "value")
    assert dict(shares.iter_rows()) == {"user": 0.5, "assistant": 0.0}
