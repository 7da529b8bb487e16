"""The plan of one forward pass: what it writes, and which tokens attend to which; for reading, decoding and scoring
trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from agents.engine.branches import Branch, Piece, runs
from agents.engine.prefix_tree import Tree
from agents.models.attention import Glance, Look, Pass, Write

PADDED = 2  # most places of a padded block for each token in it


def reading(pieces: Sequence[Piece], device: torch.device) -> Pass:
    """The plan to read pieces: each token attends to its branch up to itself.

    Pieces of neighbouring rows share a look, padded to the longest.
    """
    writes, looks, first = [], [], 0
    for block in _blocks(pieces):
        starts = torch.tensor([piece.start for piece in block])
        lengths = torch.tensor([piece.end - piece.start for piece in block])
        places = torch.arange(int(lengths.max()))
        held = places < lengths[:, None]  # (R, n)
        # padding repeats the last token
        positions = (starts[:, None] + places).minimum((starts + lengths - 1)[:, None])
        kept = torch.arange(int((starts + lengths).max())).expand(len(block), -1)
        row, tokens = block[0].branch.row, slice(first, first := first + int(lengths.sum()))
        sees = kept[:, None] <= positions[:, :, None]
        looks.append(
            Look(
                block[0].branch.slab,
                slice(row, row + len(block)),
                tokens,
                kept.shape[1],
                sees,
                positions,
                kept,
                None if held.all() else held.flatten().nonzero()[:, 0],
            ).to(device)
        )
        writes.append(
            Write(
                block[0].branch.slab,
                tokens,
                torch.arange(row, row + len(block)).repeat_interleave(lengths),
                positions[held],
            ).to(device)
        )
    return Pass(tuple(writes), tuple(looks))


def decoding(branches: Sequence[Branch], gaps: bool) -> Pass:
    """The plan to read the last token of each branch, which attends to its whole branch.

    `branches` are sorted by slab and row; `gaps` says whether rows of a look may have other rows between them.
    """
    looks, first = [], 0
    for run in runs(branches, gaps):
        tokens = slice(first, first := first + len(run))
        looks.append(
            Glance(
                run[0].slab,
                np.array([branch.row for branch in run]),
                tokens,
                np.array([branch.read + 1 for branch in run]),
            )
        )
    return Pass((), tuple(looks))


def scoring(trees: Sequence[tuple[Branch, Tree]], device: torch.device) -> Pass:
    """The plan to read trees: each node attends to its branch's prefix and its own ancestors.

    The trees are written after the prefixes of their branches, of which no two are the same.
    """
    writes, looks, first = [], [], 0
    for branch, tree in trees:
        base, n = branch.read, len(tree.ids)
        tokens, positions = slice(first, first := first + n), base + torch.tensor(tree.depths)
        sees = torch.cat([torch.ones(n, base, dtype=torch.bool), torch.from_numpy(tree.ancestors)], 1)  # (n, base + n)
        kept = torch.cat([torch.arange(base), positions])
        looks.append(
            Look(
                branch.slab,
                slice(branch.row, branch.row + 1),
                tokens,
                base + n,
                sees[None],
                positions[None],
                kept[None],
            ).to(device)
        )
        writes.append(Write(branch.slab, tokens, torch.full((n,), branch.row), torch.arange(base, base + n)).to(device))
    return Pass(tuple(writes), tuple(looks))


def _blocks(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces in order; those of neighbouring rows of a slab are together unless padding would exceed the tokens."""
    block: list[Piece] = []
    for piece in pieces:
        if block:
            last, longest = block[-1].branch, max(member.end - member.start for member in (*block, piece))
            beside = piece.branch.slab is last.slab and piece.branch.row == last.row + 1
            tokens = sum(member.end - member.start for member in (*block, piece))
            if not beside or longest * (len(block) + 1) > PADDED * tokens:
                yield block
                block = []
        block.append(piece)
    if block:
        yield block
