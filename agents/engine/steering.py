"""Personas in a model's hidden states: how near a line is to its persona, read during generation, and steering towards
it.

The direction of a persona is the mean hidden state over lines that the model says under the persona's card minus the
mean over its lines under other cards, in answer to the same texts (Chen et al., Persona Vectors, arXiv 2507.21509,
section 2). Forward hooks on a few decoder layers record the state from which each new token is sampled, so that the
measurement costs no forward pass. Since a projection is linear, the mean state of a line gives its mean projection.

It differs from the paper in three ways. The contrast is with other personas' cards rather than with an instruction to
be otherwise. The difference is divided by the shrunken covariance within cards (Fisher's discriminant), since lines
differ more by subject than by persona. Projections are on the scale of the contrast: 0 for the projection of lines
under other cards, 1 for lines under the persona's own, both held out from the estimate of the direction. Directions are
those of the bare model, also where a seat uses an adapter, since the shift by the adapter is what is measured.

An `Axis` is the difference of two means after every layer. A branch is steered along it while it is read and generated:
by addition, by projecting it out, or by bounds (Lu et al., The Assistant Axis, arXiv 2601.10387), with hooks that exist
only during the passes of that branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import torch

from agents.engine.protocol import Sampling, Steer
from scenarios.records import derive_seed

DEPTHS = (1 / 2, 2 / 3, 5 / 6)  # of the layers watched
FOLDS = 4  # of the lines, for the scale
SHRINKAGE = 0.3  # of the covariance within cards, towards the same variance in every direction
TAKES = 2  # lines in answer to each thing heard
NEUTRAL, NEUTRAL_CARD = "(nobody)", "You are a person in a conversation."
OPENERS = (
    "Hello! Who am I talking to?",
    "Tell me about yourself.",
    "How was your day?",
    "What are you doing this weekend?",
    "What do you care about?",
    "Tell me a story from your life.",
    "What do people say about you?",
    "What should we talk about?",
)
LINE = Sampling(seed=0, max_tokens=24, sentences=2)
HOWS = ("add", "ablate", "cap", "floor")


@dataclass(frozen=True)
class Direction:
    """The direction of a persona at the recorded layers."""

    vector: np.ndarray  # (layers, width) float32, in standard deviations of lines under one card
    other: np.ndarray  # (layers,) mean projection of lines under other cards
    own: np.ndarray  # (layers,) of lines under the persona's own

    def project(self, state: np.ndarray) -> float:
        """The projection of a mean state (layers, width), over all layers together: 0 = other cards, 1 = own card.

        NaN where the persona's lines cannot be distinguished from others.
        """
        spread = float((self.own - self.other).sum())
        return float(((self.vector * state).sum(-1) - self.other).sum() / spread) if spread > 0 else float("nan")


def contrast(states: Mapping[str, np.ndarray]) -> dict[str, Direction]:
    """The direction of each card's lines against those of all other cards, with equal weights for cards.

    `states` maps a card to states (lines, layers, width); line i of every card answers the same text. The scale comes
    from held-out lines, a quarter at a time. Raises ValueError for fewer than two cards or four lines.
    """
    if len(states) < 2 or any(len(lines) < FOLDS for lines in states.values()):
        raise ValueError(
            f"{len(states)} cards with {[len(lines) for lines in states.values()]} lines: expected two cards and "
            f"{FOLDS} lines of each, or more"
        )
    vectors = _vectors(states)
    gaps = {name: [] for name in states}
    for fold in range(FOLDS):
        left_out = {name: lines[fold::FOLDS] for name, lines in states.items()}
        for name, vector in _vectors(
            {name: np.delete(lines, np.s_[fold::FOLDS], 0) for name, lines in states.items()}
        ).items():
            own, others = _means(left_out, name)
            gaps[name].append((vector * (own - others)).sum(-1))
    directions = {}
    for name, vector in vectors.items():
        middle, gap = (vector * sum(_means(states, name)) / 2).sum(-1), np.mean(gaps[name], axis=0)
        directions[name] = Direction(vector.astype(np.float32), middle - gap / 2, middle + gap / 2)
    return directions


def _means(states: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean state of the card's lines, and the mean of the other cards' means: each (layers, width)."""
    return states[name].mean(0), np.mean([lines.mean(0) for other, lines in states.items() if other != name], axis=0)


