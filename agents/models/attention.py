"""Attention over many branches in one packed forward pass, registered through transformers' AttentionInterface.

Every forward pass is one row of tokens from any number of branches: the linear layers process no padding. A `Pass` says
where each token's key and value are stored and what it attends to. Keys and values are written in place into slabs and
never concatenated. Query heads are grouped by the key-value head that they share, so that heads are never repeated.

It differs from the textbook in one way: the new tokens of a branch may form a tree (several continuations of one
prefix). They are written after the prefix, each attends to its ancestors only, and the next pass overwrites them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from agents.models import cpu_kernels

NAME = "branches"


@dataclass
class Slab:
    """Keys and values of branches that were opened together: per layer a pair of (rows, kv heads, capacity, head
    dim).
    """

    rows: int
    capacity: int
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def layer(self, index: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of a layer; zeros of the shape of `like` at the first call."""
        if index not in self.layers:
            shape = (self.rows, like.shape[1], self.capacity, like.shape[3])
            # zeros, not empty: a masked NaN would still spoil a sum
            self.layers[index] = (like.new_zeros(shape), like.new_zeros(shape))
        return self.layers[index]

    def grow(self, capacity: int) -> None:
        """Extends the rows to a larger capacity, by copying; a quarter more each time keeps the number of copies
        small.
        """

        def longer(old: torch.Tensor) -> torch.Tensor:
            new = old.new_zeros((*old.shape[:2], capacity, old.shape[3]))
            new[:, :, : old.shape[2]] = old
            return new

        for i, (keys, values) in self.layers.items():  # layer by layer: never twice the whole
            self.layers[i] = longer(keys), longer(values)
        self.capacity = capacity


