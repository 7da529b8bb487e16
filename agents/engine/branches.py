"""Which tokens of which branches are read together in one forward pass."""

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
    """A branch: its tokens, and the row of a slab that holds their keys and values."""

    slab: Slab
    row: int
    ids: list[int]
    adapter: str | None = None
    read: int = 0  # how many of ids are in the slab; at most len(ids) - 1 between calls
    steer: Steer | None = None


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `end` of a branch that have not been read yet."""

    branch: Branch
    start: int
    end: int


def capacity(length: int) -> int:
    """The capacity of a row for `length` tokens and a quarter more, rounded up to multiples of the smallest slab."""
    return SMALLEST_SLAB * -(-length * 5 // (4 * SMALLEST_SLAB))


def passes(branches: Iterable[Branch]) -> Iterator[list[Piece]]:
    """All unread tokens except each branch's last one, in order, with at most TOKENS_A_PASS tokens per pass."""
    pieces = (
        Piece(branch, start, min(start + TOKENS_A_LOOK, len(branch.ids) - 1))
        for branch in branches
        for start in range(branch.read, len(branch.ids) - 1, TOKENS_A_LOOK)
    )
    return _lots(pieces, lambda piece: piece.end - piece.start)


def portions(continuations: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Iterator[list]:
    """The continuations in portions of at most TOKENS_A_PASS tokens, so that the logits of a tree fit in memory."""
    return _lots(continuations, lambda pair: len(pair[0]) + len(pair[1]))


def runs(ordered: Iterable[Branch], gaps: bool = False) -> Iterator[list[Branch]]:
    """Branches in neighbouring rows of one slab, so that their keys are a view and not a copy.

    With `gaps`, all branches of one slab are together.
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
    """(item, tree) in portions for one pass each, of which none has two trees of the same branch.

    `branch` returns the branch of an (item, tree).
    """
    return _lots(trees, lambda item: len(item[1].ids), branch)


def _lots(items: Iterable, size, key=None) -> Iterator[list]:
    """Items in order, in portions of at most TOKENS_A_PASS tokens (or one larger item), none with the same key
    twice.
    """
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
