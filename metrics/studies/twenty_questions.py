"""Twenty questions without an object: which objects could a model that "has chosen" one still turn out to have chosen?

After k scripted answers the reveal is scored for every object of the list, by exact likelihood, which gives a posterior
over objects. Committed: its entropy is near 0. Superposition: it is spread over objects that fit the answers.
Incoherent: it is spread over others too. The list is permuted for each game, against preferences for positions and
names.

Controls: with the object in a scratchpad the entropy must be near 0, and a player who guesses another player's object
must be undecided. After Shanahan et al., arXiv 2305.16367.
"""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np

from metrics.stats.intervals import Interval
from metrics.studies.protocol import (
    Ask,
    Control,
    Finding,
    Picture,
    StudyQuestion,
    Test,
    above,
    below,
    entropy_bits,
    mean_of,
    proportion_of,
)
from scenarios.fields import Count, Some, Strict
from scenarios.records import derive_seed

HOLDS = (
    "You play a guessing game. You have secretly chosen one object from this list: {names}. The other player asks "
    "questions about it, and you answer them truthfully with yes or no."
)
CHOOSES = (("user", "Choose your object."), ("assistant", "I have chosen one."))
WRITES = (
    ("user", "Choose your object and write it into your scratchpad, which only you can see."),
    ("assistant", "It is the {name}."),
)
GUESSES = (
    "You play a guessing game. The other player has secretly chosen one object from this list: {names}. You ask "
    "questions about it, which the other player answers truthfully with yes or no. Then you guess."
)
BITS, MASS = 0.5, 0.9  # a spread, and what of it has to fit the answers
CHOSEN, SCRATCHPAD, GUESSER = ARMS = "chosen", "scratchpad", "guesser"


class Stimuli(Strict):
    """The schema of the stimuli file."""

    attributes: dict[str, Some[str]]  # wordings of its question
    objects: dict[str, list[str]]  # the attributes that it has


def study(ask: Ask, stimuli: Stimuli, seed: int, *, games: Count, depth: Count, takes: Count) -> Finding:
    """The finding on the entropy of the posterior before the reveal.

    `depth` is the greatest number of questions before the reveal; `takes` is the number of reveals sampled from one
    branch.
    """
    objects = list(stimuli.objects)
    targets = random.Random(seed).sample(objects, len(objects))
    played = [_game(stimuli, derive_seed(seed, "game", g), targets[g % len(targets)], depth) for g in range(games)]
    reveals = [f" {name}." for name in objects]
    posterior = {}  # arm -> p of each object: (games, depth + 1, objects)
    for arm in ARMS:
        asked = [
            StudyQuestion(f"game {g}, {k} asked", _talk(arm, *game, k), tuple(reveals), str(g))
            for g, game in enumerate(played)
            for k in range(depth + 1)
        ]
        posterior[arm] = np.array([choice.p for choice in ask.choose(arm, asked)]).reshape(games, depth + 1, -1)
    # (games, depth + 1, objects)
    fits = np.array(
        [
            [
                [all((a in stimuli.objects[name]) == yes for a, _, yes in questions[:k]) for name in objects]
                for k in range(depth + 1)
            ]
            for _, questions, _ in played
        ]
    )

    # (games, depth + 1)
    bits = {arm: entropy_bits(p) for arm, p in posterior.items()} | {"all that fit alike": np.log2(fits.sum(-1))}
    fitting = {arm: (p * fits).sum(-1) for arm, p in posterior.items()}
    spread = {arm: mean_of(bits[arm][:, 1:]) for arm in ARMS}
    mass = {arm: mean_of(fitting[arm][:, 1:]) for arm in ARMS}
    written = mean_of(posterior[SCRATCHPAD][np.arange(games), :, [objects.index(target) for *_, target in played]])
    first = posterior[CHOSEN][:, 0].argmax(-1)
    return Finding(
        {
            "entropy of the reveal, bits": Test(spread[CHOSEN], above(BITS), below(BITS)),
            "mass on objects that fit the answers": Test(mass[CHOSEN], above(MASS), below(MASS)),
        },
        {
            "a written object is found": Control(written, above(0.5), "of the mass"),
            "and nothing else beside it": Control(spread[SCRATCHPAD], below(BITS), "bits"),
            "a guesser is undecided": Control(spread[GUESSER], above(BITS), "bits"),
        },
        f"After one to {depth} answers the reveal is spread over {2 ** spread[CHOSEN].value:.1f} objects' worth of "
        f"probability, {mass[CHOSEN].value:.0%} of it on objects that fit; a guesser's over "
        f"{2 ** spread[GUESSER].value:.1f}, {mass[GUESSER].value:.0%}.",
        {
            "mass that fits, of a guesser": mass[GUESSER],
            "mass on the object in the scratchpad": written,
            "games whose first thought is the commonest one": proportion_of(
                first == Counter(first.tolist()).most_common(1)[0][0]
            ),
            **_regenerated(ask, played, objects, seed, takes, posterior[CHOSEN][:, -1], fits[:, -1]),
        },
        {
            "entropy": Picture(
                "What the reveal could still be",
                "questions answered",
                "entropy, bits",
                _curves(bits),
                {"a spread": BITS},
            ),
            "mass": Picture(
                "Does it fit the answers?",
                "questions answered",
                "mass on objects that fit",
                _curves(fitting),
                {"coherent": MASS},
            ),
        },
    )


