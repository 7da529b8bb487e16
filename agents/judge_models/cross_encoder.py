"""`entail` for NLI judges, by any sequence classification model for natural language inference from the hub or a
folder.

The meaning of each output comes from the config's `id2label`, since its order differs between models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LABELS = {"contradict": 0, "neutral": 1, "entail": 2}  # how a label begins -> its column
LONGEST = 512  # tokens of a pair that are read, fewer where the model takes fewer
BATCH = 32


def check(name: str) -> list[int]:
    """The column of each output of the model, without loading its weights.

    Raises ValueError where the model is not available or has no label "contradiction".
    """
    from agents.models.loading import local_folder

    folder = local_folder(name)
    labels = json.loads((Path(folder) / "config.json").read_text()).get("id2label") or {}
    named = [str(labels[key]) for key in sorted(labels, key=int)]
    columns = [
        next((column for stem, column in LABELS.items() if label.lower().startswith(stem)), -1) for label in named
    ]
    if columns.count(0) != 1 or len(set(columns)) < len(columns) or -1 in columns:
        raise ValueError(
            f"model {name!r} has the labels {', '.join(named) or 'of no classifier'}; expected a sequence classifier "
            "with contradiction, neutral and entailment in its config's id2label"
        )
    return columns


class CrossEncoder:
    """`entail` with a model on its device, in float32."""

    def __init__(self, name: str, device: str = "auto") -> None:
        """Raises ValueError like `check`, and where the files are damaged or incomplete."""
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from agents.models.loading import choose_device, local_folder

        self.columns, folder = check(name), local_folder(name)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, dtype="float32"
            )
        except (OSError, ImportError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            why = (str(error).strip() or "no message").splitlines()[0][:200]
            raise ValueError(
                f"model {name!r} could not be loaded ({type(error).__name__}: {why}); expected a sequence classifier "
                "that transformers knows, with all its files"
            ) from error
        self.model = model.to(choose_device(device)).eval().requires_grad_(False)
        self.longest = min(
            LONGEST,
            self.tokenizer.model_max_length,
            getattr(model.config, "max_position_embeddings", LONGEST) or LONGEST,
        )

    def entail(self, premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """(N, 3) probabilities of contradiction, neutral, entailment; a label that the model lacks has 0."""
        shares = np.zeros((len(premises), 3))
        order = sorted(range(len(premises)), key=lambda place: len(premises[place]) + len(hypotheses[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            shares[np.ix_(places, self.columns)] = self._shares(
                [premises[i] for i in places], [hypotheses[i] for i in places]
            )
        return shares

    def _shares(self, premises: list[str], hypotheses: list[str]) -> np.ndarray:
        import torch

        read = self.tokenizer(
            premises, hypotheses, padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        with torch.inference_mode():
            return self.model(**read.to(self.model.device)).logits.double().softmax(1).cpu().numpy()
