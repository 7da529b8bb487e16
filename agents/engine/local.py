"""An engine with a cache: branches of token ids over one causal LM, each token read once.

It differs from transformers' `generate` in five ways. The keys and values of a branch live as long as its dialogue and
are written in place. The tokens of all branches are packed in one row, so that unequal lengths need no padding. A
finished branch does no more work. The top k are taken before the softmax. Continuations are scored as a tree after the
branch, with common prefixes read once, and leave the branch unchanged.

The last token of a branch is left unread until something follows it: its logits give the next token, sampled or scored.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

from agents.engine import pass_plans, steering
from agents.engine.branches import Branch, Piece, capacity, lots_of_trees, passes, portions
from agents.engine.prefix_tree import Tree, grow
from agents.engine.protocol import Sample, Sampling, Steer, Usage, check_each_once
from agents.engine.sampling import Choice, choose, draws, log_norms
from agents.engine.sentences import ends_sentence, sentences_spoken
from agents.models import cpu_kernels
from agents.models.adapters import Adapters
from agents.models.attention import Pass, Slab
from agents.models.chat_template import decoded, thought_tags
from agents.models.info import EngineInfo
from agents.models.loading import LoadedModel
from agents.models.pieces import piece_encoder
from scenarios.messages import composed


class LocalEngine:
    """An `agents.engine.protocol.Engine` over a transformers model in this process."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self._branches: dict[int, Branch] = {}
        self._names = itertools.count()
        self._usage = Usage()
        self._adapters = Adapters(loaded)
        self._kernels = cpu_kernels.able(self.model.get_input_embeddings().weight)
        self._thought_tags = thought_tags(self.tokenizer)
        self._encode = piece_encoder(self.tokenizer, loaded.info.format)
        self._sentence_end: dict[int, bool] = {}  # of the tokens met so far
        self.probe: steering.Probe | None = None  # reads hidden states while lines are generated

    def info(self) -> EngineInfo:
        return self.loaded.info

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [composed(decoded(self.tokenizer, row, self._thought_tags)) for row in ids]

    def usage(self) -> Usage:
        return self._usage.plus(Usage())  # a reading, not the meter

    def open(
        self, prompts: Sequence[Sequence[int]], adapter: str | None = None, steer: Steer | None = None
    ) -> list[int]:
        if any(not prompt for prompt in prompts):
            raise ValueError("a branch was opened with an empty prompt; expected at least one token")
        self._fits((len(prompt), 0) for prompt in prompts)
        if adapter is not None:
            self._adapters.load(adapter)
        if steer is not None:
            steering.check(self.model, steer)
        if not prompts:
            return []
        slab = Slab(len(prompts), capacity(max(len(prompt) for prompt in prompts)))
        names = []
        for row, prompt in enumerate(prompts):
            names.append(next(self._names))
            self._branches[names[-1]] = Branch(slab, row, list(prompt), adapter, steer=steer)
            self._usage.tokens_new += len(prompt)
        return names

    def install(self, adapter: str, config: Mapping[str, object], weights: Mapping[str, torch.Tensor]) -> None:
        self._adapters.install(adapter, config, weights)

    def extend(self, branches: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        pairs = list(zip(self._get(branches), ids, strict=True))
        self._fits((len(branch.ids), len(new)) for branch, new in pairs)
        for branch, new in pairs:
            branch.ids.extend(new)
            self._usage.tokens_new += len(new)

    def fork(self, branches: Sequence[int]) -> list[int]:
        """Independent copies of the branches. A fork copies keys and values, and reads nothing."""
        sources = self._get(branches)
        if not sources:
            return []
        slab = Slab(len(sources), capacity(max(len(branch.ids) for branch in sources)))
        names = []
        for row, source in enumerate(sources):
            for index, (keys, values) in source.slab.layers.items():
                new_keys, new_values = slab.layer(index, keys)
                new_keys[row, :, : source.read] = keys[source.row, :, : source.read]
                new_values[row, :, : source.read] = values[source.row, :, : source.read]
            names.append(next(self._names))
            self._branches[names[-1]] = Branch(slab, row, list(source.ids), source.adapter, source.read, source.steer)
        return names

    def drop(self, branches: Sequence[int]) -> None:
        for name in branches:
            self._branches.pop(name, None)

    def watch(self, cards: Mapping[str, str], heard: Sequence[str], seed: int) -> None:
        if self.probe:
            self.probe.close()
        steering.watch(self, cards, heard, seed)

    @torch.inference_mode()
    def states(self, prompts: Sequence[Sequence[int]], starts: Sequence[int], adapter: str | None = None) -> np.ndarray:
        names = self.open([[*prompt, prompt[-1]] for prompt in prompts], adapter)  # what is last stays unread
        first = {id(branch): start for branch, start in zip(self._get(names), starts, strict=True)}
        eye = steering.Probe(self.model, range(len(steering.decoder_layers(self.model))))
        eye.kept = []

        def looking(batch: list[Piece]):
            return eye.reading(
                [
                    id(piece.branch) if place >= first[id(piece.branch)] else None
                    for piece in batch
                    for place in range(piece.start, piece.end)
                ]
            )

        try:
            with self._adapters.wearing(adapter):
                self._read(names, looking)
            for branch in first:
                eye.finish(branch)
        finally:
            eye.close()
            self.drop(names)
        return np.stack(eye.kept) if names else np.zeros((0, len(eye.layers), steering.width(self.model)), np.float32)

    @torch.inference_mode()
    def generate(self, branches: Sequence[int], sampling: Sequence[Sampling]) -> list[Sample]:
        check_each_once(branches)
        self._fits(
            (len(branch.ids), min(settings.max_tokens, 1))
            for branch, settings in zip(self._get(branches), sampling, strict=True)
        )
        samples: dict[int, Sample] = {}
        for group, same in self._alike(branches):
            with same:
                self._read([branches[i] for i in group])
                with self._timed("generate"):
                    group_samples = self._decode(
                        [self._branches[branches[i]] for i in group], [sampling[i] for i in group]
                    )
            samples.update(zip(group, group_samples, strict=True))
        return [samples[i] for i in range(len(branches))]

    @torch.inference_mode()
    def score(self, branches: Sequence[int], continuations) -> list[list[list[float]]]:
        self._fits(
            (len(branch.ids), len(given) + len(target))
            for branch, wanted in zip(self._get(branches), continuations, strict=True)
            for given, target in wanted
        )
        scores: dict[int, list[list[float]]] = {}
        for group, same in self._alike(branches):
            with same:
                self._read([branches[i] for i in group])
                with self._timed("score"):
                    trees = [
                        (i, grow(self._branches[branches[i]].ids[-1], wanted))
                        for i in group
                        for wanted in portions(continuations[i])
                    ]
                    for lot in lots_of_trees(trees, lambda numbered: branches[numbered[0]]):
                        lot_scores = self._score_trees([(self._branches[branches[i]], tree) for i, tree in lot])
                        for (i, tree), by_path in zip(lot, lot_scores, strict=True):
                            scores.setdefault(i, []).extend(by_path)
                            self._usage.tokens_new += len(tree.ids) - 1
        return [scores.get(i, []) for i in range(len(branches))]

    # -- reading

    def _read(
        self,
        names: Sequence[int],
        looking: Callable[[list[Piece]], AbstractContextManager] = lambda batch: nullcontext(),
    ) -> None:
        """Reads every branch up to its last token but one; `looking` gives a context for each pass."""
        with self._timed("read"):
            for batch in passes(self._get(names)):
                for piece in batch:
                    self._room(piece.branch, piece.end)
                with looking(batch):
                    self._forward(
                        [token for piece in batch for token in piece.branch.ids[piece.start : piece.end]],
                        [place for piece in batch for place in range(piece.start, piece.end)],
                        pass_plans.reading(batch, self.model.device),
                        torch.empty(0, dtype=torch.long),
                    )
                for piece in batch:
                    piece.branch.read = piece.end

    def _score_trees(self, trees: list[tuple[Branch, Tree]]) -> list[list[list[float]]]:
        """The log-probability of each target token in nats, by tree and continuation, in one pass."""
        for branch, tree in trees:
            self._room(branch, branch.read + len(tree.ids))
        starts = np.cumsum([0, *(len(tree.ids) for _, tree in trees)])
        ids = torch.tensor([token for _, tree in trees for token in tree.ids])
        parents = torch.cat(
            [start + torch.tensor(tree.parents) for start, (_, tree) in zip(starts, trees, strict=False)]
        )
        scored = torch.tensor([row for _, tree in trees for row in tree.scored])
        wanted, where = parents[scored].unique(return_inverse=True)
        logits = self._forward(
            ids.tolist(),
            [branch.read + depth for branch, tree in trees for depth in tree.depths],
            pass_plans.scoring(trees, self.model.device),
            wanted,
        )
        logprobs = torch.zeros(len(ids))
        logprobs[scored] = (
            logits[where.to(logits.device), ids[scored].to(logits.device)].float().cpu() - log_norms(logits)[where]
        )
        values = logprobs.tolist()
        return [
            [[values[start + node] for node in path] for path in tree.paths]
            for start, (_, tree) in zip(starts, trees, strict=False)
        ]

    # -- decoding

    def _decode(self, branches: list[Branch], sampling: list[Sampling]) -> list[Sample]:
        drawn = [draws(settings) for settings in sampling]
        out: list[list[Choice]] = [[] for _ in branches]
        stopped = ["length"] * len(branches)
        sentences = [0] * len(branches)
        going = [i for i, settings in enumerate(sampling) if settings.max_tokens > 0]
        for step in itertools.count():
            if not going:
                break
            logits = self._step([branches[i] for i in going])  # (B, V)
            chosen = choose(
                logits, [sampling[i] for i in going], [drawn[i][step] for i in going], self.loaded.stop_ids, step
            )
            still = []
            for i, choice in zip(going, chosen, strict=True):
                token = choice.token
                branches[i].ids.append(token)
                out[i].append(choice)
                limit = sampling[i].sentences
                sentences[i] += limit is not None and self._ends_sentence(token)
                if token in self.loaded.stop_ids:
                    stopped[i] = "stop"
                elif (
                    limit is not None
                    and sentences[i] >= limit
                    and (self._sentences(out[i], sentences[i], sampling[i].thinking) >= limit)
                ):
                    stopped[i] = "sentences"
                elif step + 1 < sampling[i].max_tokens and len(branches[i].ids) < self.loaded.info.context:
                    still.append(i)
            self._usage.tokens_new += len(going)
            self._usage.generated += len(going)
            going = still
        watched = [self.probe.finish(id(branch)) if self.probe else {} for branch in branches]
        return [
            Sample(
                tuple(c.token for c in chosen),
                tuple(c.logprob for c in chosen),
                why,
                projections=seen,
                drawn=tuple(c.drawn for c in chosen),
            )
            for chosen, why, seen in zip(out, stopped, watched, strict=True)
        ]

    def _step(self, branches: list[Branch]) -> torch.Tensor:
        """Reads the last token of each branch and returns the logits of the next one, (B, V)."""
        order = sorted(range(len(branches)), key=lambda i: (id(branches[i].slab), branches[i].row))
        ordered = [branches[i] for i in order]
        for branch in ordered:
            self._room(branch, branch.read + 1)
        with self.probe.reading([id(branch) for branch in ordered]) if self.probe else nullcontext():
            logits = self._forward(
                [branch.ids[-1] for branch in ordered],
                [branch.read for branch in ordered],
                pass_plans.decoding(ordered, gaps=self._kernels),
                torch.arange(len(ordered)),
            )
        for branch in ordered:
            branch.read += 1
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return logits[back]

    def _sentences(self, chosen: Sequence[Choice], counted: int, thinking: bool) -> int:
        """The sentences that the line has spoken: `counted`, or those behind its thought."""
        [text] = self.decode([[choice.token for choice in chosen]])
        return sentences_spoken(text, thinking, counted)

    def _ends_sentence(self, token: int) -> bool:
        if token not in self._sentence_end:
            self._sentence_end[token] = ends_sentence(self.tokenizer.decode([token]))
        return self._sentence_end[token]

    # -- one pass

    def _forward(self, ids: list[int], positions: list[int], plan: Pass, wanted: torch.Tensor) -> torch.Tensor:
        """The logits (len(wanted), V) at the wanted positions of the pass."""
        device = self.model.device
        self._usage.tokens_computed += len(ids)
        out = self._adapters.model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=wanted.to(device),
            plan=plan,
        )
        return out.logits[0]

    def _room(self, branch: Branch, length: int) -> None:
        if length > branch.slab.capacity:
            branch.slab.grow(capacity(length))

    def _fits(self, lengths: Iterable[tuple[int, int]]) -> None:
        """Raises ValueError, before anything has changed, where a branch would exceed the model's context."""
        for length, more in lengths:
            if length + more > self.loaded.info.context:
                raise ValueError(
                    f"a branch of {length} tokens cannot take {more} more: {self.loaded.info.model} reads at most "
                    f"{self.loaded.info.context}; expected fewer turns or shorter lines"
                )

    def _get(self, names: Sequence[int]) -> list[Branch]:
        return [self._branches[name] for name in names]

    @contextmanager
    def _timed(self, phase: str):
        """A context that counts the seconds of a phase. Raises ValueError where the device runs out of memory in it."""
        start = time.perf_counter()
        try:
            yield
        except torch.OutOfMemoryError:
            raise ValueError(
                f"no memory is left on {self.model.device} for {self.loaded.info.model} with {len(self._branches)} "
                "dialogue views open; expected a lower concurrency, or shorter dialogues"
            ) from None
        self._usage.seconds[phase] += time.perf_counter() - start

    def _alike(self, names: Sequence[int]) -> Iterable[tuple[list[int], AbstractContextManager]]:
        """Indices into `names` with the same adapter and steering, each with a context in which the model has both."""
        groups: dict[tuple[str | None, Steer | None], list[int]] = {}
        for i, branch in enumerate(self._get(names)):
            groups.setdefault((branch.adapter, branch.steer), []).append(i)
        return [(group, self._under(*same)) for same, group in groups.items()]

    @contextmanager
    def _under(self, adapter: str | None, steer: Steer | None) -> Iterator[None]:
        with self._adapters.wearing(adapter), steering.steered(self.model, steer):
            yield
