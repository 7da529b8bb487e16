"""Which tokens of which branches travel together in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agents.engine.protocol import Steer
from agents.models.attention import Slab

TOKENS_A_PASS = 2048  # most tokens of one forward pass while reading
TOKENS_A_LOOK = 512  # most tokens of one branch in one pass: bounds the size of a mask
SMALLEST_SLAB = 128


@dataclass
class Branch:
    slab: Slab
    row: int
    ids: list[int]
    adapter: str | None = None
    read: int = 0  # how many of ids are in the slab; at most len(ids) - 1 between calls
    steer: Steer | None = None


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `end` of a branch, which have yet to be read."""

    branch: Branch
    start: int
    end: int


def capacity(length: int) -> int:
    """Room for `length` tokens and a quarter more, in steps of the smallest slab."""
    return SMALLEST_SLAB * -(-length * 5 // (4 * SMALLEST_SLAB))


def passes(branches: Iterable[Branch]) -> Iterator[list[Piece]]:
    """All that is unread but for each branch's last token, in order, at most TOKENS_A_PASS tokens a pass."""
    pieces = (
        Piece(branch, start, min(start + TOKENS_A_LOOK, len(branch.ids) - 1))
        for branch in branches
        for start in range(branch.read, len(branch.ids) - 1, TOKENS_A_LOOK)
    )
    return _lots(pieces, lambda piece: piece.end - piece.start)


def portions(continuations: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Iterator[list]:
    """Continuations in lots of at most TOKENS_A_PASS tokens, so that a tree's logits fit in memory."""
    return _lots(continuations, lambda pair: len(pair[0]) + len(pair[1]))


def runs(ordered: Iterable[Branch], gaps: bool = False) -> Iterator[list[Branch]]:
    """Branches that lie side by side in one slab, so that their keys are one view and no copy; with `gaps`, all of one
    slab.
    """
    run: list[Branch] = []
    for branch in ordered:
        if run and (branch.slab is not run[-1].slab or not (gaps or branch.row == run[-1].row + 1)):
            yield run
            run = []
        run.append(branch)
    if run:
        yield run


def lots_of_trees(trees: Iterable[tuple], branch) -> Iterator[list[tuple]]:
    """(anything, tree) in lots for one pass each, no two of one branch in a lot: `branch` tells an item's."""
    return _lots(trees, lambda item: len(item[1].ids), branch)


def _lots(items: Iterable, size, key=None) -> Iterator[list]:
    """Items in order, at most TOKENS_A_PASS tokens a lot (or one larger item), none with the same key twice."""
    lot, tokens, keys = [], 0, set()
    for item in items:
        if lot and (tokens + size(item) > TOKENS_A_PASS or (key and key(item) in keys)):
            yield lot
            lot, tokens, keys = [], 0, set()
        lot.append(item)
        tokens += size(item)
        if key:
            keys.add(key(item))
    if lot:
        yield lot
