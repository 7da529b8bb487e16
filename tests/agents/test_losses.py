"""Losses by hand arithmetic, and against TRL's own trainers on the same batch."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import get_args

import learners
import pytest
import tiny
import torch
from torch import tensor

from agents.learning import losses, offline, online, preference
from agents.learning.views import View, with_lines
from scenarios.jobs.training_keys import Tuning

pytestmark = pytest.mark.usefixtures("one_thread")
MASK = tensor([[1.0, 1.0], [1.0, 0.0]])
LOGPS = tensor([[0.5, 0.25], [0.1, 1.0]]).log()  # the last is behind its line's end
GOOD_BAD = tensor([True, False])
BETA = 0.3
CLOSE = 1e-5


def near(actual, wanted, within: float = 1e-6) -> bool:
    return torch.as_tensor(actual).flatten().tolist() == pytest.approx(
        torch.as_tensor(wanted).flatten().tolist(), abs=within
    )


# -- by hand


def test_supervised_is_cross_entropy_over_the_tokens_of_the_batch():
    assert near(losses.supervised(LOGPS, MASK, 3), [log(2 * 4) / 3, log(10) / 3])


def test_unlikelihood_punishes_each_token_of_a_bad_line_by_its_probability():
    both_bad = losses.unlikelihood(LOGPS, MASK, tensor([False, False]), 3, alpha=2.0)
    assert near(both_bad, [-2 * (log(0.5) + log(0.75)) / 3, -2 * log(0.9) / 3])
    assert near(losses.unlikelihood(LOGPS, MASK, GOOD_BAD, 3), [log(8) / 3, -log(0.9) / 3])


def test_unlikelihood_of_a_certain_token_is_finite_and_so_is_its_gradient():
    certain = tensor([[0.0]], requires_grad=True)
    loss = losses.unlikelihood(certain, torch.ones(1, 1), tensor([False]), 1)
    loss.sum().backward()
    assert loss.isfinite().all() and certain.grad.isfinite().all()


def test_gold_weighs_each_token_by_its_probability_as_a_constant():
    logps = LOGPS.clone().requires_grad_()
    loss = losses.gold(logps, MASK, tensor([1.0, -1.0]), 3)
    assert near(loss, [-(0.5 * log(0.5) + 0.25 * log(0.25)) / 3, 0.1 * log(0.1) / 3])
    loss.sum().backward()
    assert near(logps.grad, [[-0.5 / 3, -0.25 / 3], [0.1 / 3, 0]])


def test_varmi_learns_good_lines_as_supervised_tuning_does_and_weighs_bad_ones_only():
    assert near(losses.varmi(LOGPS, MASK, tensor([1.0, -1.0]), 3), [log(8) / 3, 0.1 * log(0.1) / 3])


def test_dpo_is_the_log_sigmoid_of_how_far_the_margin_grew():
    per_pair = losses.dpo(tensor([-1.0, -3.0]), tensor([-2.0, -3.0]), tensor([-1.5, -1.0]), tensor([-1.5, -2.0]), 0.5)
    assert near(per_pair, [log(1 + exp(-0.5)) / 2, log(1 + exp(0.5)) / 2])  # margins grew by 1 and by -1


def test_kto_is_one_minus_the_sigmoid_of_the_gain_over_the_divergence():
    per_line = losses.kto(tensor([1.0, 1.0]), GOOD_BAD, tensor(0.2), 0.5, desirable=2.0, undesirable=3.0, lines=4)
    assert near(per_line, [2 * (1 - 1 / (1 + exp(-0.4))) / 4, 3 * (1 - 1 / (1 + exp(0.4))) / 4])
    assert near(losses.kto_kl(tensor([-1.0, -2.0]), tensor([-2.0, -2.0])), 0.5)
    assert near(losses.kto_kl(tensor([-3.0]), tensor([-2.0])), 0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.5, 2.0, -1.3 * 2, False),
        (1.5, -2.0, 3.0, True),
        (0.5, 2.0, -1.0, True),
        (0.5, -2.0, 0.8 * 2, False),
        (1.0, 2.0, -2.0, True),
    ],
)
def test_clipping_takes_the_worse_of_two_and_stops_there(ratio, advantage, loss, moves):
    logps = tensor([[log(ratio) - 1, 5.0]], requires_grad=True)
    per_token = losses.clipped(logps, tensor([[-1.0, 0.0]]), tensor([[1.0, 0.0]]), tensor([advantage]), 0.2, 0.3)
    assert near(per_token[0, 0], loss)
    per_token[0, 0].backward()
    assert near(logps.grad, [[-ratio * advantage if moves else 0, 0]])


def test_the_divergence_estimate_averages_to_the_kl_and_its_gradient_to_the_kls():
    old, ref = tensor([0.5, 0.3, 0.2]), tensor([0.2, 0.2, 0.6])
    logits = old.log().requires_grad_()
    estimates = losses.divergence(logits.log_softmax(0)[None], old.log()[None], ref.log()[None], torch.ones(1, 3))[0]
    policy = logits.softmax(0)
    exact = (policy * (policy.log() - ref.log())).sum()
    assert (estimates >= 0).all() and near(exact.detach(), 0.5 * log(2.5) + 0.3 * log(1.5) + 0.2 * log(1 / 3))
    assert near((old * estimates).sum().detach(), exact.detach())
    assert near(
        *(torch.autograd.grad(average, logits, retain_graph=True)[0] for average in ((old * estimates).sum(), exact))
    )
    assert near(losses.divergence(LOGPS, LOGPS, LOGPS - 1, MASK), [[1 / exp(1), 1 / exp(1)], [1 / exp(1), 0]])


def test_three_ways_to_average_lines_of_two_and_one_tokens():
    per_token = tensor([[1.0, 3.0], [5.0, 100.0]])
    assert near(losses.averaged(per_token, MASK, "grpo", 2, 3, 2), [(1 + 3) / 2 / 2, 5 / 2])
    assert near(losses.averaged(per_token, MASK, "dapo", 2, 3, 2), [4 / 3, 5 / 3])
    assert near(losses.averaged(per_token, MASK, "dr_grpo", 2, 3, 7), [4 / 14, 5 / 14])


def test_the_value_loss_takes_the_worse_of_the_value_and_the_clipped_one():
    per_line = losses.value(tensor([0.5, 0.1]), tensor([0.0, 0.0]), tensor([1.0, 1.0]), 0.2)
    assert near(per_line, [max(0.5**2, 0.8**2) / 2 / 2, 0.9**2 / 2 / 2])


def test_discounted_returns_and_generalised_advantages():
    assert losses.discounted([1, 2, 4], 0.5) == [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4]
    assert losses.discounted([], 0.5) == []
    later = 2 - 0.25
    assert losses.generalised([1, 2], [0.5, 0.25], 0.5, 0.5) == [1 + 0.5 * 0.25 - 0.5 + 0.25 * later, later]
    full = losses.generalised([1, 2, 4], [0.5, 0.25, 3], 0.5, 1.0)
    assert full == pytest.approx(
        [g - v for g, v in zip(losses.discounted([1, 2, 4], 0.5), [0.5, 0.25, 3], strict=True)]
    )


def test_relative_rewards_are_centred_scaled_and_none_where_all_are_equal():
    assert near(losses.relative(tensor([1.0, 2.0, 6.0]), False), [-2, -1, 3])
    assert near(losses.relative(tensor([1.0, 2.0, 3.0]), True), [-1 / 1.0001, 0, 1 / 1.0001])
    assert losses.relative(tensor([0.7, 0.7]), True) is None and losses.relative(tensor([0.7]), False) is None


# -- batches


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return learners.saved(tiny.llama(), tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture
def learner(name):
    """An adapter that is not the untouched model, and gradients as they are."""
    return learners.learner(name, max_grad_norm=1e9)


def totals(learner, view: View) -> list[float]:
    """Log-likelihood of each line, by plain forward passes."""
    return [
        sum(tiny.target_logprobs(learner.model, [*view.ids[: line.start], *line.given], list(line.ids)))
        for line in view.lines
    ]


def test_sft_of_views_is_the_mean_cross_entropy_of_their_good_lines(learner):
    views = [
        learners.view(4, 6, rewards=(1, -1, 0.2, None, 0, 1)),
        learners.view(3, conversation=1, rewards=(-1, 0, None, -0.5)),
    ]
    good = with_lines(views[0], lambda line: line.reward in (1, 0.2))
    wanted = -sum(totals(learner, good)) / (4 + 6 + 4)  # two lines on the trunk and the second answer
    loss, _ = learners.gradient(learner, offline.parts(views, "sft"))
    assert near(loss, wanted, CLOSE)


@pytest.mark.parametrize(
    ("method", "desirable", "undesirable"),
    [("unlikelihood", 1, 1), ("gold", 1, 1), ("varmi", 1, 1), ("gold", 5, 2), ("varmi", 5, 2)],
)
def test_offline_methods_read_good_and_bad_lines_and_no_others(learner, method, desirable, undesirable):
    view = learners.view(4, 6, rewards=(1, -1, 0.2, None, 0, -2))
    by_line = [
        tiny.target_logprobs(learner.model, [*view.ids[: line.start], *line.given], list(line.ids))
        for line in view.lines
        if line.reward
    ]
    good = [True, False, True, False]
    each = {
        "unlikelihood": lambda p, good: -log(p) if good else -log(1 - p),
        "gold": lambda p, good: (-desirable if good else undesirable) * p * log(p),
        "varmi": lambda p, good: -desirable * log(p) if good else undesirable * p * log(p),
    }[method]
    wanted = sum(
        each(exp(logp), sign) for line_logps, sign in zip(by_line, good, strict=True) for logp in line_logps
    ) / (4 + 5 + 6 + 4)
    loss, _ = learners.gradient(learner, offline.parts([view], method, desirable=desirable, undesirable=undesirable))
    assert near(loss, wanted, CLOSE)


def test_a_pair_is_the_best_and_the_worst_line_of_a_place_where_they_differ(learner):
    view = learners.view(4, 5, takes=3, rewards=(0, 1, -1, 0.5, 0.5, None, None, 1, None))
    [(paired, _)] = preference.parts_dpo(learner, [view, learners.view(4, conversation=1)], beta=BETA)
    assert paired.lines == (view.lines[1], view.lines[2])


def test_mismatched_lines_stand_where_the_views_own_do():
    view, other = learners.view(4, 6), learners.view(3, conversation=1)
    mixed = preference.mismatched(view, other)
    assert [(line.start, line.given, line.on_trunk) for line in mixed.lines] == [
        (line.start, line.given, False) for line in view.lines
    ]
    assert [line.ids for line in mixed.lines] == [other.lines[place].ids for place in (0, 1, 2, 3, 0, 1)]


def test_places_without_two_different_rewards_are_skipped_and_counted():
    views = [learners.view(4, 5, rewards=(1, 0, 0.5, 0.5, None, 1)), learners.view(4, conversation=1)]
    kept, advantages, skipped = online.by_place(views, Tuning(scale_rewards=False))
    assert [view.lines for view in kept] == [views[0].lines[:2]] and advantages == [[0.5, -0.5]] and skipped == 4


# -- against TRL


@pytest.fixture
def trl(monkeypatch, tmp_path):
    """A trainer of TRL's for a batch of rows, on the learner's weights: `trl(kind, learner, rows, **settings)`."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def make(kind: str, learner, rows: list[dict], **settings):
        import trl
        from datasets import Dataset
        from peft import LoraConfig, set_peft_model_state_dict

        config, tensors = learner.adapter()
        rest = {name: settings.pop(name) for name in ("reward_funcs", "rollout_func") if name in settings}
        args = getattr(trl, f"{kind}Config")(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
            per_device_train_batch_size=len(rows),
            beta=BETA,
            **settings,
        )
        trainer = getattr(trl, f"{kind}Trainer")(
            model=tiny.plain(tiny.llama()),
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=learners.tokenizer(),
            peft_config=LoraConfig(**{key: config[key] for key in ("r", "lora_alpha", "target_modules", "task_type")}),
            **rest,
        )
        set_peft_model_state_dict(trainer.model, tensors)
        return trainer

    return make


