"""The learner: what it reads is what was sampled, what it saves goes on as if never stopped, and several workers equal
one.
"""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import learners
import pytest
import tiny
import torch
from tiny import close
from transformers import LlamaConfig

from agents.engine.local import LocalEngine
from agents.engine.protocol import Sampling
from agents.learning import offline, online
from agents.learning.learner import STATE, Learner
from agents.learning.views import View, with_lines
from agents.models.adapter_files import upper_layers
from agents.models.loading import EMBEDDED, load
from agents.seats.base import Cue, Question
from agents.seats.model import ModelSeat
from lab.training.rewards import Rollout, sampled
from scenarios.jobs.training_keys import Tuning

pytestmark = pytest.mark.usefixtures("one_thread")
REWARDS = (1, -1, 0.5, -0.5, 1, 0.25)
HOW = Tuning(beta=0.1, lam=0.9)
UNEVEN = {
    "lr_scheduler_type": "linear",
    "warmup_steps": 2,
    "max_steps": 9,
    "weight_decay": 0.1,
    "learning_rate": 1e-2,
    "lora_dropout": 0.2,
}


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return learners.saved(tiny.llama(), tmp_path_factory.mktemp("tiny") / "llama")


def batch(learner: Learner, size: int, first: int = 0) -> list[tuple]:
    """PPO's parts on views whose lines the learner could have said."""
    views = [
        learners.view(4, 3 + number % 3, conversation=number, rewards=REWARDS) for number in range(first, first + size)
    ]
    views, advantages, returns, values = online.by_value(learner, [with_logprobs(learner, view) for view in views], HOW)
    return online.parts(learner, views, advantages, HOW, returns=returns, values=values)


def with_logprobs(learner: Learner, view: View) -> View:
    [read] = learner.read([view])
    lines = [
        type(line)(**vars(line) | {"logprobs": tuple(line_logps[: len(line.ids)].tolist())})
        for line, line_logps in zip(view.lines, read.logps, strict=True)
    ]
    return View(view.conversation, view.persona, view.ids, tuple(lines))


# -- against the engine


def furthest(learner: Learner, view: View) -> float:
    """Largest difference between the log-probabilities that were noted while sampling and those that the learner
    finds.
    """
    [read] = learner.read([view])
    return max(
        abs(a - b)
        for line, line_logps in zip(view.lines, read.logps.tolist(), strict=True)
        for a, b in zip(line.logprobs, line_logps[: len(line.ids)], strict=True)
    )


def spoken(engine: LocalEngine, adapter: str | None) -> View:
    """Two lines each at three places of one dialogue, and as many answers to a Q&A probe."""
    seat = ModelSeat(engine, Sampling(0, 8, 0.8, 50), adapter, generations=2, keep=True)
    seat.open({0: "You are Ada, a baker from Leeds who keeps two cats."})
    for turn, words in enumerate(("Hello, who is there?", "And have you any pets?", "Good bye then.")):
        seat.hear({0: words})
        seat.speak({0: Cue("Answer briefly." if turn == 1 else "", turn, 2 * turn + 1)})
        if turn == 1:
            seat.answer({0: [Question("Where do you live?", about="town")]}, {0: Cue("", 9, 5)})
    return View(
        0,
        "ada",
        tuple(seat.ids[0]),
        tuple(sampled(Rollout(0, "user", {}, [], tuple(seat.ids[0]), tuple(seat.spoken[0])))),
    )


def test_likelihoods_are_of_the_tokens_that_were_sampled_among_and_of_one_that_fell_out_of_them(name):
    """By hand, from plain logits over the temperature: the two likeliest, and the token where it is neither."""
    learner, view = learners.learner(name, temperature=0.5, top_k=2), learners.view(3, takes=1)
    view = with_lines(view, lambda line: line is view.lines[0])
    [read] = learner.read([view])
    logits = learner.model(torch.tensor([view.ids])).logits[0].detach() / 0.5
    [line] = view.lines
    for place, token in enumerate(line.ids):
        row = logits[line.start + place - 1]
        among = {*row.topk(2).indices.tolist(), token}
        assert float(read.logps[0, place]) == pytest.approx(
            float(row[token] - row[sorted(among)].logsumexp(0)), abs=1e-5
        )
    assert any(token not in logits[line.start + place - 1].topk(2).indices for place, token in enumerate(line.ids))


