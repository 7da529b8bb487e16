"""The trained model: from views to gradients, steps and an adapter.

One view is one forward and backward pass, with all its lines together (`agents.learning.views`); gradients accumulate
over the batch before the optimiser steps. It differs from the textbook in one way: losses are already divided by the
counts of the whole batch, so that views can be spread over workers (torch.distributed), whose gradients are summed and
not averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from agents.learning.distributed import summed
from agents.learning.views import Row, View, padded, row, visible
from agents.models import adapter_files
from scenarios.jobs.training_keys import Tuning
from scenarios.messages import first_line, reason
from scenarios.records import derive_seed

STATE = "learner.safetensors"
Loss = Callable[["Read"], Tensor]  # what one view costs: a scalar, or (N,) a line


@dataclass(frozen=True)
class Read:
    """The model's outputs for the lines of a view, under the learner's temperature and top_k; tensors padded to (N,
    T).
    """

    logps: Tensor  # of each token, in nats
    mask: Tensor
    entropy: Tensor  # of each token's distribution, in nats; no gradient
    values: Tensor  # (N,) of the place before each line, where there is a value head; else zeros


@dataclass(frozen=True)
class Step:
    """The figures of an update."""

    loss: float
    grad_norm: float  # before clipping
    learning_rate: float


class Learner:
    """A model with its optimiser and, for PPO, its value head."""

    def __init__(
        self,
        name: str,
        tuning: Tuning,
        *,
        max_steps: int = 100,
        temperature: float = 1.0,
        top_k: int = 0,
        min_tokens: int = 0,
        dtype: str = "auto",
        device: str = "auto",
        seed: int = 0,
        value_head: bool = False,
    ) -> None:
        """`max_steps` is the number of updates over which the learning rate falls. `temperature`, `top_k` (0: all
        tokens) and `min_tokens` (tokens before a stop token is allowed) describe how lines were sampled; likelihoods,
        entropy and divergence are of that distribution. Raises ValueError where the model is not available or its
        adapter does not fit.
        """
        from agents.models import loading

        self.tuning, self.temperature, self.top_k, self.min_tokens, self.seed = (
            tuning,
            temperature,
            top_k,
            min_tokens,
            seed,
        )
        self.loaded = loading.load(name, dtype, device, packed=False)
        # eager: softcapped scores
        self.loaded.model.set_attn_implementation("sdpa" if self.loaded.model._supports_sdpa else "eager")
        self.device = self.loaded.model.device
        torch.manual_seed(seed)
        self.model = _trainable(self.loaded.model, tuning, name)
        self.model.train()
        self.untouched = _copy(self.loaded.model) if tuning.full else None
        width = self.loaded.model.get_output_embeddings().weight.shape[1]
        self.head = nn.Linear(width, 1, device=self.device) if value_head else None
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad] + list(
            self.head.parameters() if self.head else ()
        )
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            tuning.learning_rate,
            (tuning.adam_beta1, tuning.adam_beta2),
            weight_decay=tuning.weight_decay,
        )
        self.scheduler = _scheduler(self.optimizer, tuning, max_steps)
        self._hidden = torch.empty(0)  # (T, d) of the last pass, where there is a value head
        self.loaded.model.get_output_embeddings().register_forward_pre_hook(self._keep_hidden)

    @torch.no_grad()
    def read(self, views: Sequence[View], untouched: bool = False) -> list[Read]:
        """The outputs for each view without gradients and dropout.

        They are those of the current model or, with `untouched`, of the model before training.
        """
        self.model.eval()
        try:
            with self._untouched() if untouched else nullcontext():
                return [
                    self._read(row(view), self.untouched if untouched and self.untouched is not None else None)
                    for view in views
                ]
        finally:
            self.model.train()

    def update(self, parts: Sequence[tuple[View, Loss]]) -> Step:
        """One step on the sum of the parts' losses over all workers.

        Raises ValueError for a loss or gradient that is not finite; the model is then unchanged.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for view, loss in parts:
            # the same on whichever worker
            torch.manual_seed(derive_seed(self.seed, "dropout", self.steps, view.conversation))
            cost = loss(self._read(row(view))).sum()
            cost.backward()
            total += float(cost.detach())
        norm = self._gather()
        total = summed(total, self.device)
        if not math.isfinite(total) or not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise ValueError(
                f"the loss is {total} and its gradient's norm {norm}; expected finite numbers: a smaller "
                "learning_rate, or rewards within bounds"
            )
        nn.utils.clip_grad_norm_(self.parameters, self.tuning.max_grad_norm)
        rate = float(self.scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.scheduler.step()
        return Step(total, norm, rate)

    # -- what leaves it

    def adapter(self) -> tuple[dict, dict[str, Tensor]]:
        """The adapter's PEFT config as a dict, and its weights on the CPU by PEFT's names.

        Where all weights are trained, they are {} and all weights.
        """
        from peft import get_peft_model_state_dict

        if self.tuning.full:
            return {}, {name: value.detach().cpu().clone() for name, value in self.model.named_parameters()}
        weights = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        weights = {name: value.detach().float().cpu().contiguous() for name, value in weights.items()}
        return self.model.peft_config["default"].to_dict(), weights

    def save(self, folder: Path, state: bool = True) -> None:
        """Writes a PEFT folder, or a transformers folder where all weights are trained.

        With `state`, it also holds what a resumed training needs, as safetensors. Raises OSError and SafetensorError.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if self.tuning.full:
            self.model.save_pretrained(folder)
            self.loaded.tokenizer.save_pretrained(folder)
        else:
            self.model.save_pretrained(folder, save_embedding_layers=False)
        if state:
            save_file(self._state(), folder / f"{STATE}.part")
            (folder / f"{STATE}.part").replace(folder / STATE)  # last and whole: a folder with it can be gone on from

    def restore(self, folder: Path) -> None:
        """Restores the state that `save` wrote to the folder.

        Raises ValueError, with nothing changed, where the folder is from another model or has no state.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            kept = load_file(folder / STATE)
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"no training can be taken up from {folder} ({reason(error)}); expected a folder with {STATE}"
            ) from error
        own = self._state()
        if {name: tensor.shape for name, tensor in kept.items()} != {
            name: tensor.shape for name, tensor in own.items()
        }:
            raise ValueError(f"{folder} was saved by a training of other weights; expected the same model and tuning")
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters):
                parameter.copy_(kept[f"parameter.{number}"])
        self.optimizer.state.clear()
        steps = int(kept["steps"])
        for number, parameter in enumerate(self.parameters) if steps else ():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(steps)),
                **{key: kept[f"{key}.{number}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
            }
        self.scheduler.last_epoch = steps - 1
        self.scheduler.step()

    def close(self) -> None:
        """Does nothing: the learner ends with its process (see `lab.training.workers.Learners.close`)."""

    @property
    def steps(self) -> int:
        """The number of updates so far."""
        return self.scheduler.last_epoch

    @property
    def dtype(self) -> str:
        """The name of the torch dtype in which the model computes."""
        return str(self.loaded.model.dtype).removeprefix("torch.")

    def _state(self) -> dict[str, Tensor]:
        """Weights in full precision, the optimiser's moments and the number of steps."""
        tensors = {"steps": torch.tensor(self.steps)}
        for number, parameter in enumerate(self.parameters):
            moments = self.optimizer.state.get(parameter, {})
            tensors[f"parameter.{number}"] = parameter.detach().cpu().contiguous().clone()
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"{key}.{number}"] = (
                    moments[key].cpu().contiguous() if key in moments else torch.zeros_like(parameter, device="cpu")
                )
        return tensors

    # -- reading

    def _read(self, packed: Row, model: nn.Module | None = None) -> Read:
        reader = self.model if model is None else model
        sources, targets = torch.cat(packed.sources), torch.cat(packed.targets)
        kept, where = sources.unique(return_inverse=True)
        out = reader(
            input_ids=packed.ids[None].to(self.device),
            position_ids=packed.positions[None].to(self.device),
            attention_mask=self._mask(packed),
            use_cache=False,
            logits_to_keep=kept.to(self.device),
        )
        logits, where = out.logits[0].float() / self.temperature, where.to(self.device)  # (K, V)
        lengths = torch.tensor([len(line_targets) for line_targets in packed.targets], device=self.device)
        starts = lengths.cumsum(0) - lengths
        stops = torch.tensor(sorted(self.loaded.stop_ids), device=self.device)
        for place in range(self.min_tokens):
            logits[where[starts[lengths > place] + place][:, None], stops] = float("-inf")
        among = logits.topk(self.top_k).values if 0 < self.top_k < logits.shape[1] else logits
        norms = among.logsumexp(-1)
        said = logits[where, packed.ids[targets].to(self.device)]
        fell = said < among.min(-1).values[where]  # no longer among the likeliest: it is added to them
        logps = said - torch.where(fell, torch.logaddexp(norms[where], said), norms[where])
        with torch.no_grad():
            entropy = (norms - (among.softmax(-1) * among.masked_fill(among.isinf(), 0.0)).sum(-1))[where]
        padded_logps, mask = padded(logps.split(lengths.tolist()))
        values = (
            self.head(self._hidden[where[starts]].float())[:, 0]
            if self.head is not None
            else torch.zeros_like(logps[starts])
        )
        return Read(padded_logps, mask, padded(entropy.split(lengths.tolist()))[0], values)

    def _mask(self, packed: Row) -> Tensor | dict[str, Tensor]:
        """What each layer's tokens see, added to attention scores: (1, 1, T, T)."""
        config, dtype = self.loaded.model.config, self.loaded.model.dtype

        def added(window: int | None) -> Tensor:
            hidden = torch.zeros(1, 1, len(packed.ids), len(packed.ids), dtype=dtype)
            return hidden.masked_fill_(~visible(packed, window), torch.finfo(dtype).min).to(self.device)

        kinds = getattr(config, "layer_types", None)
        if not kinds:  # all layers alike
            return added(getattr(config, "sliding_window", None))
        if set(kinds) == {"full_attention"}:
            return added(None)
        return {"full_attention": added(None), "sliding_attention": added(config.sliding_window)}

    def _keep_hidden(self, module: nn.Module, inputs: tuple) -> None:
        if self.head is not None:
            self._hidden = inputs[0][0].detach()

    @contextmanager
    def _untouched(self):
        if self.tuning.full:
            yield
        else:
            with self.model.disable_adapter():
                yield

    def _gather(self) -> float:
        """Sums the gradients of all workers; their norm."""
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if dist.is_initialized():
            for sent in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
                sent.wait()  # pyright: ignore[reportOptionalMemberAccess]  # None only outside the group
        return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def _trainable(model: Any, tuning: Tuning, name: str) -> Any:
    for module in model.modules():
        if isinstance(module, nn.Dropout):  # the base's own: lines were sampled without it
            module.p = 0.0
    if tuning.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if tuning.full:
        return model.float().requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    model.name_or_path = model.config.name_or_path = (
        name  # what PEFT writes down as the base, in place of a local folder
    )
    if tuning.adapter:
        return adapter_files.put_on(model, *adapter_files.read(model, tuning.adapter, name), trainable=True)
    config = LoraConfig(
        r=tuning.r,
        lora_alpha=tuning.lora_alpha,  # pyright: ignore[reportArgumentType]  # PEFT only divides it by r
        lora_dropout=tuning.lora_dropout,
        target_modules=tuning.target_modules,
        layers_to_transform=adapter_files.upper_layers(model.config, tuning.train_from_depth),
        base_model_name_or_path=name,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _copy(model: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(model).eval().requires_grad_(False)


def _scheduler(optimizer: torch.optim.Optimizer, tuning: Tuning, steps: int):
    from transformers import get_scheduler

    try:
        scheduler = get_scheduler(tuning.lr_scheduler_type, optimizer, tuning.warmup_steps, steps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"lr_scheduler_type {tuning.lr_scheduler_type!r}: {first_line(error)}") from None
    if not hasattr(scheduler, "lr_lambdas"):
        raise ValueError(
            f"lr_scheduler_type {tuning.lr_scheduler_type!r} waits for measurements; expected a rate that follows from "
            "the step alone"
        )
    return scheduler
