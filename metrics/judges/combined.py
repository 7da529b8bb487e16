"""Does a line contradict its speaker's persona, according to several judges together?

**Personas of text.** `nli` compares the line with each statement of the persona; `likelihood` says whether the whole
line sounds like this speaker, or like the partner. Each is close to chance where the other one ranks well. With logits
clipped to -MOST to MOST,

    p_inconsistent = 1 / (1 + exp(-(INTERCEPT + NLI logit(p_nli) + LIKELIHOOD logit(p_likelihood))))

NLI is the slope of a logistic regression on the lines of the written cards that were kept from the training of the NLI
head (`agents.judge_models.nli_cards`), each held against its card and, mirrored, against the same card with one
statement replaced, for which the other label is right: what a line alone gives away has no weight there. `likelihood`
is at chance there and would get none. LIKELIHOOD was set by hand, to about the largest weight that costs `nli` little
on the cards, in view of two files of published dialogues where `likelihood` ranks well; no weight was fitted to those.
With INTERCEPT, 5% of the clean lines of the kept cards are accused. Pairs of lines are judged by `nli` alone.

**Personas with facts.** What `ledger` calls a contradiction has p = 1. Otherwise

    p_inconsistent = 1 / (1 + exp(-(logit(p_nli) - SURE)))

and with SURE 2% of the clean lines that are planted for the townsfolk (`metrics.validation.persona_plants`) are
accused. Small models also say what nobody plants ("I'm way too lazy to tell you that"), and `nli` then often accuses
the claim that is least unlike it; and it does not see who is spoken of ("The job you're in"). So it accuses alone only
where its sentence and its claim speak of the same thing (the cosine of their embeddings is at least NEAR), and where
the sentence is no more about the other than about the speaker; otherwise p is 0.5 at most. (Both rules were made in
view of two runs of scenarios/long_dialogue.yaml.) The judgements against single facts are the ledger's; `nli` adds the
one fact whose claim makes it accuse the line. Pairs of lines are judged by the ledger alone.

`python -m lab.selftests.fit_combined` gives the constants. Answers to questions are judged by `nli` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

from metrics.judges import JUDGED, LINES, Judge, Pair, rows_by_pair
from metrics.judges.pair_retrieval import Embed
from metrics.judges.text.ownership import about_self
from scenarios.records import Judgement

INTERCEPT, NLI, LIKELIHOOD = 0.26, 0.78, 0.75
MOST = 4.0
SURE = 0.88  # logits: p_nli = 0.71
NEAR = 0.35  # cosine of a sentence and a claim about the same thing


@dataclass(frozen=True)
class Combined:
    """A judge of lines against personas and earlier lines, and of answers; the verdict is p_inconsistent > 0.5.

    The fields are the judges of these names, and `embed(texts)`, which gives rows of unit length, shape (N, d). A line
    of a persona of text that `nli` or `likelihood` cannot score is unscored, with the reason, and so is one of a
    persona with facts that `ledger` cannot.
    """

    nli: Judge
    likelihood: Judge
    ledger: Judge
    embed: Embed
    name: str = "combined"
    metrics: tuple[str, ...] = JUDGED

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """The judgements of all pairs, in the order of the pairs.

        One is on all that the pair is against. Prompt to line, for a persona with facts, one follows for each fact that
        the line makes a claim about. A contradicting judgement carries the sentence and the claim of the judge that
        found it, if that names any.
        """
        read = iter(_read(self.nli, [pair for pair in pairs if _is_line(pair) or not _of_facts(pair)]))
        sounds = iter(_read(self.likelihood, [pair for pair in pairs if _is_line(pair) and not _of_facts(pair)]))
        listed = iter(_read(self.ledger, [pair for pair in pairs if _of_facts(pair)]))
        rows: list[Judgement] = []
        for pair in pairs:
            if _of_facts(pair):
                rows += self._with_ledger(pair, next(read), next(listed)) if _is_line(pair) else next(listed)
            else:
                by_nli = next(read)[0]
                rows.append(_with_likelihood(by_nli, next(sounds)[0]) if _is_line(pair) else by_nli)
        return [replace(row, judge=self.name) for row in rows]

    def _with_ledger(self, pair: Pair, read: Sequence[Judgement], listed: Sequence[Judgement]) -> list[Judgement]:
        by_nli, by_ledger = read[0], listed[0]
        if by_ledger.verdict or by_ledger.p_inconsistent is None or by_nli.p_inconsistent is None:
            return list(listed)
        p = _logistic(_logit(by_nli.p_inconsistent) - SURE)
        whole = _scored(by_nli, p if p <= 0.5 or self._near(pair, by_nli) else 0.5)
        accused = [row.against for row in read[1:] if whole.verdict and row.claim == whole.claim][:1]
        named = [replace(whole, against=fact) for fact in accused]
        return [whole, *named, *(row for row in listed[1:] if row.against not in accused)]

    def _near(self, pair: Pair, accusing: Judgement) -> bool:
        said = pair.line[slice(*(accusing.span or (0, None)))]
        sentence, claim = self.embed([said, accusing.claim or ""])
        return float(sentence @ claim) >= NEAR and about_self(said) >= 0.5


def _is_line(pair: Pair) -> bool:
    """Whether a line is held against its persona."""
    return pair.metric == LINES[0]


def _of_facts(pair: Pair) -> bool:
    """Whether a line is its speaker's who has facts."""
    return bool(pair.persona.facts) and pair.metric in LINES


def _read(judge: Judge, pairs: Sequence[Pair]) -> list[list[Judgement]]:
    return rows_by_pair(pairs, judge.judge(pairs))


def _with_likelihood(read: Judgement, sounds: Judgement) -> Judgement:
    if read.p_inconsistent is None or sounds.p_inconsistent is None:
        reason = read.unscored or sounds.unscored
        return replace(read, p_inconsistent=None, verdict=None, unscored=reason, span=None, claim=None)
    return _scored(read, p_inconsistent(read.p_inconsistent, sounds.p_inconsistent))


def _scored(row: Judgement, p: float) -> Judgement:
    shown = {} if p > 0.5 else {"span": None, "claim": None}
    return replace(row, p_inconsistent=p, verdict=p > 0.5, **shown)


def p_inconsistent(p_nli: float, p_likelihood: float) -> float:
    """The first formula of the module's docstring, 0 to 1."""
    return _logistic(INTERCEPT + NLI * _logit(p_nli) + LIKELIHOOD * _logit(p_likelihood))


def _logistic(x: float) -> float:
    return 1 / (1 + exp(-x))


def _logit(p: float) -> float:
    """The logit of p, within -MOST to MOST."""
    bound = _logistic(MOST)
    p = min(max(p, 1 - bound), bound)
    return log(p / (1 - p))