def test_first_token_of_a_line_is_read_as_one_that_could_not_end_it(name):
    view = learners.view(3, takes=1)
    free, bound = (learners.learner(name, min_tokens=min_tokens).read([view])[0].logps for min_tokens in (0, 1))
    learner = learners.learner(name)
    with torch.no_grad():
        p = learner.model(torch.tensor([view.ids])).logits[0, view.lines[0].start - 1].softmax(-1)
    p_stop = p[list(learner.loaded.stop_ids)].sum()
    assert float(bound[0, 0] - free[0, 0]) == pytest.approx(-math.log(1 - float(p_stop)), abs=1e-5) and p_stop > 1e-4
    assert torch.equal(bound[:, 1:], free[:, 1:])


@pytest.mark.slow
def test_recomputed_log_probs_equal_sampled_ones_on_the_embedded_model(one_thread):
    engine, learner = (
        LocalEngine(load(EMBEDDED, "float32", "cpu")),
        learners.learner(EMBEDDED, noise=0.01, temperature=0.8, top_k=50, min_tokens=1),
    )
    engine.install("trained", *learner.adapter())
    view = spoken(engine, "trained")
    assert len(view.lines) == 8 and furthest(learner, view) < 1e-4
    assert learner.adapter()[0]["base_model_name_or_path"] == EMBEDDED  # and no folder of this machine's
    learner.update(
        offline.parts(
            [View(0, "ada", view.ids, tuple(type(line)(**vars(line) | {"reward": 1.0}) for line in view.lines))],
            "sft",
        )
    )
    assert furthest(learner, view) > 1e-3  # it has learnt, and what was sampled before is another model's
    engine.install("trained", *learner.adapter())
    assert furthest(learner, spoken(engine, "trained")) < 1e-4


def test_the_saved_folder_is_an_adapter_that_an_engine_and_peft_load_by_path(name, tmp_path):
    from peft import PeftModel

    learner, view = learners.learner(name), learners.view(4, 5)
    learner.save(tmp_path / "adapter")
    [read] = learner.read([view])
    engine = LocalEngine(load(name, "float32", "cpu"))
    peft = PeftModel.from_pretrained(tiny.plain(tiny.llama()), tmp_path / "adapter").eval()
    for line, logps in zip(view.lines, read.logps, strict=True):
        given = [*view.ids[: line.start], *line.given]
        [[scored]] = engine.score(engine.open([given], str(tmp_path / "adapter")), [[((), line.ids)]])
        assert close(scored, logps[: len(line.ids)].tolist()) and close(
            tiny.target_logprobs(peft, given, list(line.ids)), scored
        )
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_all_weights_trained_are_saved_as_a_model_of_their_own(name, tmp_path):
    learner, view = (
        learners.learner(name, full=True, noise=0.0, learning_rate=1e-2),
        learners.view(4, 5, rewards=REWARDS),
    )
    learner.update(offline.parts([view], "sft"))
    learner.save(tmp_path / "whole")
    [now], [before] = learner.read([view]), learner.read([view], untouched=True)
    engine, line = LocalEngine(load(str(tmp_path / "whole"), "float32", "cpu")), view.lines[0]
    [[scored]] = engine.score(engine.open([view.ids[: line.start]]), [[((), line.ids)]])
    assert close(scored, now.logps[0, : len(line.ids)].tolist())
    assert close(
        tiny.target_logprobs(tiny.plain(tiny.llama()), list(view.ids[: line.start]), list(line.ids)),
        before.logps[0, : len(line.ids)].tolist(),
    )
    assert not close(scored, before.logps[0, : len(line.ids)].tolist())


def test_a_value_is_read_where_the_line_is_about_to_be_said(name):
    learner, view = learners.learner(name, value_head=True), learners.view(4, 5)
    [read] = learner.read([view])
    wanted = []
    for line in view.lines:
        given = torch.tensor([[*view.ids[: line.start], *line.given]])
        with torch.no_grad():
            hidden = learner.model.eval()(given, output_hidden_states=True).hidden_states[-1][0, -1]
            wanted.append(float(learner.head(hidden)))
    # lines of one place share theirs
    assert close(read.values.tolist(), wanted) and len({round(value, 3) for value in wanted}) == 3
    update = batch(learner, 1)
    learner.update(update)
    assert learner.head.weight.grad.abs().max() > 0


