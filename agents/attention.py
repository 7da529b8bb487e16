"""Attention over many branches in one packed forward pass, registered through transformers' AttentionInterface.

Every forward pass is one row of tokens, whatever branches they belong to: no padding goes through the linear layers. A `Pass`
says where each token's key and value are kept and what it may see. Keys and values are written in place into slabs, never
concatenated; query heads are grouped by the key-value head they share, so that heads are never repeated.

Differs from the textbook: a branch's new tokens may form a tree (several continuations of one prefix); they are written
behind the prefix, each sees its ancestors only, and the next pass overwrites them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "branches"


@dataclass
class Slab:
    """Keys and values of branches that were opened together: per layer a pair of (rows, kv heads, capacity, head dim)."""

    rows: int
    capacity: int
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def layer(self, index: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if index not in self.layers:
            shape = (self.rows, like.shape[1], self.capacity, like.shape[3])
            # zeros, not empty: a masked NaN would still spoil a sum
            self.layers[index] = (like.new_zeros(shape), like.new_zeros(shape))
        return self.layers[index]

    def grow(self, capacity: int) -> None:
        """Make room for longer rows. Copies what is there; room for a quarter more each time keeps the copies few."""
        def longer(old: torch.Tensor) -> torch.Tensor:
            new = old.new_zeros((*old.shape[:2], capacity, old.shape[3]))
            new[:, :, : self.capacity] = old
            return new

        self.layers = {i: (longer(k), longer(v)) for i, (k, v) in self.layers.items()}
        self.capacity = capacity


@dataclass(frozen=True)
class Look:
    """Some tokens of the pass and the rows they look at. Decoding: many rows, one token each. Reading: one row, many tokens."""

    slab: Slab
    rows: slice  # R rows of the slab
    tokens: slice | torch.Tensor  # R * n positions in the pass, row by row
    length: int  # how much of the rows is looked at
    mask: torch.Tensor  # (R, n, length) bool, True where a token may look
    positions: torch.Tensor  # (R, n): each token's position
    kept: torch.Tensor  # (R, length): position held at each place of the row


@dataclass(frozen=True)
class Write:
    """Where the pass's keys and values are kept: token t of `tokens` goes to (rows[t], places[t])."""

    slab: Slab
    tokens: slice | torch.Tensor
    rows: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True)
class Pass:
    writes: tuple[Write, ...]
    looks: tuple[Look, ...]
    masks: dict = field(default_factory=dict)  # (look, window) -> additive mask, shared by all layers


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, sliding_window=None, softcap=None,
           plan: Pass | None = None, s_aux=None, **_) -> tuple[torch.Tensor, None]:
    """query (1, H, T, D), key and value (1, Hkv, T, D) of the pass's T tokens -> (1, T, H, D)."""
    if plan is None:
        raise ValueError(f"attention {NAME!r} was called without a plan; models that drop keyword arguments are not supported")
    if s_aux is not None:
        raise ValueError(f"attention {NAME!r} has no attention sinks; expected a model without them")
    out = torch.empty((query.shape[2], query.shape[1], value.shape[3]), dtype=query.dtype, device=query.device)  # (T, H, D)
    for write in plan.writes:
        keys, values = write.slab.layer(module.layer_idx, key)
        keys[write.rows, :, write.places] = key[0, :, write.tokens].transpose(0, 1)
        values[write.rows, :, write.places] = value[0, :, write.tokens].transpose(0, 1)
    for number, look in enumerate(plan.looks):
        keys, values = (kept[look.rows, :, : look.length] for kept in look.slab.layers[module.layer_idx])  # (R, Hkv, L, D)
        rows, kv_heads, _, width = keys.shape
        groups, n = query.shape[1] // kv_heads, look.mask.shape[1]
        q = query[0, :, look.tokens].reshape(kv_heads, groups, rows, n, width).permute(2, 0, 1, 3, 4)
        q = q.reshape(rows, kv_heads, groups * n, width)
        mask = plan.masks.get((number, sliding_window))
        if mask is None:
            mask = plan.masks[number, sliding_window] = _additive(look, sliding_window, groups, q.dtype)
        heard = _softcapped(q, keys, values, mask, scaling, softcap) if softcap else scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, scale=scaling)
        heard = heard.view(rows, kv_heads, groups, n, width).permute(0, 3, 1, 2, 4)  # (R, n, Hkv, G, D)
        out[look.tokens] = heard.reshape(rows * n, kv_heads * groups, width)
    return out[None], None


def _additive(look: Look, window: int | None, groups: int, dtype: torch.dtype) -> torch.Tensor:
    """0 where a token may look, -inf elsewhere, repeated for the heads of a group: (R, 1, groups * n, length)."""
    seen = look.mask
    if window is not None:
        seen = seen & (look.positions[:, :, None] - look.kept[:, None, :] < window)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
    return mask.repeat(1, groups, 1)[:, None]


def _softcapped(q, keys, values, mask, scaling, softcap) -> torch.Tensor:
    """Scores squashed to ±softcap before the softmax (Gemma 2), which no fused kernel offers."""
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.tanh(q.float() @ keys.float().transpose(2, 3) * (scale / softcap)) * softcap + mask
    return (scores.softmax(-1) @ values.float()).to(q.dtype)


def _no_mask(*_, **__) -> None:
    """The plan says who sees whom, so the model need not build a mask."""


def register() -> Callable:
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    return attend
