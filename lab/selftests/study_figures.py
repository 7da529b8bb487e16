"""How often the verdicts of studies are right: studies simulated on respondents whose behaviour is planted.

Each simulated run draws a respondent anew, from a population of topics, registers or items in which the claim is true
or is not (`lab.selftests.study_respondents`), and carries out the study at its default size. No model takes part.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.selftests.study_respondents import PlantedRespondent, answerer, reader, voice
from metrics.studies.verdict import CONFIRMS, FAILED, INCONCLUSIVE, REFUTES, study_verdict
from scenarios.records import derive_seed
from scenarios.yaml_files import read_yaml, validate

STUDIES = Path(__file__).parents[2] / "scenarios/studies"
ASKERS = {"plain": 0.6, "somebody else's words": 0.6, "expert": 0.9, "anonymous quiz": 0.6}


@dataclass(frozen=True)
class Case:
    """A population of respondents, and what a study should say of it.

    `truth` is what the first test of the study measures, in the population; `right` are the verdicts that are right.
    """

    study: str
    who: str
    respondent: Callable[..., PlantedRespondent]  # of (stimuli, seed, **planted)
    planted: dict
    truth: float
    right: tuple[str, ...]


def congruence(bend: float, between: float, skill: float = 2.0) -> float:
    """The mean congruence of `reader` over topics: E[s(skill + b) - s(skill - b)], s(x) = 1 / (1 + exp(-x)), b
    ~ Normal(bend, between).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    b = bend + between * nodes
    return float(weights @ (1 / (1 + np.exp(-skill - b)) - 1 / (1 + np.exp(b - skill))) / weights.sum())


def cases() -> list[Case]:
    """The planted respondents of each study: the claim holds, it does not, and what an earlier unit mistook."""
    refuted, undecided = (REFUTES,), (INCONCLUSIVE,)
    readers = (
        ("bends what it reads on every topic", 1.5, 0.75, (CONFIRMS,)),
        ("reads the ratios", 0.0, 0.05, refuted),
        ("bends each topic its own way, none on average", 0.0, 1.0, (REFUTES, INCONCLUSIVE)),
    )
    voices = (
        ("mirrors a tenth of a request, and half obeys", 0.1, 0.5, (CONFIRMS,)),
        ("mirrors half of a request, and obeys", 0.5, 1.0, refuted),
        ("mirrors a quarter of a request, just the bound", 0.25, 0.4, undecided),
    )
    answerers = (
        ("knows 80%, goes along with 60%, with experts' 90%", 0.8, 1.0, ASKERS, (CONFIRMS,)),
        ("knows 90%, goes along with none of these", 0.9, 1.0, {}, refuted),
        ("knows 60%, goes along with none of these", 0.6, 1.0, {}, (REFUTES, INCONCLUSIVE, FAILED)),
        ("the same, guesses at facts twice as often", 0.6, 2.0, {}, (REFUTES, INCONCLUSIVE, FAILED)),
    )
    return [
        *(
            Case("motivated_reasoning", who, reader, {"bend": b, "between": s}, congruence(b, s), right)
            for who, b, s, right in readers
        ),
        *(Case("register_shift", who, voice, {"implicit": i, "request": r}, i, right) for who, i, r, right in voices),
        *(
            Case(
                "false_presuppositions",
                who,
                answerer,
                {"knows": knows, "favours": favours, "accommodates": goes_along},
                goes_along.get("plain", 0.0),
                right,
            )
            for who, knows, favours, goes_along, right in answerers
        ),
    ]


def rows(sims: int, seed: int) -> list[dict]:
    """A row for each planted respondent, from `sims` simulated runs.

    `study`, `respondent`, `truth` (of the first test), `covered` (share of runs whose interval of the first test
    contains the truth), a share of runs for each verdict, `right` (share of runs whose verdict is right) and `runs`.
    """
    return [_row(case, sims, seed) for case in cases()]


def _row(case: Case, sims: int, seed: int) -> dict:
    module = importlib.import_module(f"metrics.studies.{case.study}")
    stimuli = validate(read_yaml(STUDIES / f"stimuli/{case.study}.yaml"), module.Stimuli)
    size = read_yaml(STUDIES / f"{case.study}.yaml").data["sizes"]["default"]
    words, covered = Counter(), 0
    for n in range(sims):
        drawn = derive_seed(seed, case.study, case.who, n)
        finding = module.study(case.respondent(stimuli, drawn, **case.planted), stimuli, drawn, **size)
        interval = next(iter(finding.tests.values())).interval
        words[study_verdict(finding.controls, finding.tests).word] += 1
        covered += bool(interval.low <= case.truth <= interval.high)
    return {
        "study": case.study,
        "respondent": case.who,
        "truth": case.truth,
        "covered": covered / sims,
        **{word: words[word] / sims for word in (CONFIRMS, REFUTES, INCONCLUSIVE, FAILED)},
        "right": sum(words[word] for word in case.right) / sims,
        "runs": sims,
    }