def trl_loss_and_gradient(trainer, inputs) -> tuple[float, torch.Tensor]:
    """The loss by TRL's own computation, and its gradient."""
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])


def prompt(view: View, line) -> str:
    return learners.text([*view.ids[: line.start], *line.given])


def equal(actual: tuple[float, torch.Tensor], wanted: tuple[float, torch.Tensor]) -> bool:
    """Losses within 1e-5, gradients within 1e-5 of their size."""
    return (
        near(actual[0], wanted[0], CLOSE)
        and float((actual[1] - wanted[1]).norm() / wanted[1].norm()) < CLOSE
        and wanted[1].norm() > 1e-3
    )


def test_dpo_equals_trls_on_the_same_pairs(learner, trl):
    views = [
        learners.view(4, 6, rewards=(1, -1, -1, 1, 0, 1)),
        learners.view(3, conversation=1, rewards=(-1, 0, None, -0.5)),
    ]
    pairs = [(views[0], 0, 1), (views[0], 3, 2), (views[0], 5, 4), (views[1], 1, 0)]  # chosen, rejected
    rows = [
        {
            "prompt": prompt(view, view.lines[best]),
            "chosen": learners.text(view.lines[best].ids),
            "rejected": learners.text(view.lines[worst].ids),
        }
        for view, best, worst in pairs
    ]
    trainer = trl("DPO", learner, rows)
    data = list(trainer.train_dataset)
    assert [row["rejected_ids"] for row in data] == [list(view.lines[worst].ids) for view, _, worst in pairs]
    assert equal(
        learners.gradient(learner, preference.parts_dpo(learner, views, beta=BETA)),
        trl_loss_and_gradient(trainer, trainer.data_collator(data)),
    )


