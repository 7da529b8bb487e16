"""Trains the joint layers of the embedded NLI model and writes their weights.

`python -m agents.judge_models.nli_joint_train` takes some 40 minutes on one core with AVX512-BF16. It trains on the
written cards (`nli_cards`) and on a few sentences generated from slots (`nli_data`), and prints after each pass how
often the broken one of two statements has the higher probability, on the cards that are kept from training. The stored
weights come from a run that drew one or two unrelated statements a line, and fewer pairs of lines; it printed .853.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from agents.judge_models import nli_joint
from agents.judge_models.nli_cards import Card, card_examples, cards, within_lines
from agents.judge_models.nli_data import Example, corpora, examples
from agents.judge_models.nli_head import padded, states
from agents.judge_models.nli_joint import STATES, JointLayers, packed
from agents.judge_models.nli_train import batches, wilson
from scenarios.records import derive_seed

EPOCHS, BATCH, SLOT_PAIRS, SMOOTHING = 4, 32, 4_000, 0.05
LEARNING_RATE, OF_LOGITS, WARM_UP, LEAST = 2.5e-4, 5e-4, 60, 0.02  # rates; steps; share of the rate at the end
TURNED = 0.25  # share of the pairs that are read in the other order
Read = dict[str, torch.Tensor]  # text -> its states


def train(rows: Sequence[Card], slots: Sequence[Example], seed: int, epochs: int = EPOCHS) -> Iterator[JointLayers]:
    """The layers after each pass over new examples of the cards and a part of the slots' sentences, by cross-entropy,
    with AdamW and a learning rate that rises over WARM_UP steps and falls along a cosine.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    passes = [
        card_examples(rows, derive_seed(seed, "cards", number)) + list(slots[number::epochs])
        for number in range(epochs)
    ]
    read: Read = {}
    net = JointLayers().train()
    net.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        [
            {"params": [net.which, *net.layers.parameters()], "lr": LEARNING_RATE},
            {"params": net.decide.parameters(), "lr": OF_LOGITS},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    steps = sum(-(-len(pairs) // BATCH) for pairs in passes)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    loss = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for pairs in passes:
        for batch in batches(pairs, BATCH, _length, rng):
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = _logits(net, [(p.premise, p.hypothesis)[:: rng.choice(_ORDERS)] for p in batch], read)
            loss(logits.float(), torch.tensor([pair.label for pair in batch])).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        yield net


_ORDERS = (-1, *[1] * round(1 / TURNED - 1))


def _rate(step: int, steps: int) -> float:
    falling = 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))
    return min(1, (step + 1) / WARM_UP) * (LEAST + (1 - LEAST) * falling)


def _length(pair: Example) -> int:
    return (len(pair.premise) + len(pair.hypothesis)) // 30


def _logits(net: JointLayers, pairs: Sequence[Sequence[str]], read: Read) -> torch.Tensor:
    new = [text for text in dict.fromkeys(text for pair in pairs for text in pair) if text not in read]
    read.update((text, row[:, :STATES]) for text, row in zip(new, states(new), strict=True))
    (a, a_mask), (b, b_mask) = (padded([read[pair[side]] for pair in pairs]) for side in (0, 1))
    return net(a, a_mask, b, b_mask)


def entailing(net: JointLayers):
    """`entail(statements, lines)`, (N, 3) probabilities, of these layers alone."""

    def entail(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        pairs, read = list(zip(first, second, strict=True)), {}
        with torch.inference_mode():
            parts = [_logits(net, pairs[start : start + BATCH], read) for start in range(0, len(pairs), BATCH)]
        return torch.cat(parts).softmax(1).numpy()

    return entail


def main() -> None:
    """Trains the layers, prints their held-out figures and writes their weights."""
    parser = argparse.ArgumentParser(
        prog="agents.judge_models.nli_joint_train", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--cards", type=int, help="train on this many cards (default: all)")
    parser.add_argument("--out", type=Path, default=nli_joint.WEIGHTS, help="where the weights go")
    options = parser.parse_args()
    from safetensors.torch import save_file

    written, held = cards()
    written, held = written[: options.cards], held[: options.cards]
    slots = examples(corpora()["train"], SLOT_PAIRS if options.cards is None else 0, derive_seed(options.seed, "slots"))
    for net in train(written, slots, options.seed, options.epochs):
        net.eval()
        value, low, high, n = wilson(*within_lines(entailing(net), held))
        print(f"right within a line {value:.3f} [{low:.3f}, {high:.3f}] n={n} (chance .5)", flush=True)
        save_file(packed(net), options.out)
        net.train()


if __name__ == "__main__":
    main()