@dataclass(frozen=True)
class Look:
    """Tokens of the pass and the rows to which they attend: R rows with n tokens each, padded where they have fewer."""

    slab: Slab
    rows: slice  # R rows of the slab
    tokens: slice  # their places in the pass, row by row
    length: int  # how much of the rows is looked at
    mask: torch.Tensor  # (R, n, length) bool, True where a token may look
    positions: torch.Tensor  # (R, n): each token's position
    kept: torch.Tensor  # (R, length): position held at each place of the row
    held: torch.Tensor | None = None  # which of the R * n are tokens and not padding; None where all are

    def to(self, device: torch.device) -> Look:
        return replace(
            self, **{name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        )

    def seen(self, window: int | None) -> torch.Tensor:
        """(R, n, length) bool: which positions each token attends to, within a sliding window where there is one."""
        if window is None:
            return self.mask
        return self.mask & (self.positions[:, :, None] - self.kept[:, None, :] < window)


@dataclass(frozen=True)
class Glance:
    """Decoding: one token per row, written at the end of its row's first `lengths` positions, to which it attends."""

    slab: Slab
    rows: np.ndarray  # (R,) int64, rising; without gaps where torch's attention is to look
    tokens: slice
    lengths: np.ndarray  # (R,) int64
    held: None = None  # never padded

    @property
    def length(self) -> int:
        """The greatest number of positions to which a token attends."""
        return int(self.lengths.max())

    def starts(self, window: int | None) -> np.ndarray:
        """(R,) the first position to which each token attends."""
        return np.zeros_like(self.lengths) if window is None else np.maximum(self.lengths - window, 0)

    def seen(self, window: int | None) -> torch.Tensor:
        """(R, 1, length) bool: which positions each token attends to."""
        places = np.arange(self.length)
        return torch.from_numpy((places < self.lengths[:, None]) & (places >= self.starts(window)[:, None]))[:, None]


@dataclass(frozen=True)
class Write:
    """Where keys and values are stored for later looks: token t of `tokens` goes to (rows[t], places[t])."""

    slab: Slab
    tokens: slice
    rows: torch.Tensor
    places: torch.Tensor

    def to(self, device: torch.device) -> Write:
        return replace(self, rows=self.rows.to(device), places=self.places.to(device))


@dataclass(frozen=True)
class Pass:
    """The writes of a pass, then its looks; a glance writes its own tokens."""

    writes: tuple[Write, ...]
    looks: tuple[Look | Glance, ...]
    masks: dict = field(default_factory=dict)  # (look, window) -> additive mask, shared by all layers
    places: dict = field(default_factory=dict)  # glance -> (rows, places) of what it writes, on the device


def attend(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    dropout=0.0,
    sliding_window=None,
    softcap=None,
    plan: Pass | None = None,
    s_aux=None,
    **_,
) -> tuple[torch.Tensor, None]:
    """The attention output (1, T, H, D) of a pass's T tokens, from query (1, H, T, D), key and value (1, Hkv, T, D).

    Writes keys and values according to `plan`. Raises ValueError for features that it does not support.
    """
    if plan is None:
        raise ValueError(
            f"attention {NAME!r} was called without a plan; models that drop keyword arguments are not supported"
        )
    if s_aux is not None:
        raise ValueError(f"attention {NAME!r} has no attention sinks; expected a model without them")
    # (T, H, D)
    out = torch.empty((query.shape[2], query.shape[1], value.shape[3]), dtype=query.dtype, device=query.device)
    for write in plan.writes:
        keys, values = write.slab.layer(module.layer_idx, key)
        keys[write.rows, :, write.places] = key[0, :, write.tokens].transpose(0, 1)
        values[write.rows, :, write.places] = value[0, :, write.tokens].transpose(0, 1)
    for number, look in enumerate(plan.looks):
        asked = query[0, :, look.tokens].transpose(0, 1)  # (tokens, H, D)
        keys, values = look.slab.layer(module.layer_idx, key)  # (rows, Hkv, capacity, D)
        if isinstance(look, Glance):
            rows = look.rows
            newest_key, newest_value = (new[0, :, look.tokens].transpose(0, 1) for new in (key, value))  # (R, Hkv, D)
            if cpu_kernels.able(keys):
                scale = query.shape[3] ** -0.5 if scaling is None else scaling
                out[look.tokens] = cpu_kernels.decode(
                    asked,
                    newest_key,
                    newest_value,
                    keys,
                    values,
                    rows,
                    look.starts(sliding_window),
                    look.lengths,
                    scale,
                    softcap,
                )
                continue
            if number not in plan.places:
                plan.places[number] = tuple(torch.from_numpy(at).to(keys.device) for at in (rows, look.lengths - 1))
            at, places = plan.places[number]
            keys[at, :, places], values[at, :, places] = newest_key, newest_value
            rows = slice(rows[0], rows[-1] + 1)
        else:
            rows = look.rows
        mask = plan.masks.get((number, sliding_window))
        if mask is None:
            mask = _additive(look.seen(sliding_window).to(query.device), query.shape[1] // keys.shape[1], query.dtype)
            plan.masks[number, sliding_window] = mask
        out[look.tokens] = _attended(
            asked, look.held, keys[rows, :, : look.length], values[rows, :, : look.length], mask, scaling, softcap
        )
    return out[None], None


def _attended(asked: torch.Tensor, held: torch.Tensor | None, keys, values, mask, scaling, softcap) -> torch.Tensor:
    """The attention output (tokens, H, D) of tokens (tokens, H, D) over keys and values (R, Hkv, L, D)."""
    rows, kv_heads, _, _ = keys.shape
    groups = asked.shape[1] // kv_heads
    n = mask.shape[2] // groups
    if held is not None:  # padded to n tokens a row
        asked = asked.new_zeros(rows * n, *asked.shape[1:]).index_copy_(0, held, asked)
    q = asked.reshape(rows, n, kv_heads, groups, -1).permute(0, 2, 3, 1, 4)  # (R, Hkv, G, n, D)
    q = q.reshape(rows, kv_heads, groups * n, -1)
    heard = (
        _softcapped(q, keys, values, mask, scaling, softcap)
        if softcap
        else scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scaling)
    )
    heard = heard.view(rows, kv_heads, groups, n, -1).permute(0, 3, 1, 2, 4).reshape(rows * n, kv_heads * groups, -1)
    return heard if held is None else heard[held]


def _additive(seen: torch.Tensor, groups: int, dtype: torch.dtype) -> torch.Tensor:
    """0 where a token may attend, -inf elsewhere, repeated for the heads of a group: (R, 1, groups * n, length)."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
    return mask.repeat(1, groups, 1)[:, None]


def _softcapped(q, keys, values, mask, scaling, softcap) -> torch.Tensor:
    """Attention with scores limited to ±softcap before the softmax (Gemma 2), which no fused kernel offers."""
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.tanh(q.float() @ keys.float().transpose(2, 3) * (scale / softcap)) * softcap + mask
    return (scores.softmax(-1) @ values.float()).to(q.dtype)


def _no_mask(*_, **__) -> None:
    """None: the plan says which tokens attend to which, so that the model need not build a mask."""


def register() -> Callable:
    """Registers the attention with transformers, and returns its function."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    return attend