def test_kto_equals_trls_on_the_same_lines_with_its_own_mismatched_ones(learner, trl):
    wanted = [(0, 1.0), (1, -1.0), (2, -0.5), (5, 1.0)]  # on the trunk, beside it, on it again, in answer to a question
    views = [learners.view(4, 6, conversation=5 + number) for number in range(4)]
    views = [
        replace(view, lines=(replace(view.lines[place], reward=reward),))
        for view, (place, reward) in zip(views, wanted, strict=True)
    ]
    rows = [
        {"prompt": prompt(view, line), "completion": learners.text(line.ids), "label": line.reward > 0}
        for view in views
        for line in view.lines
    ]
    trainer = trl("KTO", learner, rows, desirable_weight=1.5, undesirable_weight=0.7)
    inputs = trainer.data_collator(list(trainer.train_dataset))
    ours = learners.gradient(learner, preference.parts_kto(learner, views, beta=BETA, desirable=1.5, undesirable=0.7))
    assert equal(ours, trl_loss_and_gradient(trainer, inputs))
    assert trainer._metrics["train"]["kl"][0] > 0.1  # not the floor at 0


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("kind", get_args(Tuning.model_fields["loss_type"].annotation))
def test_grpo_equals_trls_on_the_same_groups(learner, trl, kind, scale):
    rewards = iter(tiny.prompts(15, seed=9)[0])
    views = [
        learners.view(
            *lengths, conversation=number, takes=3, rewards=[next(rewards) / 100 for _ in range(3 * len(lengths) + 3)]
        )
        for number, lengths in enumerate([(4, 6), (3,)])
    ]
    views = [sampled_elsewhere(learner, view) for view in views]
    flat = [(view, line) for view in views for line in view.lines]
    rows = [{"prompt": prompt(view, line)} for view, line in flat]
    trainer = trl(
        "GRPO",
        learner,
        rows,
        num_generations=3,
        epsilon=0.1,
        epsilon_high=0.3,
        loss_type=kind,
        scale_rewards="group" if scale else "none",
        max_completion_length=max(len(line.ids) for _, line in flat),
        reward_funcs=lambda **_: [line.reward for _, line in flat],
        rollout_func=lambda prompts, trainer: {
            "prompt_ids": [[*view.ids[: line.start], *line.given] for view, line in flat],
            "completion_ids": [list(line.ids) for _, line in flat],
            "logprobs": [list(line.logprobs) for _, line in flat],
        },
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = trainer._generate_and_score_completions(rows)
    inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"]
    how = Tuning(beta=BETA, epsilon=0.1, epsilon_high=0.3, loss_type=kind, scale_rewards=scale)
    kept, advantages, skipped = online.by_place(views, how)
    seen = {}
    ours = learners.gradient(learner, online.parts(learner, kept, advantages, how, seen=seen))
    assert skipped == 0 and equal(ours, trl_loss_and_gradient(trainer, inputs))
    ratio = torch.cat(seen["ratio"])
    assert (ratio > 1.3).any() and (ratio < 0.9).any()  # some were clipped
    assert near(torch.cat(seen["entropy"]).mean(), trainer._metrics["train"]["entropy"][0], CLOSE)


def sampled_elsewhere(learner, view: View) -> View:
    """As though another model had sampled it: log-probabilities up to 0.4 nats away from the learner's."""
    [read] = learner.read([view])
    away = (torch.rand(read.logps.shape, generator=torch.Generator().manual_seed(view.conversation)) - 0.5) * 0.8
    return replace(
        view,
        lines=tuple(
            replace(line, logprobs=tuple(logps[: len(line.ids)].tolist()))
            for line, logps in zip(view.lines, read.logps + away, strict=True)
        ),
    )