def _vectors(states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each card's discriminant (layers, width): the difference of means over the shrunken covariance within cards.

    It is in units of the standard deviation within cards, so that layers are weighted by how well they discriminate.
    """
    # (layers, lines, width)
    within = np.concatenate([lines - lines.mean(0) for lines in states.values()]).astype(float).swapaxes(0, 1)
    covariance = within.swapaxes(1, 2) @ within / within.shape[1]
    size = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / within.shape[2]
    covariance += (SHRINKAGE * size + 1e-12) * np.eye(within.shape[2])
    vectors = {}
    for name in states:
        own, others = _means(states, name)
        vector = np.linalg.solve(covariance, (own - others)[..., None].astype(float))[..., 0]
        spread = np.sqrt(np.einsum("lw,lwv,lv->l", vector, covariance, vector))
        vectors[name] = vector / np.maximum(spread, 1e-12)[:, None]
    return vectors


def decoder_layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The model's list of decoder layers: the module list with the most parameters, since lists of experts are part of
    it.

    Raises ValueError where the model has none.
    """
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module)]
    if not lists:
        raise ValueError(f"{type(model).__name__} has no list of layers; expected a decoder of transformers")
    return max(lists, key=lambda layers: sum(weight.numel() for weight in layers.parameters()))


class Probe:
    """The mean hidden states of lines while an engine generates them, and their projections on `directions`.

    The engine marks with `reading` the branch of each token of a pass; other passes are not recorded.
    """

    def __init__(self, model: torch.nn.Module, layers: Sequence[int] | None = None) -> None:
        stack = decoder_layers(model)
        self.layers = tuple(layers) if layers else tuple(sorted({int(depth * len(stack)) for depth in DEPTHS}))
        self.directions: dict[str, Direction] = {}
        self.kept: list[np.ndarray] | None = None  # mean states of finished lines, where a list was put here
        self._sums: dict[int, tuple[np.ndarray, int]] = {}  # branch -> states so far, and how many
        self._reading, self._states = False, []
        self._hooks = [stack[layer].register_forward_hook(self._hook) for layer in self.layers]

    @contextmanager
    def reading(self, row: Sequence[int | None]) -> Iterator[None]:
        """Records one forward pass, in which token i is a new token of the line of branch `row[i]`, or of no line
        (None).
        """
        self._reading, self._states = True, []
        try:
            yield
        finally:
            self._reading = False
        states = torch.stack(self._states, dim=1).cpu().numpy()  # (T, layers, width)
        for branch, state in zip(row, states, strict=True):
            if branch is None:
                continue
            total, count = self._sums.get(branch, (0.0, 0))
            self._sums[branch] = total + state, count + 1

    def finish(self, branch: int) -> dict[str, float]:
        """The projections of the branch's finished line on each direction that is defined; {} where nothing was
        recorded.
        """
        if branch not in self._sums:
            return {}
        total, count = self._sums.pop(branch)
        if self.kept is not None:
            self.kept.append(total / count)
        projections = {name: direction.project(total / count) for name, direction in self.directions.items()}
        return {name: value for name, value in projections.items() if isfinite(value)}

    def close(self) -> None:
        """Removes the hooks from the model."""
        for hook in self._hooks:
            hook.remove()

    def _hook(self, module: torch.nn.Module, inputs: tuple, output: object) -> None:
        if self._reading:
            self._states.append(_hidden(output)[0].to(torch.float32, copy=True))


def watch(engine, cards: Mapping[str, str], heard: Sequence[str], seed: int) -> Probe:
    """A probe on the engine's model with the direction of each card, by name; `heard` are the texts that the lines
    answer.

    It generates 2 * (cards + 1) * len(heard) short lines. Raises ValueError for fewer than two texts.
    """
    probe = engine.probe = Probe(engine.model)
    states = {}
    for name, card in {**cards, NEUTRAL: NEUTRAL_CARD}.items():
        probe.kept = []
        _say(engine, card, heard, seed)
        states[name] = np.stack(probe.kept)
    probe.kept = None
    probe.directions = {name: direction for name, direction in contrast(states).items() if name != NEUTRAL}
    return probe


def _say(engine, card: str, heard: Sequence[str], seed: int) -> None:
    """Generates an answer to each text under the card, which is read once."""
    form = engine.info().format
    texts = [
        form.beginning(card),
        *(form.first(words) + form.before_said for words in heard),
    ]
    beginning, *rest = engine.encode(texts)
    first = engine.open([beginning])
    engine.score(first, [[]])  # reads it, so that its copies need not
    branches = engine.fork(first * len(rest) * TAKES)
    engine.extend(branches, rest * TAKES)
    engine.generate(
        branches, [replace(LINE, seed=derive_seed(seed, "direction", number)) for number in range(len(branches))]
    )
    engine.drop([*first, *branches])


# -- steering
#
#


