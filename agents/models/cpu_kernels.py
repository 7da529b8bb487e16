"""Attention for decoding on the CPU: one token per branch, over all keys and values of its branch.

Torch's fused attention splits this into a small matrix product per head, whose set-up costs more than the product. Here
each key is read once for all query heads that share it and is widened to float32 as it is read; the softmax is exact.
The kernel is compiled by numba for a model's number of grouped heads and head width, and cached on disk.

It differs from the textbook in one way: exp is 2**x, by the exponent's bits and a polynomial of degree 6 (relative
error below 1e-6 for arguments above -20), so that it vectorises.
"""

# numba may be absent, and what it compiles is no plain Python.
# pyright: reportOptionalMemberAccess=false, reportPossiblyUnboundVariable=false, reportCallIssue=false

from __future__ import annotations

from functools import cache

import numpy as np
import torch

# Sums over vector lanes, and multiplication and addition in one; NaN and infinity as ever. With any flag more ("nsz",
# "arcp", "afn"), what numba has just compiled rounds differently from what it reads back from its cache.
FAST = {"reassoc", "contract"}


try:
    import numba
    from llvmlite import ir
    from numba.extending import intrinsic
except ImportError:  # torch's own attention then does it
    numba = None


def able(tensor: torch.Tensor) -> bool:
    """Whether the kernels support the dtype and device of this tensor."""
    return numba is not None and tensor.device.type == "cpu" and tensor.dtype in (torch.bfloat16, torch.float32)


def decode(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    scale: float,
    softcap: float | None = None,
) -> torch.Tensor:
    """The attention output of one new token per row: (R, H, D), in the query's dtype.

    It writes `key` and `value` (R, Hkv, D) at position ends[r] - 1 of row rows[r] of `keys` and `values` (all rows,
    Hkv, capacity, D), and returns softmax(scale q K^T) V over positions starts[r] to ends[r]. With `softcap`, scores
    are limited to ±softcap. `query` is (R, H, D), with the heads of a group next to each other.
    """
    asked, heads, width = query.shape
    kv_heads = keys.shape[1]
    _as_many_threads_as_torch()
    out = torch.empty(asked, kv_heads, heads // kv_heads, width)
    half = keys.dtype == torch.bfloat16
    scaled = (query.float() * scale).view(asked, kv_heads, heads // kv_heads, width).contiguous()
    _attention(heads // kv_heads, width, half, softcap or 0.0)(
        scaled.numpy(),
        _array(key.contiguous()),
        _array(value.contiguous()),
        _array(keys),
        _array(values),
        rows,
        starts,
        ends,
        out.numpy(),
    )
    return out.view(asked, heads, -1).to(query.dtype)


def logsumexp(logits: torch.Tensor) -> torch.Tensor:
    """log sum exp of each row, (B, V) -> (B,) float32; the exponentials are summed in float32."""
    _as_many_threads_as_torch()
    out = torch.empty(len(logits))
    _norms(logits.dtype == torch.bfloat16)(_array(logits.contiguous()), out.numpy())
    return out


def _as_many_threads_as_torch() -> None:
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
    if torch.get_num_threads() != threads:
        # numba starts its threads at its first call, and tells OpenMP, which is torch's too, how many
        torch.set_num_threads(threads)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A numpy array of the same memory; bfloat16, which numpy does not support, as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


if numba is not None:

    @intrinsic
    def _bits(_, integer):
        """The float32 whose bits these are."""

        def build(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], ir.FloatType())

        return numba.types.float32(numba.types.uint32), build

    @numba.njit(inline="always")
    def _number(stored, half):
        """A float32 as it is kept, or the bits of a bfloat16, which are the upper half of a float32."""
        return _bits(np.uint32(stored) << np.uint32(16)) if half else np.float32(stored)

    @numba.njit(inline="always")
    def _exp(x):
        """e**x of a float32 x <= 0."""
        y = max(x, np.float32(-87.0)) * np.float32(1.4426950408889634)
        whole = np.floor(y + np.float32(0.5))
        part = y - whole
        p = np.float32(1.5403530e-4)
        for coefficient in (1.3333558e-3, 9.6181291e-3, 5.5504109e-2, 2.4022651e-1, 6.9314718e-1, 1.0):
            p = p * part + np.float32(coefficient)
        return p * _bits(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23))

    @numba.njit(inline="always")
    def _squashed(x, softcap):
        """softcap * tanh(x / softcap), by tanh|y| = (1 - e**-2|y|) / (1 + e**-2|y|)."""
        e = _exp(np.float32(-2.0) * abs(x / np.float32(softcap)))
        return (
            np.float32(softcap)
            * (np.float32(1) - e)
            / (np.float32(1) + e)
            * (np.float32(1) if x >= 0 else np.float32(-1))
        )


@cache
def _attention(groups: int, width: int, half: bool, softcap: float):
    @numba.njit(parallel=True, fastmath=FAST, cache=True)
    def attend(query, newest_key, newest_value, keys, values, rows, starts, ends, out):
        kv_heads = query.shape[1]
        for item in numba.prange(len(rows) * kv_heads):
            row, head = item // kv_heads, item % kv_heads
            start, end = starts[row], ends[row]
            key, value, asked = keys[rows[row], head], values[rows[row], head], query[row, head].copy()
            key[end - 1] = newest_key[row, head]
            value[end - 1] = newest_value[row, head]
            scores = np.empty((groups, end - start), np.float32)
            heard = np.zeros((groups, width), np.float32)
            for place in range(start, end):
                for group in range(groups):
                    score = np.float32(0)
                    for d in range(width):
                        score += asked[group, d] * _number(key[place, d], half)
                    scores[group, place - start] = _squashed(score, softcap) if softcap else score
            for group in range(groups):
                highest = np.float32(-np.inf)
                for place in range(end - start):
                    highest = max(highest, scores[group, place])
                total = np.float32(0)
                for place in range(end - start):
                    scores[group, place] = _exp(scores[group, place] - highest)
                    total += scores[group, place]
                for place in range(end - start):
                    scores[group, place] /= total
            for place in range(start, end):
                for group in range(groups):
                    weight = scores[group, place - start]
                    for d in range(width):
                        heard[group, d] += weight * _number(value[place, d], half)
            out[row, head] = heard

    return attend


@cache
def _norms(half: bool):
    @numba.njit(parallel=True, fastmath=FAST, cache=True)
    def norms(logits, out):
        for row in numba.prange(logits.shape[0]):
            highest = np.float32(-np.inf)
            for place in range(logits.shape[1]):
                highest = max(highest, _number(logits[row, place], half))
            total = np.float32(0)
            for place in range(logits.shape[1]):
                total += _exp(_number(logits[row, place], half) - highest)
            out[row] = highest + np.log(total)

    return norms
