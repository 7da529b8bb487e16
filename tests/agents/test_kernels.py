"""The CPU kernels against torch's own operations."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import ROOT
from torch.nn.functional import scaled_dot_product_attention

from agents.models import cpu_kernels

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


# Each number of grouped heads, width and dtype is compiled, for some ten seconds: here and below they are those of
# models that other tests use, but for a width that is no multiple of the vectors'.
@pytest.mark.parametrize(
    ("rows", "kv_heads", "groups", "width", "dtype"),
    [(4, 3, 3, 64, torch.float32), (4, 3, 3, 64, torch.bfloat16), (2, 1, 8, 40, torch.bfloat16)],
)
def test_decoding_attention_equals_torchs_over_each_rows_own_places(rows, kv_heads, groups, width, dtype):
    torch.manual_seed(0)
    keys, values = torch.randn(2, 2 * rows + 1, kv_heads, 90, width).to(dtype)
    at = np.arange(1, 2 * rows, 2)  # every other row of a slab
    key, value = torch.randn(2, kv_heads, rows, width).to(dtype).transpose(1, 2)  # the newest
    query = torch.randn(rows, kv_heads * groups, width).to(dtype) * 3
    ends = np.arange(17, 17 + 23 * rows, 23)
    starts = np.maximum(ends - 30, 0)  # a sliding window of 30
    attended = cpu_kernels.decode(query, key, value, keys, values, at, starts, ends, width**-0.5)
    assert torch.equal(keys[at, :, ends - 1], key) and torch.equal(values[at, :, ends - 1], value)
    places = torch.arange(90)
    seen = (places < torch.from_numpy(ends)[:, None]) & (places >= torch.from_numpy(starts)[:, None])
    wanted = scaled_dot_product_attention(
        query.float()[:, :, None],
        keys[at].float().repeat_interleave(groups, 1),
        values[at].float().repeat_interleave(groups, 1),
        attn_mask=seen[:, None, None],
    )[:, :, 0]
    assert attended.dtype == dtype
    assert torch.allclose(attended.float(), wanted, atol=TOLERANCE[dtype])


def test_what_lies_outside_a_rows_places_is_never_read():
    keys = torch.full((1, 1, 8, 8), float("nan"))
    values = keys.clone()
    keys[:, :, 2:4], values[:, :, 2:4] = 0.0, torch.tensor([1.0, 2.0])[:, None]
    newest = torch.zeros(1, 1, 8), torch.full((1, 1, 8), 6.0)
    attended = cpu_kernels.decode(
        torch.ones(1, 1, 8), *newest, keys, values, np.array([0]), np.array([2]), np.array([5]), 1.0
    )
    assert torch.allclose(attended, torch.full((1, 1, 8), 3.0))  # equal scores: (1 + 2 + 6) / 3


def test_scores_are_squashed_where_the_model_says_so():
    torch.manual_seed(2)
    keys, values = torch.randn(2, 1, 1, 9, 16) * 3
    query, key, value = torch.randn(1, 2, 16), keys[:, :, 8].clone(), values[:, :, 8].clone()
    attended = cpu_kernels.decode(
        query, key, value, keys, values, np.array([0]), np.array([0]), np.array([9]), 0.5, 2.0
    )
    scores = torch.tanh(query[0] @ keys[0, 0].T * 0.5 / 2) * 2
    assert torch.allclose(attended[0], scores.softmax(-1) @ values[0, 0], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logsumexp_equals_torchs(dtype):
    torch.manual_seed(1)
    logits = (torch.randn(5, 3001) * 20).to(dtype)
    logits[0, 7] = float("-inf")
    assert torch.allclose(cpu_kernels.logsumexp(logits), logits.float().logsumexp(-1), atol=1e-4)


def test_other_kinds_of_numbers_are_left_to_torch():
    assert not cpu_kernels.able(torch.zeros(1, dtype=torch.float16))
    assert cpu_kernels.able(torch.zeros(1, dtype=torch.bfloat16))


def test_the_first_kernel_leaves_torch_as_many_threads_as_it_had():
    """In a process of its own, since it happens once; numba would start two threads there, and torch is to go on with
    one.
    """
    script = (
        "import torch; from agents.models import cpu_kernels as kernels; torch.set_num_threads(1); "
        "kernels.logsumexp(torch.zeros(1, 8)); print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.slow
def test_the_first_process_which_compiles_computes_what_later_ones_do(tmp_path):
    """To the last bit: the second process reads what the first one stored."""
    script = (
        "import numpy as np, torch; from agents.models import cpu_kernels as kernels; torch.manual_seed(0); "
        "newest = torch.randn(3, 6, 3, 64); kept = torch.randn(2, 6, 3, 300, 64); rows = np.arange(6); "
        "out = kernels.decode(newest.view(6, 9, 64), *newest[:2], *kept, rows, rows * 0, rows * 40 + 9, 0.1); "
        "print(out.numpy().tobytes().hex()[:8000])"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        for _ in range(2)
    )
    assert len(first.stdout) > 1000, first.stderr
    assert first.stdout == second.stdout