@dataclass(frozen=True)
class Axis:
    """The direction from one set of texts to another, after every decoder layer."""

    away: np.ndarray  # (layers, width) mean state of the one
    towards: np.ndarray  # of the other
    length: np.ndarray  # (layers,) mean length of a state

    def steer(self, how: str, coefficient: float, depths: Sequence[float] = DEPTHS, random: int | None = None) -> Steer:
        """A steering along the axis, in one of the ways of `agents.engine.protocol.Steer`.

        `coefficient` is, for add, in mean lengths of a state; for cap and floor, a position from 0 (the mean projection
        of the texts it leads away from) to 1 (that of the texts it leads to). `depths` are relative depths of layers,
        from 0 (the first) to 1 (the last). `random` seeds a random direction in place of this one. Raises ValueError
        for an unknown `how`, and for a direction of length 0.
        """
        if how not in HOWS:
            raise ValueError(f"states are to be steered by {how!r}; expected {', '.join(HOWS)}")
        layers = tuple(sorted({min(int(depth * len(self.length)), len(self.length) - 1) for depth in depths}))
        at, difference = list(layers), self.towards - self.away
        if random is not None:
            difference = np.random.default_rng(random).standard_normal(difference.shape)
        lengths = np.linalg.norm(difference[at], axis=-1, keepdims=True)
        if not (lengths > 0).all():
            raise ValueError(
                f"both sets of texts have the same states behind layer {layers[int(lengths.argmin())]}; expected others"
            )
        vectors = difference[at] / lengths
        ends = [(vectors * mean[at]).sum(-1) for mean in (self.away, self.towards)]
        amounts = {"add": coefficient * self.length[at], "ablate": np.zeros(len(at))}.get(
            how, ends[0] + coefficient * (ends[1] - ends[0])
        )
        return Steer(how, layers, vectors.astype(np.float32).tobytes(), tuple(map(float, amounts)))


def axis(away: np.ndarray, towards: np.ndarray) -> Axis:
    """The axis from states (texts, layers, width) of one set of texts to those of another. Raises ValueError for an
    empty set.
    """
    if not len(away) or not len(towards):
        raise ValueError(f"a direction from {len(away)} texts to {len(towards)}; expected one or more on either side")
    return Axis(away.mean(0), towards.mean(0), np.linalg.norm(np.concatenate([away, towards]), axis=-1).mean(0))


def own_card(engine, system: str) -> Axis:
    """The axis from a neutral card to this system text, by the states before the answers to each of OPENERS.

    Raises ValueError for an engine on a server.
    """
    form = engine.info().format

    def states(card: str) -> np.ndarray:
        ids = engine.encode([form.beginning(card) + form.first(words) + form.before_said for words in OPENERS])
        return engine.states(ids, [len(row) - 1 for row in ids])

    return axis(states(NEUTRAL_CARD), states(system))


def width(model) -> int:
    """The width of the model's hidden states."""
    return model.config.get_text_config().hidden_size


def check(model: torch.nn.Module, steer: Steer) -> None:
    """Raises ValueError where the layers or the width of a steering do not fit the model."""
    layers, wide, given_width = len(decoder_layers(model)), width(model), len(steer.vectors) // 4 // len(steer.layers)
    if max(steer.layers) >= layers or given_width != wide:
        raise ValueError(
            f"a steer of layers {', '.join(map(str, steer.layers))} by vectors of {given_width} numbers does not fit a "
            f"model of {layers} layers with {wide}; expected one made with the same model"
        )


@contextmanager
def steered(model: torch.nn.Module, steer: Steer | None) -> Iterator[None]:
    """A context in which the model's states are steered; a probe records the steered states."""
    hooks = []
    if steer is not None:
        stack = decoder_layers(model)
        vectors = torch.frombuffer(bytearray(steer.vectors), dtype=torch.float32).view(len(steer.layers), -1)
        hooks = [
            stack[layer].register_forward_hook(partial(_turn, steer.how, vector, amount), prepend=True)
            for layer, vector, amount in zip(steer.layers, vectors, steer.amounts, strict=True)
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _turn(
    how: str, vector: torch.Tensor, amount: float, module: torch.nn.Module, inputs: tuple, output: object
) -> object:
    hidden = _hidden(output)
    vector = vector.to(hidden.device)
    along = (hidden.float() @ vector)[..., None]  # (1, T, 1)
    more = {
        "add": torch.full_like(along, amount),
        "ablate": -along,
        "cap": (amount - along).clamp(max=0),
        "floor": (amount - along).clamp(min=0),
    }[how]
    turned = (hidden.float() + more * vector).to(hidden.dtype)
    return (turned, *output[1:]) if isinstance(output, tuple) else turned


def _hidden(output: Any) -> torch.Tensor:
    """The hidden states (1, T, width) in the output of a decoder layer."""
    return output[0] if isinstance(output, tuple) else output
