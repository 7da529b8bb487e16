"""The upper layers of MiniLM over two texts at once: does a spoken line contradict a statement of a card?

The lower layers read each text alone, so that a text is read once for all its pairs; from layer FROM on, the tokens of
both texts attend to each other (as in DeFormer, Cao et al., arXiv 2005.00697, and PreTTR, MacAvaney et al., arXiv
2004.14255). Which text a token is of is told by a vector that is added to it. The first token and the mean of each text
give three logits.

`python -m agents.judge_models.nli_joint_train` trains the layers on written persona cards. What is stored, in WEIGHTS,
are the changes of the layers' matrices at rank RANK, and everything else as it is.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "nli_joint.safetensors"
FROM = 3  # of MiniLM's six layers
STATES, HIDDEN = 384, 192
RANK = 64
CHANGES = (".left", ".right")  # of the name of a matrix: the factors of its change
_CLOSED = -1e4  # added to the scores of tokens that are none


class JointLayers(nn.Module):
    """Logits (B, 3) over `agents.judge_models.nli_data.LABELS` for pairs of texts.

    The texts are the token states (B, T, STATES) of MiniLM's layer FROM, with masks (B, T). Raises ValueError where the
    encoder is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = copy.deepcopy(_encoder().encoder.layer[FROM:]).float()
        self.which = nn.Parameter(torch.zeros(2, STATES))
        self.decide = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(4 * STATES, HIDDEN), nn.GELU(), nn.Dropout(0.1), nn.Linear(HIDDEN, 3)
        )

    def forward(self, a: Tensor, a_mask: Tensor, b: Tensor, b_mask: Tensor) -> Tensor:
        """Logits (B, 3) of statements `a` and lines `b`."""
        x = torch.cat([a + self.which[0], b + self.which[1]], 1)
        bias = torch.where(torch.cat([a_mask, b_mask], 1), 0.0, _CLOSED)[:, None, None]
        for layer in self.layers:
            out = layer(x, bias)
            x = out[0] if isinstance(out, tuple) else out
        first, second = x[:, : a.shape[1]], x[:, a.shape[1] :]
        return self.decide(torch.cat([first[:, 0], second[:, 0], mean_of(first, a_mask), mean_of(second, b_mask)], 1))


def mean_of(x: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, width) of the tokens of each text, (B, T, width) with mask (B, T); 0 without any."""
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _encoder():
    from agents.judge_models.embedder import MINILM, _loaded, folder

    return _loaded(folder(MINILM), "cpu")[0]


def packed(trained: JointLayers) -> dict[str, Tensor]:
    """The weights as stored, float16: matrices of the layers as the factors of their change at rank RANK."""
    before, stored = JointLayers().state_dict(), {}
    for name, weight in trained.state_dict().items():
        if name.startswith("layers.") and weight.ndim == 2:
            left, scale, right = torch.linalg.svd(weight - before[name], full_matrices=False)
            stored |= {name + CHANGES[0]: left[:, :RANK] * scale[:RANK], name + CHANGES[1]: right[:RANK]}
        else:
            stored[name] = weight
    return {name: weight.to(torch.float16).contiguous() for name, weight in stored.items()}


@lru_cache(maxsize=1)
def load_joint() -> JointLayers:
    """The trained layers, float32 on the CPU."""
    from safetensors.torch import load_file

    stored, layers = load_file(WEIGHTS), JointLayers()
    weights = layers.state_dict()
    for name in weights:
        if name in stored:
            weights[name] = stored[name].float()
        else:
            left, right = (stored[name + part].float() for part in CHANGES)
            weights[name] = weights[name] + left @ right
    layers.load_state_dict(weights)
    return layers.eval().requires_grad_(False)
