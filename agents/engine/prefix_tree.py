"""Several continuations of one branch as a tree of tokens, so that common prefixes are read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tree:
    """A tree of tokens; node 0 is the branch's last token, and a parent always comes before its children."""

    ids: list[int]
    parents: list[int]  # the root's is itself
    depths: list[int]
    scored: list[bool]  # whether some continuation asks for this node's log-probability
    ancestors: np.ndarray  # (n, n) bool: row sees column (itself and its ancestors)
    paths: list[list[int]]  # a continuation's target nodes


def grow(root: int, continuations: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tree:
    """The trie of all (given ids, target ids), in which equal beginnings share their nodes."""
    ids, parents, depths, scored, paths = [root], [0], [0], [False], []
    children: dict[tuple[int, int], int] = {}
    for given, target in continuations:
        node, path = 0, []
        for place, token in enumerate([*given, *target]):
            child = children.get((node, token))
            if child is None:
                child = children[node, token] = len(ids)
                ids.append(token)
                parents.append(node)
                depths.append(depths[node] + 1)
                scored.append(False)
            node = child
            if place >= len(given):
                scored[node] = True
                path.append(node)
        paths.append(path)
    ancestors = np.zeros((len(ids), len(ids)), dtype=bool)
    for node, parent in enumerate(parents):
        ancestors[node] = ancestors[parent]
        ancestors[node, node] = True
    return Tree(ids, parents, depths, scored, ancestors, paths)


def size(continuations: Sequence[tuple[Sequence[int], Sequence[int]]]) -> int:
    """The number of nodes of the tree of these continuations without its root: the tokens that are new to the
    branch.
    """
    children: dict[tuple[int, int], int] = {}
    for given, target in continuations:
        node = 0
        for token in (*given, *target):
            node = children.setdefault((node, token), len(children) + 1)
    return len(children)