# -- updates


def test_an_update_raises_what_is_rewarded_and_lowers_what_is_not(name):
    learner, view = learners.learner(name, learning_rate=1e-2), learners.view(4, 5, rewards=REWARDS)
    before = (learner.read([view])[0].logps * (mask := learner.read([view])[0].mask)).sum(1)
    views, advantages, _ = online.by_place([with_logprobs(learner, view)], HOW)
    step = learner.update(online.parts(learner, views, advantages, HOW))
    change = (learner.read([view])[0].logps * mask).sum(1) - before
    assert (change.sign() == torch.tensor([1.0, -1, 1, -1, 1, -1])).all()
    assert step.grad_norm > 0 and step.learning_rate == 1e-2 and math.isfinite(step.loss)


def test_gradients_are_clipped_to_their_norm_and_told_before_it(name):
    learner = learners.learner(name, max_grad_norm=0.5)
    view = learners.view(4, 5, rewards=REWARDS)
    step = learner.update(offline.parts([view], "sft"))
    assert step.grad_norm > 0.5
    assert float(torch.cat([p.grad.flatten() for p in learner.parameters]).norm()) == pytest.approx(0.5, rel=1e-4)


def test_gradient_checkpointing_changes_no_gradient(name):
    gradients = []
    for checkpointing in (False, True):
        learner = learners.learner(name, gradient_checkpointing=checkpointing, max_grad_norm=1e9)
        gradients.append(learners.gradient(learner, offline.parts([learners.view(4, 5, rewards=REWARDS)], "sft")))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-6) and torch.allclose(
        gradients[0][1], gradients[1][1], atol=1e-6
    )


@pytest.mark.parametrize("spoil", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_and_changes_nothing(name, spoil):
    spoilt, other = (learners.learner(name, value_head=True, **UNEVEN) for _ in range(2))
    for learner in (spoilt, other):
        learner.update(batch(learner, 2))
    [(good, fine), (bad, loss)] = batch(spoilt, 2, 2)
    before = learners.weights(spoilt)
    with pytest.raises(ValueError, match="expected finite numbers"):
        spoilt.update([(good, fine), (bad, lambda read: loss(read) * spoil)])
    assert torch.equal(learners.weights(spoilt), before) and spoilt.steps == 1
    assert spoilt.update(batch(spoilt, 2, 2)) == other.update(batch(other, 2, 2))
    assert torch.equal(learners.weights(spoilt), learners.weights(other))


# -- going on


def test_stopped_after_any_update_and_taken_up_again_gives_the_same_weights(name, tmp_path):
    """In float32, to the last bit: with warm-up and decay of the rate, weight decay, dropout and a value head."""
    never = learners.learner(name, value_head=True, **UNEVEN)
    never.save(tmp_path / "0")
    steps = []
    for number in range(1, 4):
        steps.append(never.update(batch(never, 2, number)))
        never.save(tmp_path / str(number))
    assert len({step.learning_rate for step in steps}) == 3 and steps[0].learning_rate == 0
    for stopped in range(4):
        again = learners.learner(name, value_head=True, seed=0, noise=0.7, **UNEVEN)
        torch.manual_seed(stopped)  # whatever else was drawn meanwhile
        again.restore(tmp_path / str(stopped))
        assert again.steps == stopped
        assert [again.update(batch(again, 2, number)) for number in range(stopped + 1, 4)] == steps[stopped:]
        assert torch.equal(learners.weights(again), learners.weights(never))


def test_a_learner_goes_back_to_where_it_was_saved(name, tmp_path):
    learner = learners.learner(name, value_head=True, **UNEVEN)
    learner.save(tmp_path / "0")
    first = learner.update(batch(learner, 2, 1))
    learner.save(tmp_path / "1")
    second = learner.update(batch(learner, 2, 2))
    end = learners.weights(learner)
    learner.restore(tmp_path / "1")
    assert learner.steps == 1 and learner.update(batch(learner, 2, 2)) == second
    learner.restore(tmp_path / "0")
    assert learner.steps == 0 and [learner.update(batch(learner, 2, number)) for number in (1, 2)] == [first, second]
    assert torch.equal(learners.weights(learner), end)


def test_a_folder_of_another_training_is_refused_and_changes_nothing(name, tmp_path):
    learners.learner(name, r=8).save(tmp_path / "wider")
    learners.learner(name, target_modules=["q_proj"]).save(tmp_path / "fewer")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "learner.safetensors").write_bytes(b"no tensors")
    learner = learners.learner(name)
    before = learners.weights(learner)
    for folder in ("wider", "fewer", "broken", "none"):
        with pytest.raises(ValueError, match=folder) as caught:
            learner.restore(tmp_path / folder)
        assert "\n" not in str(caught.value)
    assert torch.equal(learners.weights(learner), before) and learner.steps == 0


