"""An engine that remembers: branches of token ids over one causal LM, each token read once.

Differs from `generate`: a branch's keys and values live as long as its dialogue and are written in place; tokens of all
branches travel packed in one row, so ragged lengths cost nothing; a finished branch does no more work; the top k are
taken before the softmax; continuations are scored as a tree behind the branch, with shared prefixes read once, and leave it
unchanged.

A branch's last token is always left unread until something follows it: its logits are what comes next, whether that is a
sampled token or a scored one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from agents.attention import Look, Pass, Slab, Write
from agents.models import LoadedModel, load_adapter
from agents.protocol import EngineInfo, Sample, Sampling, Usage
from agents.tree import Tree, grow

TOKENS_A_PASS = 2048  # most tokens of one forward pass while reading
TOKENS_A_LOOK = 512  # most tokens of one branch in one pass: bounds the size of a mask
LOGITS_AT_ONCE = 512  # most positions whose logits over the vocabulary are held at once
SMALLEST_SLAB = 128
SENTENCE_ENDS = (".", "!", "?", "…", ".\"", "!\"", "?\"", "\n")


@dataclass
class Branch:
    slab: Slab
    row: int
    ids: list[int]
    adapter: str | None = None
    read: int = 0  # how many of ids are in the slab; at most len(ids) - 1 between calls


class LocalEngine:
    """`agents.protocol.Engine` over a transformers model in this process."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self._branches: dict[int, Branch] = {}
        self._names = itertools.count()
        self._usage = Usage()
        self._adapters: dict[str, str] = {}  # folder -> name inside the model
        self._sentence_end: np.ndarray | None = None

    def info(self) -> EngineInfo:
        return self.loaded.info

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [self.tokenizer.decode(list(some), skip_special_tokens=True) for some in ids]

    def usage(self) -> Usage:
        return self._usage

    def open(self, prompts: Sequence[Sequence[int]], adapter: str | None = None) -> list[int]:
        if any(not prompt for prompt in prompts):
            raise ValueError("a branch was opened with an empty prompt; expected at least one token")
        if adapter is not None:
            self._load_adapter(adapter)
        if not prompts:
            return []
        slab = Slab(len(prompts), _capacity(max(len(prompt) for prompt in prompts)))
        names = []
        for row, prompt in enumerate(prompts):
            names.append(next(self._names))
            self._branches[names[-1]] = Branch(slab, row, list(prompt), adapter)
            self._usage.tokens_new += len(prompt)
        return names

    def extend(self, branches: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        for branch, new in zip(self._get(branches), ids, strict=True):
            if len(branch.ids) + len(new) > self.loaded.info.context:
                raise ValueError(f"a branch of {len(branch.ids)} tokens cannot take {len(new)} more: {self.loaded.info.model} "
                                 f"reads at most {self.loaded.info.context}; expected fewer turns or shorter lines")
            branch.ids.extend(new)
            self._usage.tokens_new += len(new)

    def fork(self, branches: Sequence[int]) -> list[int]:
        """Copies share nothing afterwards. Costs one copy of the keys and values, and no reading."""
        sources = self._get(branches)
        slab = Slab(len(sources), _capacity(max(len(branch.ids) for branch in sources)))
        names = []
        for row, source in enumerate(sources):
            for index, (keys, values) in source.slab.layers.items():
                new_keys, new_values = slab.layer(index, keys)
                new_keys[row, :, : source.read] = keys[source.row, :, : source.read]
                new_values[row, :, : source.read] = values[source.row, :, : source.read]
            names.append(next(self._names))
            self._branches[names[-1]] = Branch(slab, row, list(source.ids), source.adapter, source.read)
        return names

    def drop(self, branches: Sequence[int]) -> None:
        for name in branches:
            self._branches.pop(name, None)

    @torch.inference_mode()
    def generate(self, branches: Sequence[int], sampling: Sequence[Sampling]) -> list[Sample]:
        samples: dict[int, Sample] = {}
        for group, same_adapter in self._by_adapter(branches):
            with same_adapter:
                self._read([branches[i] for i in group])
                with self._timed("generate"):
                    found = self._decode([self._branches[branches[i]] for i in group], [sampling[i] for i in group])
            samples.update(zip(group, found, strict=True))
        return [samples[i] for i in range(len(branches))]

    @torch.inference_mode()
    def score(self, branches: Sequence[int], continuations) -> list[list[list[float]]]:
        scores: dict[int, list[list[float]]] = {}
        for group, same_adapter in self._by_adapter(branches):
            with same_adapter:
                self._read([branches[i] for i in group])
                with self._timed("score"):
                    for i in group:
                        branch = self._branches[branches[i]]
                        trees = [grow(branch.ids[-1], portion) for portion in _portions(continuations[i])]
                        scores[i] = [found for tree in trees for found in self._score_tree(branch, tree)]
                        self._usage.tokens_new += sum(len(tree.ids) - 1 for tree in trees)
        return [scores[i] for i in range(len(branches))]

    # -- reading ---------------------------------------------------------------------------------------------------------

    def _read(self, names: Sequence[int]) -> None:
        """Bring every branch up to its last token but one."""
        with self._timed("read"):
            pieces = [(branch, start, min(start + TOKENS_A_LOOK, len(branch.ids) - 1))
                      for branch in self._get(names)
                      for start in range(branch.read, len(branch.ids) - 1, TOKENS_A_LOOK)]
            for batch in _passes(pieces):
                ids, positions, looks, writes = [], [], [], []
                for branch, start, end in batch:
                    self._room(branch, end)
                    places = torch.arange(start, end)
                    looks.append(self._look(branch, slice(len(ids), len(ids) + end - start), places, end,
                                            torch.arange(end)[None] <= places[:, None], torch.arange(end)))
                    writes.append(self._write(branch, looks[-1].tokens, places))
                    ids += branch.ids[start:end]
                    positions += range(start, end)
                self._forward(ids, positions, Pass(tuple(writes), tuple(looks)), torch.empty(0, dtype=torch.long))
                for branch, _, end in batch:
                    branch.read = end

    def _score_tree(self, branch: Branch, tree: Tree) -> list[list[float]]:
        base, n = branch.read, len(tree.ids)
        self._room(branch, base + n)
        if base + max(tree.depths) >= self.loaded.info.context:
            raise ValueError(f"a continuation ends at token {base + max(tree.depths)}, but {self.loaded.info.model} reads at most "
                             f"{self.loaded.info.context}")
        depths = torch.tensor(tree.depths)
        sees = torch.cat([torch.ones(n, base, dtype=torch.bool), torch.from_numpy(tree.ancestors)], 1)  # (n, base + n)
        kept = torch.cat([torch.arange(base), base + depths])
        look = self._look(branch, slice(0, n), base + depths, base + n, sees, kept)
        write = self._write(branch, slice(0, n), torch.arange(base, base + n))
        parents, targets = torch.tensor(tree.parents[1:]), torch.tensor(tree.ids[1:])
        scored = torch.tensor(tree.scored[1:])
        wanted, where = parents[scored].unique(return_inverse=True)
        logits = self._forward(tree.ids, (base + depths).tolist(), Pass((write,), (look,)), wanted)
        norms = torch.cat([part.float().logsumexp(-1) for part in logits.split(LOGITS_AT_ONCE)])
        where, targets = where.to(logits.device), targets[scored].to(logits.device)
        logprobs = torch.zeros(n)
        logprobs[1:][scored] = (logits[where, targets].float() - norms[where]).cpu()
        values = logprobs.tolist()
        return [[values[node] for node in path] for path in tree.paths]

    # -- decoding --------------------------------------------------------------------------------------------------------

    def _decode(self, branches: list[Branch], sampling: list[Sampling]) -> list[Sample]:
        draws = [np.random.Generator(np.random.Philox(key=s.seed)).random(s.max_tokens) for s in sampling]
        out: list[tuple[list[int], list[float]]] = [([], []) for _ in branches]
        stopped = ["length"] * len(branches)
        sentences = [0] * len(branches)
        going = [i for i, s in enumerate(sampling) if s.max_tokens > 0]
        while going:
            if full := [i for i in going if len(branches[i].ids) >= self.loaded.info.context]:
                raise ValueError(f"a branch reached {len(branches[full[0]].ids)} tokens, all that {self.loaded.info.model} reads; "
                                 "expected fewer turns or shorter lines")
            logits = self._step([branches[i] for i in going]).float().cpu()  # (B, V)
            step = len(out[going[0]][0])
            chosen, logprobs = self._choose(logits, [sampling[i] for i in going], [draws[i][step] for i in going], step == 0)
            still = []
            for i, token, logprob in zip(going, chosen, logprobs, strict=True):
                branches[i].ids.append(token)
                out[i][0].append(token)
                out[i][1].append(logprob)
                sentences[i] += bool(self._ends_sentence()[token])
                if token in self.loaded.stop_ids:
                    stopped[i] = "stop"
                elif sampling[i].sentences is not None and sentences[i] >= sampling[i].sentences:
                    stopped[i] = "sentences"
                elif step + 1 < sampling[i].max_tokens:
                    still.append(i)
            self._usage.tokens_new += len(going)
            self._usage.generated += len(going)
            going = still
        return [Sample(tuple(ids), tuple(logprobs), why) for (ids, logprobs), why in zip(out, stopped, strict=True)]

    def _step(self, branches: list[Branch]) -> torch.Tensor:
        """Read the last token of each branch; logits of what follows: (B, V)."""
        order = sorted(range(len(branches)), key=lambda i: (id(branches[i].slab), branches[i].row))
        writes, looks, token = [], [], 0
        ordered = [branches[i] for i in order]
        for branch in ordered:
            self._room(branch, branch.read + 1)
        for run in _runs(ordered):
            slab, n, lengths = run[0].slab, len(run), torch.tensor([branch.read + 1 for branch in run])
            longest, rows = int(lengths.max()), slice(run[0].row, run[0].row + n)
            tokens, kept = slice(token, token + n), torch.arange(longest)
            mask = kept[None] < lengths[:, None]
            looks.append(Look(slab, rows, tokens, longest, *(t.to(self.model.device) for t in (
                mask[:, None], lengths[:, None] - 1, kept.expand(n, -1)))))
            writes.append(Write(slab, tokens, torch.arange(rows.start, rows.stop, device=self.model.device),
                                (lengths - 1).to(self.model.device)))
            token += n
        logits = self._forward([branch.ids[-1] for branch in ordered], [branch.read for branch in ordered],
                               Pass(tuple(writes), tuple(looks)), torch.arange(token))
        for branch in ordered:
            branch.read += 1
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return logits[back]

    def _choose(self, logits: torch.Tensor, sampling: list[Sampling], draws: list[float], first: bool,
                ) -> tuple[list[int], list[float]]:
        """One token a row by inverse transform of its own draw, so that a row never depends on its neighbours."""
        norm = logits.logsumexp(-1)
        allowed = logits
        if first:  # an empty line is no line
            allowed = logits.clone()
            allowed[:, list(self.loaded.stop_ids)] = float("-inf")
        width = max(s.top_k or logits.shape[1] for s in sampling)
        values, indices = allowed.topk(min(width, logits.shape[1]))  # (B, k), falling
        ranks = torch.arange(values.shape[1])
        keep = ranks[None] < torch.tensor([s.top_k or logits.shape[1] for s in sampling])[:, None]
        warmth = torch.tensor([max(s.temperature, 1e-6) for s in sampling], dtype=torch.float64)[:, None]
        p = (values.double() / warmth).masked_fill(~keep, float("-inf")).softmax(-1)
        before = p.cumsum(-1) - p
        p = p.masked_fill(before >= torch.tensor([s.top_p for s in sampling], dtype=torch.float64)[:, None], 0.0)
        edges = p.cumsum(-1)
        picks = (edges <= torch.tensor(draws, dtype=torch.float64)[:, None] * edges[:, -1:]).sum(-1)
        picks = picks.masked_fill(torch.tensor([s.temperature == 0 for s in sampling]), 0)[:, None]
        tokens = indices.gather(1, picks)
        return tokens[:, 0].tolist(), (logits.gather(1, tokens)[:, 0] - norm).tolist()

    def _ends_sentence(self) -> np.ndarray:
        """(V,) bool: tokens that end a sentence."""
        if self._sentence_end is None:
            texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            self._sentence_end = np.array([text.rstrip(" ").endswith(SENTENCE_ENDS) for text in texts])
        return self._sentence_end

    # -- one pass --------------------------------------------------------------------------------------------------------

    def _forward(self, ids: list[int], positions: list[int], plan: Pass, wanted: torch.Tensor) -> torch.Tensor:
        """Logits (len(wanted), V) at the wanted places of the pass."""
        device = self.model.device
        self._usage.tokens_computed += len(ids)
        out = self.model(input_ids=torch.tensor([ids], device=device), position_ids=torch.tensor([positions], device=device),
                         use_cache=False, logits_to_keep=wanted.to(device), plan=plan)
        return out.logits[0]

    def _look(self, branch: Branch, tokens: slice, positions: torch.Tensor, length: int, sees: torch.Tensor,
              kept: torch.Tensor) -> Look:
        device = self.model.device
        return Look(branch.slab, slice(branch.row, branch.row + 1), tokens, length, sees[None].to(device),
                    positions[None].to(device), kept[None].to(device))

    def _write(self, branch: Branch, tokens: slice, places: torch.Tensor) -> Write:
        device = self.model.device
        return Write(branch.slab, tokens, torch.full_like(places, branch.row, device=device), places.to(device))

    def _room(self, branch: Branch, length: int) -> None:
        if length > branch.slab.capacity:
            branch.slab.grow(_capacity(length))

    def _get(self, names: Sequence[int]) -> list[Branch]:
        return [self._branches[name] for name in names]

    @contextmanager
    def _timed(self, phase: str):
        start = time.perf_counter()
        yield
        self._usage.seconds[phase] += time.perf_counter() - start

    # -- adapters --------------------------------------------------------------------------------------------------------

    def _load_adapter(self, folder: str) -> None:
        if folder not in self._adapters:
            self._adapters[folder] = f"adapter_{len(self._adapters)}"
            load_adapter(self.loaded, folder, self._adapters[folder])

    def _by_adapter(self, names: Sequence[int]) -> Iterable[tuple[list[int], object]]:
        """Indices into `names` that share an adapter, each with a context in which the model wears it."""
        groups: dict[str | None, list[int]] = {}
        for i, branch in enumerate(self._get(names)):
            groups.setdefault(branch.adapter, []).append(i)
        return [(group, self._wearing(adapter)) for adapter, group in groups.items()]

    @contextmanager
    def _wearing(self, adapter: str | None):
        if self._adapters:
            if adapter is None:
                self.model.disable_adapters()
            else:
                self.model.enable_adapters()
                self.model.set_adapter(self._adapters[adapter])
        yield


def _capacity(length: int) -> int:
    """Room for `length` tokens and a quarter more, in steps of the smallest slab."""
    return SMALLEST_SLAB * -(-length * 5 // (4 * SMALLEST_SLAB))


def _passes(pieces: list[tuple[Branch, int, int]]) -> Iterable[list[tuple[Branch, int, int]]]:
    """Pieces of branches packed into passes of at most TOKENS_A_PASS tokens, in order."""
    batch: list[tuple[Branch, int, int]] = []
    tokens = 0
    for piece in pieces:
        size = piece[2] - piece[1]
        if batch and tokens + size > TOKENS_A_PASS:
            yield batch
            batch, tokens = [], 0
        batch.append(piece)
        tokens += size
    if batch:
        yield batch


def _portions(continuations) -> Iterable[list]:
    """Continuations in lots of at most TOKENS_A_PASS tokens, so that a tree's logits fit in memory."""
    lot, tokens = [], 0
    for given, target in continuations:
        size = len(given) + len(target)
        if lot and tokens + size > TOKENS_A_PASS:
            yield lot
            lot, tokens = [], 0
        lot.append((given, target))
        tokens += size
    if lot:
        yield lot


def _runs(ordered: list[Branch]) -> Iterable[list[Branch]]:
    """Branches that lie side by side in one slab, so that their keys are one view and no copy."""
    run: list[Branch] = []
    for branch in ordered:
        if run and (branch.slab is not run[-1].slab or branch.row != run[-1].row + 1):
            yield run
            run = []
        run.append(branch)
    if run:
        yield run
