"""The constants of the judge `combined`: `python -m lab.selftests.fit_combined` prints them, with the figures behind
them.

For personas of text, the lines are those of the written cards that were kept from training
(`agents.judge_models.nli_cards`), each against its own card and mirrored; for personas with facts, the clean lines that
are planted for the townsfolk. Some ten minutes on two cores.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from agents.judge_models.nli_cards import cards, lines_with_cards
from lab.selftests.judges import loaded
from lab.selftests.planted_drift import PERSONAS
from lab.store.output import say
from metrics.judges import Judge, Pair
from metrics.judges.combined import LIKELIHOOD, MOST
from metrics.validation.calibration import auroc
from metrics.validation.persona_plants import pairs_of, plants
from metrics.validation.validity import FALSE_ALARMS
from scenarios.personas import load_personas
from scenarios.records import Persona
from scenarios.schema import Measure

SEEDS = range(4)
ACCUSED = 0.02  # of the clean lines of personas with facts


def logits(judge: Judge, pairs: list[Pair]) -> np.ndarray:
    """The logit of the judge's p against the whole persona for each pair, within -MOST to MOST."""
    p = [row.p_inconsistent for row in judge.judge(pairs) if row.against == "persona"]
    return np.clip(logit(np.clip(np.array(p, float), 1e-9, 1 - 1e-9)), -MOST, MOST)


def slope(x: np.ndarray, contradicts: np.ndarray) -> float:
    """The slope of a logistic regression on x with an intercept."""
    sign = np.where(contradicts, 1, -1)
    return float(minimize(lambda w: np.logaddexp(0, -sign * (w[0] * x + w[1])).sum(), np.zeros(2)).x[0])


def clean_of_townsfolk() -> list[Pair]:
    """The clean lines that are planted for the townsfolk, talking in twos, under SEEDS."""
    people = load_personas(PERSONAS)
    cast = [{"user": user, "assistant": other} for user, other in zip(people[::2], people[1::2], strict=True)]
    planted = [plant for seed in SEEDS for plant in plants(cast, seed)[0] if not plant.contradicts]
    return pairs_of(planted, "prompt_to_line")


def main() -> None:
    """Prints AUROC of each judge against own cards and mirrored, and the constants."""
    argparse.ArgumentParser(prog="lab.selftests.fit_combined", description=(__doc__ or "").splitlines()[0]).parse_args()
    rows = lines_with_cards(cards()[1])
    pairs = [
        Pair(place, 0, "user", "prompt_to_line", line, "persona", Persona(str(place), "", card, ()))
        for place, (card, line, _, _) in enumerate(rows)
    ]
    contradicts, own = np.array([row[2] for row in rows]), np.array([not row[3] for row in rows])
    (nli, likelihood), _ = loaded(Measure(judge=["nli", "likelihood"]), "cpu")
    read, sounds = logits(nli, pairs), logits(likelihood, pairs)
    weight = slope(read, contradicts)
    score = weight * read + LIKELIHOOD * sounds
    intercept = -float(np.quantile(score[own & ~contradicts], 1 - FALSE_ALARMS))
    for name, x in (("nli", read), ("likelihood", sounds), ("combined", score)):
        areas = [
            float(auroc(x[part], contradicts[part], np.ones((1, part.sum())))[0]) for part in (own, np.ones_like(own))
        ]
        say(f"{name:12} AUROC, own cards {areas[0]:.3f} n={own.sum()}, with mirrored ones {areas[1]:.3f} n={len(own)}")
    found = float((expit(score + intercept)[own & contradicts] > 0.5).mean())
    say(
        f"NLI = {weight:.2f}, INTERCEPT = {intercept:.2f}: accuses {FALSE_ALARMS:.0%} of the clean lines, "
        f"finds {found:.0%} of the others (own cards)"
    )

    clean = logits(nli, clean_of_townsfolk())
    say(f"SURE = {np.quantile(clean, 1 - ACCUSED):.2f}: accuses {ACCUSED:.0%} of {len(clean)} clean lines")


if __name__ == "__main__":
    main()
