"""Pairs of card statements and spoken lines, from nli_cards.jsonl: 400 persona cards of 24 kinds with 14 lines each.

The cards and lines were written for this project, by language models that its makers instructed, one card at a time;
no corpus was used. Lines that contradict a card sound different from lines that keep it (bolder, longer), and a model
that reads the line alone ranks them with an AUROC of .88. So most lines also have a statement of the other kind: one
that `fits` a line which contradicts its own card, or that a line which keeps its card `breaks`. Trained on both, a head
has to compare. `within_lines` measures what it has learnt: of two statements held against the same line, how often does
the broken one score higher?
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.judge_models.nli_data import CONTRADICTION, ENTAILMENT, NEUTRAL, Example

CARDS = Path(__file__).parent / "nli_cards.jsonl"
HELD_CARDS = 5  # every fifth card is kept from training
UNRELATED = 2  # other statements of the card that each line is held against
Card = dict[str, Any]  # kind, statements, lines; a statement is one or two wordings, the last in the first person


@lru_cache(maxsize=1)
def cards() -> tuple[list[Card], list[Card]]:
    """The cards for training and those that are kept from it."""
    rows = [json.loads(row) for row in CARDS.read_text(encoding="utf-8").splitlines()]
    held = [place % HELD_CARDS == HELD_CARDS - 1 for place in range(len(rows))]
    return (
        [row for row, kept in zip(rows, held, strict=True) if not kept],
        [row for row, kept in zip(rows, held, strict=True) if kept],
    )


def card_examples(rows: Sequence[Card], seed: int) -> list[Example]:
    """Pairs (statement, line) of the cards, and a few pairs of lines, with labels; the seed draws among wordings and
    unrelated statements.
    """
    rng = random.Random(seed)
    return [pair for row in rows for pair in (*_of_lines(row, rng), *_of_pairs(row, rng))]


def within_lines(entail: Callable[[Sequence[str], Sequence[str]], np.ndarray], rows: Sequence[Card]) -> tuple[int, int]:
    """(wins, lines): for how many lines with a broken and a kept statement the broken one has the higher probability of
    contradiction. Chance is one half, also for a model that reads the line alone.
    """
    both = [
        (broken[-1], kept[-1], line["text"])
        for row in rows
        for line in row["lines"]
        for broken, kept in [(_broken(row, line), _kept(row, line))]
        if broken and kept
    ]
    broken, kept, texts = (list(column) for column in zip(*both, strict=True))
    higher = entail(broken, texts)[:, CONTRADICTION] > entail(kept, texts)[:, CONTRADICTION]
    return int(higher.sum()), len(both)


def lines_with_cards(rows: Sequence[Card]) -> list[tuple[str, str, bool, bool]]:
    """(text of the card, line, contradicts, mirrored) of every line: against its own card, then, where there is a
    statement of the other kind, against the card with that in place of the statement that the line is about.
    """
    lines = []
    for row in rows:
        own = [wordings[-1] for wordings in row["statements"]]
        for line in row["lines"]:
            contradicts = line["label"] == "contradicts"
            lines.append((_text(own), line["text"], contradicts, False))
            if other := line.get("fits" if contradicts else "breaks"):
                replaced = list(own)
                replaced[line.get("statement", -1)] = other[-1]
                lines.append((_text(replaced), line["text"], not contradicts, True))
    return lines


def _text(statements: Sequence[str]) -> str:
    return " ".join(text if text[-1] in ".!?" else f"{text}." for text in statements)


def _of_lines(row: Card, rng: random.Random) -> list[Example]:
    pairs = []
    for line in row["lines"]:
        text, own = line["text"], line.get("statement")
        for label, wordings in ((CONTRADICTION, _broken(row, line)), (ENTAILMENT, _kept(row, line))):
            if wordings:
                pairs.append(Example(rng.choice([*wordings, wordings[-1]]), text, label, "", "card"))
        others = [place for place in range(len(row["statements"])) if place != own]
        for place in rng.sample(others, min(UNRELATED, len(others))):
            pairs.append(Example(rng.choice(row["statements"][place]), text, NEUTRAL, "", "card"))
    return pairs


def _of_pairs(row: Card, rng: random.Random) -> list[Example]:
    """Pairs of the card's lines: opposite ones about the same statement, and such as speak of different ones."""
    contradicting = [line for line in row["lines"] if line["label"] == "contradicts" and "statement" in line]
    faithful = [line for line in row["lines"] if line["label"] == "faithful" and "statement" in line]
    pairs = [
        Example(first["text"], second["text"], CONTRADICTION, "", "lines")
        for first, second in [(a, b) for a in faithful for b in contradicting]
        if first["statement"] == second["statement"] and rng.random() < 0.4
    ]
    for lines in (contradicting, faithful):
        for first, second in (rng.sample(lines, 2) for _ in range(2) if len(lines) > 1):
            if first["statement"] != second["statement"]:
                pairs.append(Example(first["text"], second["text"], NEUTRAL, "", "lines"))
    return pairs


def _broken(row: Card, line: dict[str, Any]) -> list[str] | None:
    """The wordings of a statement that the line contradicts."""
    if line["label"] == "contradicts" and "statement" in line:
        return row["statements"][line["statement"]]
    return line.get("breaks")


def _kept(row: Card, line: dict[str, Any]) -> list[str] | None:
    """The wordings of a statement that the line follows from, restates or shows."""
    if line["label"] == "faithful" and "statement" in line:
        return row["statements"][line["statement"]]
    return line.get("fits")