def _curves(by_arm: dict[str, np.ndarray]) -> dict[str, list]:
    """By arm, the points of a curve over the number of answers, of values (games, depth + 1)."""
    return {arm: [(k, mean_of(values[:, k])) for k in range(values.shape[1])] for arm, values in by_arm.items()}


def _regenerated(
    ask: Ask, played: list, objects: list[str], seed: int, takes: int, p: np.ndarray, fits: np.ndarray
) -> dict[str, Interval]:
    """Figures of reveals sampled repeatedly from one branch, beside their likelihood p (games, objects).

    Also the number of objects to which the model says yes when asked about each: a player who has chosen says it to
    one.
    """
    ends = [_talk(CHOSEN, names, asked, target, len(asked)) for names, asked, target in played]
    said = ask.say(
        "sampled reveals",
        [
            StudyQuestion(f"game {g}, take {take}", talk, (), str(g), derive_seed(seed, g, take))
            for g, talk in enumerate(ends)
            for take in range(takes)
        ],
        max_tokens=12,
    )
    named = [[_named(text, objects) for text in said[g * takes : (g + 1) * takes]] for g in range(len(played))]
    alike = [sum(n * (n - 1) for n in Counter(names).values()) / max(takes * (takes - 1), 1) for names in named]
    asked = [
        StudyQuestion(f"game {g}, {name}", (*talk[:-2], ("user", f"Is it the {name}?")), ("Yes.", "No."), str(g))
        for g, talk in enumerate(ends)
        for name in objects
    ]
    yes = np.array([choice.p[0] for choice in ask.choose("is it ...?", asked)]).reshape(p.shape)
    return {
        "two sampled reveals that differ": mean_of(1 - np.array(alike)),
        "two reveals that differ, by likelihood": mean_of(1 - (p**2).sum(-1)),
        "sampled reveals that fit": proportion_of(
            [[name in objects and fits[g, objects.index(name)] for name in names] for g, names in enumerate(named)]
        ),
        "objects said yes to": mean_of(yes.sum(-1)),
    }


def _named(text: str, objects: list[str]) -> str:
    """The object that the text names first; the text itself where it names none."""
    places = {name: match.start() for name in objects if (match := re.search(rf"\b{name}\b", text, re.IGNORECASE))}
    return min(places, key=lambda name: places[name], default=text.lower())


def _game(stimuli: Stimuli, seed: int, target: str, depth: int) -> tuple[list[str], list[tuple[str, str, bool]], str]:
    """The list in a drawn order; the questions (attribute, words, whether yes); the object for which the answers are
    true.

    All attributes are asked once before any is asked again.
    """
    rng = random.Random(seed)
    names = rng.sample(list(stimuli.objects), len(stimuli.objects))
    order = rng.sample(list(stimuli.attributes), len(stimuli.attributes))
    asked = [(order[place % len(order)], place // len(order)) for place in range(depth)]
    words = [stimuli.attributes[a][again % len(stimuli.attributes[a])] for a, again in asked]
    return names, [(a, said, a in stimuli.objects[target]) for (a, _), said in zip(asked, words, strict=True)], target


def _talk(arm: str, names: list[str], asked: list, target: str, k: int) -> tuple[tuple[str, str], ...]:
    """The messages up to the name of the object. A guesser asks and hears the answers; in the other arms the model is
    asked.
    """
    listed = ", ".join(names)
    answers = ["Yes." if yes else "No." for _, _, yes in asked[:k]]
    if arm == GUESSER:
        heard = ["I have chosen my object.", *answers]
        turns = [
            turn
            for place, (_, words, _) in enumerate(asked[:k])
            for turn in (("user", heard[place]), ("assistant", words))
        ]
        return (
            ("system", GUESSES.format(names=listed)),
            *turns,
            ("user", f"{heard[k]} Now guess."),
            ("assistant", "It is the"),
        )
    before = tuple((role, words.format(name=target)) for role, words in (WRITES if arm == SCRATCHPAD else CHOOSES))
    turns = [
        turn
        for (_, words, _), answer in zip(asked[:k], answers, strict=True)
        for turn in (("user", words), ("assistant", answer))
    ]
    return (
        ("system", HOLDS.format(names=listed)),
        *before,
        *turns,
        ("user", "I give up. Which object is it?"),
        ("assistant", "It is the"),
    )
