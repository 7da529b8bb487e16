"""The embedded NLI model: does one sentence contradict another? Small heads over MiniLM's token states.

The frozen encoder reads each text once; a pair costs only a head. The head is a decomposable attention model (Parikh
et al., arXiv 1606.01933):

- tokens a_i of the premise and b_j of the hypothesis are projected;
- each attends over the other text, which gives ã_i and b̃_j;
- each is compared as [a, ã, |a - ã|, a * ã];
- the mean and the maximum over tokens, in both directions, give three logits.

It differs from the paper in reading contextual states of two layers, and in the maximum, which lets a single word that
does not match decide.

`python -m agents.judge_models.nli_train` trains the head for claims of facts (WEIGHTS) on sentences generated from
slots. It handles slots, denials, numbers, and whom a sentence is about; on statements of any other kind it is at chance
(`nli_cards.within_lines`). With `--cards` it trains the head for statements of any kind (CARD_WEIGHTS) on written
persona cards too; `nli_joint` is its companion there, and both together rank better than either. All know little of the
world: of paraphrases outside their training data they know only what the encoder provides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from agents.judge_models.nli_joint import load_joint, mean_of

WEIGHTS = Path(__file__).parent / "nli_head.safetensors"
CARD_WEIGHTS = Path(__file__).parent / "nli_cards_head.safetensors"
LAYERS = (3, 6)  # of MiniLM's six: the words as read in the middle, and at the end
LONGEST = 64  # tokens of a text that are read
WIDTH, HIDDEN = 96, 128
AT_ONCE = 256  # texts or pairs a pass
KEPT = 8192  # texts that stay read


class Head(nn.Module):
    """Logits (B, 3) over `agents.judge_models.nli_data.LABELS` for pairs of texts.

    The texts are token states (B, T, WIDTH) as `read` returns them, with masks (B, T).
    """

    def __init__(self, states: int) -> None:
        super().__init__()
        self.project = nn.Linear(states, WIDTH)
        self.look = nn.Linear(WIDTH, WIDTH)
        self.compare = nn.Sequential(nn.Linear(4 * WIDTH, WIDTH), nn.ReLU())
        self.decide = nn.Sequential(nn.Dropout(0.2), nn.Linear(6 * WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3))
        self.drop = nn.Dropout(0.1)

    def read(self, states: Tensor) -> Tensor:
        """The representation (..., WIDTH) of token states (..., states), computed once per text and used for all its
        pairs.
        """
        return torch.relu(self.project(self.drop(states)))

    def forward(self, a: Tensor, a_mask: Tensor, b: Tensor, b_mask: Tensor) -> Tensor:
        """Logits (B, 3) of premises `a` and hypotheses `b`."""
        scores = self.look(a) @ self.look(b).transpose(1, 2) / WIDTH**0.5  # (B, A, B')
        a_sees = scores.masked_fill(~b_mask[:, None], -1e4).softmax(2) @ b
        b_sees = scores.transpose(1, 2).masked_fill(~a_mask[:, None], -1e4).softmax(2) @ a
        first, second = self._compared(a, a_sees, a_mask), self._compared(b, b_sees, b_mask)
        u, v = mean_of(a, a_mask), mean_of(b, b_mask)
        return self.decide(torch.cat([first, second, (u - v).abs(), u * v], 1))

    def _compared(self, x: Tensor, sees: Tensor, mask: Tensor) -> Tensor:
        compared = self.compare(torch.cat([x, sees, (x - sees).abs(), x * sees], 2))
        return torch.cat([mean_of(compared, mask), compared.masked_fill(~mask[..., None], 0).amax(1)], 1)


def states(texts: Sequence[str], device: str = "cpu") -> list[Tensor]:
    """The token states (T, states) of each text, float16 on the CPU. Raises ValueError without an installed encoder."""
    from agents.judge_models.embedder import MINILM, _loaded, folder

    model, tokenizer = _loaded(folder(MINILM), device)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    by_text: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        read = tokenizer(
            [texts[place] for place in places], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.inference_mode():
            layers = model(**read.to(device), output_hidden_states=True).hidden_states
        joined = torch.cat([layers[layer] for layer in LAYERS], 2).to(torch.float16).cpu()
        for place, row, length in zip(places, joined, read["attention_mask"].sum(1).tolist(), strict=True):
            by_text[place] = row[:length].clone()
    return by_text


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The rows padded to (B, T, width), float32, and their mask (B, T)."""
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True).float(), torch.arange(int(lengths.max()))[
        None
    ] < lengths[:, None]


@lru_cache(maxsize=2)
def load_head(path: Path) -> Head:
    """The head of that file, float32 on the CPU."""
    from safetensors.torch import load_file

    weights = {name: weight.float() for name, weight in load_file(path).items()}
    head = Head(weights["project.weight"].shape[1])
    head.load_state_dict(weights)
    return head.eval().requires_grad_(False)


class EmbeddedNli:
    """`entail`, `entail_free` and `reread` of the NLI judge; what is made of recent texts is cached.

    A `head` that is given takes the place of all others.
    """

    def __init__(self, device: str = "auto", head: Head | None = None) -> None:
        from agents.models.loading import choose_device

        self.device = choose_device(device)
        self._heads = (head,) if head else (load_head(WEIGHTS), load_head(CARD_WEIGHTS))
        # text -> what each head makes of its states, and its states in the middle
        self._read: OrderedDict[str, tuple[Tensor, ...]] = OrderedDict()

    def entail(self, premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """(N, 3) probabilities of contradiction, neutral, entailment, by the head for claims of facts."""
        return self._logs(premises, hypotheses, self._heads[0], 0).exp().numpy()

    def entail_free(self, statements: Sequence[str], lines: Sequence[str]) -> np.ndarray:
        """The same for statements of any kind, by the head for these."""
        place = len(self._heads) - 1
        return self._logs(statements, lines, self._heads[place], place).exp().numpy()

    def reread(self, statements: Sequence[str], lines: Sequence[str]) -> np.ndarray:
        """The same by that head and the joint layers (`nli_joint`): the geometric mean of their probabilities."""
        place = len(self._heads) - 1
        logs = self._logs(statements, lines, self._heads[place], place) + self._logs(
            statements, lines, load_joint(), -1
        )
        return logs.div(2).log_softmax(1).exp().numpy()

    def _logs(self, first: Sequence[str], second: Sequence[str], model: nn.Module, place: int) -> Tensor:
        """Log-probabilities (N, 3) by a model that takes the cached tensor at `place`."""
        wanted = dict.fromkeys([*first, *second])
        new = [text for text in wanted if text not in self._read]
        logs = torch.zeros((len(first), 3), dtype=torch.float64)
        with torch.inference_mode():
            self._read.update(
                (text, (*(head.read(row.float()) for head in self._heads), row[:, : row.shape[1] // len(LAYERS)]))
                for text, row in zip(new, states(new, self.device), strict=True)
            )
            read = {text: self._read[text][place] for text in wanted}
            order = sorted(range(len(first)), key=lambda i: len(read[first[i]]) + len(read[second[i]]))
            for start in range(0, len(order), AT_ONCE):
                places = order[start : start + AT_ONCE]
                a, b = (padded([read[texts[i]] for i in places]) for texts in (first, second))
                logs[places] = model(*a, *b).double().log_softmax(1)
        for text in wanted:
            self._read.move_to_end(text)
        while len(self._read) > max(KEPT, len(wanted)):
            self._read.popitem(last=False)
        return logs