def test_a_save_that_was_cut_off_is_nothing_to_go_on_from(name, tmp_path, monkeypatch):
    def cut_off(tensors, file) -> None:
        Path(file).write_bytes(b"half a file")
        raise KeyboardInterrupt

    learner = learners.learner(name)
    monkeypatch.setattr("safetensors.torch.save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        learner.save(tmp_path / "adapter")
    assert (tmp_path / "adapter").is_dir() and not (tmp_path / "adapter" / STATE).exists()


@pytest.mark.parametrize("kind", ["reduce_lr_on_plateau", "warmup_stable_decay", "cosine_with_min_lr", "steep"])
def test_a_rate_that_does_not_follow_from_the_step_alone_is_refused_in_one_sentence(name, kind):
    with pytest.raises(ValueError, match=kind) as caught:
        learners.learner(name, lr_scheduler_type=kind)
    assert "\n" not in str(caught.value)


# -- several workers


def work(rank: int, workers: int, name: str, folder: str) -> None:
    """Three updates on views shared out among the workers, of which the last has one view only; then one that a worker
    spoils.
    """
    import torch.distributed as dist

    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers, timeout=timedelta(seconds=90)
        )
    learner = learners.learner(name, value_head=True, learning_rate=1e-3)
    steps, gradients = [], []
    for number, size in enumerate((4, 3, 1)):
        steps.append(learner.update(batch(learner, size, 4 * number)))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in learner.parameters]))
    refused = False
    try:
        learner.update(
            [
                (view, lambda read, loss=loss: loss(read) * (math.nan if rank == workers - 1 else 1))
                for view, loss in batch(learner, 2)
            ]
        )
    except ValueError:
        refused = True
    tensors = {
        "weights": learners.weights(learner),
        "gradients": torch.stack(gradients),
        "refused": torch.tensor(refused),
        "losses_and_norms": torch.tensor([[step.loss, step.grad_norm] for step in steps]),
    }
    from safetensors.torch import save_file

    save_file(tensors, Path(folder) / f"{workers}-{rank}.safetensors")
    if workers > 1:
        dist.destroy_process_group()


def test_two_workers_equal_one_at_the_same_global_batch(name, tmp_path):
    from safetensors.torch import load_file

    running = torch.multiprocessing.spawn(work, (2, name, str(tmp_path)), nprocs=2, join=False)
    work(0, 1, name, str(tmp_path))
    while not running.join():
        pass
    alone, first, second = (load_file(tmp_path / f"{who}.safetensors") for who in ("1-0", "2-0", "2-1"))
    assert torch.equal(first["weights"], second["weights"])
    for key in ("weights", "gradients", "losses_and_norms"):
        assert torch.allclose(first[key], alone[key], atol=1e-5, rtol=0), key
    assert first["refused"] and second["refused"] and alone["refused"]
    fresh = learners.weights(learners.learner(name, value_head=True))
    assert float((alone["weights"] - fresh).abs().max()) > 1e-3  # they did move


def test_the_lower_layers_may_be_left_as_they_are_whatever_the_model(tiny_name, tiny_engine, tmp_path):
    """Of two layers the second learns; of thirty all from the eleventh on."""
    learner = learners.learner(tiny_name, target_modules=["q_proj", "v_proj"], train_from_depth=0.5)
    names = [name for name, parameter in learner.model.named_parameters() if parameter.requires_grad]
    assert len(names) == 4 and all(".layers.1." in name for name in names)
    learner.save(tmp_path / "upper")
    [branch] = tiny_engine.open([[1, 2, 3]], str(tmp_path / "upper"))  # the engine puts it on as it was saved
    tiny_engine.drop([branch])
    assert (
        upper_layers(LlamaConfig(num_hidden_layers=30), 0.33) == list(range(10, 30))
        and upper_layers(LlamaConfig(), 0.0) is None
    )
