"""A dialogue as one speaker saw it, with the lines sampled in it: the input of a learner.

A view is a trunk of token ids, read once, and lines. Some lines lie on the trunk; others are side branches, sampled at
the same place and not continued. All are read in one pass, in which a side branch sees itself and the trunk up to its
start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampled:
    """A line of the trained speaker. `start` is the number of trunk tokens before it.

    The line is on the trunk where the trunk continues with its tokens.
    """

    turn: int
    start: int
    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()  # with which its tokens were drawn, in nats; () where unknown
    on_trunk: bool = True
    given: tuple[int, ...] = ()  # tokens between trunk and line, of a Q&A probe
    text: str = ""
    about: str = ""  # id of the fact that was asked for, "" for a line of the dialogue
    reward: float | None = None  # None where it could not be scored: it has no loss then

    @property
    def place(self) -> tuple[int, tuple[int, ...]]:
        """The place of the line: lines of one view with equal places answer the same text."""
        return self.start, self.given


@dataclass(frozen=True)
class View:
    """One speaker's side of one conversation: the trunk `ids` and the lines."""

    conversation: int
    persona: str
    ids: tuple[int, ...]
    lines: tuple[Sampled, ...] = field(default=())
    partner: str = ""  # the other speaker's persona


@dataclass(frozen=True)
class Row:
    """A view as a model's input: trunk, then side branches."""

    ids: Tensor  # (T,)
    positions: Tensor  # (T,)
    first: Tensor  # (T,) where the token's own branch starts in the row
    seen: Tensor  # (T,) tokens of the trunk that it sees; the trunk's own see nothing but what is before them
    targets: tuple[Tensor, ...]  # by line: places of its tokens in the row, (L,)
    sources: tuple[Tensor, ...]  # by line: places whose output predicts them, (L,)


def row(view: View) -> Row:
    """The view as a model input; the trunk ends with its last line, since later text has no effect on the loss."""
    end = max((line.start + len(line.ids) * line.on_trunk for line in view.lines), default=len(view.ids))
    ids, positions, first, seen = list(view.ids[:end]), list(range(end)), [0] * end, [0] * end
    targets, sources = [], []
    for line in view.lines:
        at, length = (line.start if line.on_trunk else len(ids)), len(line.ids)
        if line.on_trunk and tuple(ids[at : at + length]) != line.ids:
            raise ValueError(f"the line of turn {line.turn} in conversation {view.conversation} differs from its view")
        said = at + len(line.given)
        before = said - 1 if line.on_trunk or line.given else line.start - 1
        targets.append(torch.arange(said, said + length))
        sources.append(torch.cat([torch.tensor([before]), torch.arange(said, said + length - 1)]))
        if not line.on_trunk:
            ids += line.given + line.ids
            positions += range(line.start, line.start + said - at + length)
            first += [at] * (said - at + length)
            seen += [line.start] * (said - at + length)
    return Row(
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(first),
        torch.tensor(seen),
        tuple(targets),
        tuple(sources),
    )


def visible(packed: Row, window: int | None = None) -> Tensor:
    """(T, T) bool: whether token i attends to token j, within `window` positions in layers with a sliding window."""
    place = torch.arange(len(packed.ids))
    own = (place[None] <= place[:, None]) & (place[None] >= packed.first[:, None])
    allowed = own | (place[None] < packed.seen[:, None])
    return allowed if window is None else allowed & (packed.positions[:, None] - packed.positions[None] < window)


def padded(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as (N, T), with zeros after their ends, and the mask of their tokens."""
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(part)) for part in parts], batch_first=True)
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True), mask.to(parts[0].device)


def with_lines(view: View, wanted: Callable[[Sampled], bool]) -> View:
    """The view with only those lines for which `wanted` is true."""
    return replace(view, lines=tuple(line for line in view.lines if wanted(line)))


def at_places(view: View) -> list[list[Sampled]]:
    """The lines of the view, grouped by place."""
    by_place: dict[tuple, list[Sampled]] = {}
    for line in view.lines:
        by_place.setdefault(line.place, []).append(line)
    return list(by_place.values())


def best_and_worst(alternatives: Sequence[Sampled]) -> tuple[Sampled, Sampled] | None:
    """The lines with the highest and the lowest reward; None where no two rewards differ."""
    ranked = sorted(
        ((line.reward, line) for line in alternatives if line.reward is not None), key=lambda scored: scored[0]
    )
    if len(ranked) > 1 and ranked[-1][0] > ranked[0][0]:
        return ranked[-1][1], ranked[0][1]
    return None
