"""How far to trust each judge, on lines with labels: `python -m lab.selftest --judges [FILE ...]`.

Two files come with the lab. Nobody who worked on a judge wrote them or may change a judge in view of them:

- free_text_personas.jsonl: 70 personas of ten forms (a sentence, a paragraph, a character card, a list, ...) with ten
  lines each, of which four contradict;
- townsfolk_sentences.jsonl: 80 sentences as the townsfolk might say them; half of them contradict a fact.

Further files or run folders hold conversations with labels (the forms of `lab.score`).

Lines that were written in order to contradict sound different from others (bolder), so that even who reads no card
ranks them well. The column "mirrored" corrects for that: each line is held against its own card and against a statement
for which the other label is right. A judge that reads the line alone has an AUROC of .5 there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.validation.validity import FALSE_ALARMS
from scenarios.records import Persona

if TYPE_CHECKING:
    from metrics.judges import Judge, Pair
    from metrics.stats.intervals import Interval

HERE = Path(__file__).parent
PEOPLE, SENTENCES = HERE / "free_text_personas.jsonl", HERE / "townsfolk_sentences.jsonl"
AT_ONCE = 80  # pairs that a judge gets at once, as `lab.score` does


@dataclass(frozen=True)
class LabelledLines:
    """Lines held against a persona, with labels."""

    name: str
    pairs: tuple[Pair, ...]  # `conversation` is the place of each
    contradicts: tuple[bool, ...]  # of each pair
    clusters: tuple[int, ...]  # the persona or conversation of each pair
    mirrors: Mapping[int, Pair]  # by place: the line held against a statement for which the other label is right


@dataclass(frozen=True)
class JudgeFigures:
    """A judge on labelled lines; `statistics` are those of `metrics.validation.calibration`, beside three more:

    - `accused`: share of the clean lines that the judge accuses;
    - `recall_at`: share of the contradicting lines above the smallest p that accuses at most FALSE_ALARMS of the clean;
    - `mirrored`: AUROC of lines and their mirrors together.
    """

    judge: str
    lines: str
    statistics: Mapping[str, Interval]
    bins: Sequence[tuple[float, Interval]]
    n: int  # scored
    contradicting: int  # of n
    unscored: int
    lines_per_s: float  # of all pairs, mirrors left out


def free_text_personas() -> LabelledLines:
    """The lines of free_text_personas.jsonl."""
    pairs, labels, clusters, mirrors = [], [], [], {}
    for cluster, row in enumerate(_rows(PEOPLE)):
        persona, partner = Persona(str(cluster), row["name"], row["card"], ()), Persona("", "", row["partner"], ())
        for line in row["lines"]:
            if mirror := line.get("mirror"):
                other = Persona(f"{cluster}, mirror", row["name"], mirror, ())
                mirrors[len(pairs)] = _pair(len(pairs), line["text"], other, partner)
            pairs.append(_pair(len(pairs), line["text"], persona, partner))
            labels.append(line["contradicts"])
            clusters.append(cluster)
    return LabelledLines("free-text personas", tuple(pairs), tuple(labels), tuple(clusters), mirrors)


def townsfolk_sentences(townsfolk: Sequence[Persona]) -> LabelledLines:
    """The sentences of townsfolk_sentences.jsonl."""
    by_id, rows = {persona.id: persona for persona in townsfolk}, list(_rows(SENTENCES))
    pairs = tuple(_pair(place, row["text"], by_id[row["persona"]]) for place, row in enumerate(rows))
    people = {name: number for number, name in enumerate(by_id)}
    clusters = tuple(people[row["persona"]] for row in rows)
    return LabelledLines("townsfolk", pairs, tuple(row["contradicts"] is not None for row in rows), clusters, {})


def labelled_conversations(path: str | Path) -> LabelledLines:
    """The lines of a file or run folder whose label says whether they contradict their speaker's persona.

    Raises ValueError where none can be read, and where none has such a label.
    """
    from lab.transcripts.reading import read_transcripts
    from lab.transcripts.transcript import transcript_pairs

    pairs, labels, clusters, places = [], [], [], count()
    for transcript in read_transcripts(path).transcripts:
        for pair in transcript_pairs(transcript, {"prompt_to_line"}):
            label = transcript.labels.get((pair.turn, "persona"))
            if label is not None and pair.persona.card:
                pairs.append(_pair(next(places), pair.line, pair.persona, pair.partner, pair.heard))
                labels.append(label)
                clusters.append(transcript.conversation)
    if not pairs:
        raise ValueError(f"{path} labels no line as contradicting its persona or not; expected labelled conversations")
    return LabelledLines(Path(path).name, tuple(pairs), tuple(labels), tuple(clusters), {})


def judge_figures(judge: Judge, lines: LabelledLines, *, confidence: float) -> JudgeFigures:
    """The judge's figures on these lines, with intervals over clusters."""
    import numpy as np

    from metrics.stats.intervals import clustered_rows
    from metrics.stats.shares import clustered_share
    from metrics.validation.calibration import auroc, calibration, reliability_bins, threshold_at

    began = time.perf_counter()
    rows = _judged(judge, lines.pairs)
    seconds = time.perf_counter() - began
    places = sorted(rows)
    p = np.array([rows[place][0] for place in places], float)
    verdict = np.array([rows[place][1] for place in places], bool)
    labels = np.array([lines.contradicts[place] for place in places], bool)
    clusters = np.array([lines.clusters[place] for place in places], int)
    statistics = calibration(p, verdict, labels, clusters, confidence=confidence)
    clean = ~labels
    statistics["accused"] = clustered_share(verdict[clean], clusters[clean], confidence=confidence)
    threshold = threshold_at(p[clean], FALSE_ALARMS)
    statistics["recall_at"] = clustered_share(p[labels] > threshold, clusters[labels], confidence=confidence)
    other = _judged(judge, list(lines.mirrors.values()))
    both = [place for place in places if place in other]
    q = np.array([*(rows[place][0] for place in both), *(other[place][0] for place in both)], float)
    truth = np.array([lines.contradicts[place] for place in both], bool)
    statistics["mirrored"] = clustered_rows(
        np.array([lines.clusters[place] for place in both] * 2, int),
        lambda weights: auroc(q, np.concatenate([truth, ~truth]), weights),
        confidence=confidence,
    )
    return JudgeFigures(
        judge.name,
        lines.name,
        statistics,
        reliability_bins(p, labels, clusters, confidence=confidence),
        n=len(places),
        contradicting=int(labels.sum()),
        unscored=len(lines.pairs) - len(places),
        lines_per_s=len(lines.pairs) / seconds,
    )


def _judged(judge: Judge, pairs: Sequence[Pair]) -> dict[int, tuple[float, bool]]:
    """(p_inconsistent, verdict) against the whole persona, by place, of the pairs that the judge scored."""
    return {
        row.conversation: (row.p_inconsistent, bool(row.verdict))
        for start in range(0, len(pairs), AT_ONCE)
        for row in judge.judge(pairs[start : start + AT_ONCE])
        if row.against == "persona" and row.p_inconsistent is not None
    }


def _pair(place: int, line: str, persona: Persona, partner: Persona | None = None, heard: str = "") -> Pair:
    from metrics.judges import Pair

    return Pair(place, 0, "user", "prompt_to_line", line, "persona", persona, partner=partner, heard=heard)


def _rows(path: Path) -> Iterator[dict]:
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())
