"""Several workers of a learner: what they learn and tell is what one does from the same batch, by themselves and under
Ray Train.
"""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import learners
import pytest
import tiny
import torch
from commands import listening_sockets
from safetensors.torch import load_file, save_file

from agents.learning import distributed
from agents.learning.learner import STATE
from agents.learning.methods import Learnt, Method, learn
from agents.learning.views import View
from lab.dialogue.cluster import check_cluster, gpu_shares, hosting
from scenarios.jobs.training_keys import Tuning

REWARDS = (1, -1, 0.5, -0.5, 1, 0.25)
HOW = Tuning(beta=0.1)
METHODS = (
    Method("grpo", tuning=HOW),
    Method("grpo", "episodes", 2, tuning=HOW),
    Method("ppo", tuning=Tuning(beta=0.1, num_iterations=2)),
    Method("kto", tuning=HOW),
    Method("dpo", tuning=HOW),
    Method("sft"),
)
TUNING = learners.tuning(learning_rate=1e-3, lora_dropout=0.2, weight_decay=0.1)
UNEVEN = (3, 1)  # views of the two batches: a worker has twice the other's share, then none


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return learners.saved(tiny.llama(), tmp_path_factory.mktemp("tiny") / "llama")


def batches(method: Method) -> list[list[View]]:
    """Views of unlike length, their lines said by something near a model that finds all 128 tokens equally likely."""
    dealt = []
    for first, size in zip((0, 4), UNEVEN, strict=True):
        size = max(size, 2) if method.groups == "episodes" else size  # that begin alike
        views = [
            learners.view(4, 3 + number % 3, conversation=number, rewards=[reward + number / 10 for reward in REWARDS])
            for number in range(first, first + size)
        ]
        dealt.append(
            [
                replace(
                    view, lines=tuple(replace(line, logprobs=(-math.log(128),) * len(line.ids)) for line in view.lines)
                )
                for view in views
            ]
        )
    return dealt


def numbers(learnt: Learnt) -> torch.Tensor:
    return torch.tensor(
        [
            learnt.step.loss,
            learnt.step.grad_norm,
            learnt.step.learning_rate,
            learnt.skipped,
            learnt.tokens,
            *learnt.numbers.values(),
        ]
    )


# -- by themselves


def work(rank: int, workers: int, name: str, folder: str) -> None:
    """Two updates by each method; then a batch from which nothing can be learnt."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers, timeout=timedelta(seconds=90)
        )
    tensors = {}
    for place, method in enumerate(METHODS):
        learner = learners.learner(name, value_head=method.name == "ppo", **vars(TUNING))
        tensors |= {
            f"{place}.{number}": numbers(learn(learner, views, method)) for number, views in enumerate(batches(method))
        }
        tensors[f"{place}.weights"] = learners.weights(learner)
        nothing = learn(learner, [learners.view(4, rewards=[None] * 4)], method)
        assert nothing.step is None and not nothing.numbers and learner.steps == 2 * method.tuning.num_iterations
    save_file(tensors, Path(folder) / f"{workers}-{rank}.safetensors")
    if workers > 1:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_learn_and_tell_what_one_does_by_every_method(name, tmp_path):
    running = torch.multiprocessing.spawn(work, (2, name, str(tmp_path)), nprocs=2, join=False)
    work(0, 1, name, str(tmp_path))
    while not running.join():
        pass
    alone, first, second = (load_file(tmp_path / f"{who}.safetensors") for who in ("1-0", "2-0", "2-1"))
    assert alone.keys() == first.keys() == second.keys() and len(alone) == 3 * len(METHODS)
    for key, wanted in alone.items():
        assert torch.equal(first[key], second[key]), key
        assert torch.allclose(first[key], wanted, atol=1e-5, rtol=1e-5), key
    # online: kl, entropy, three of ratio
    assert [len(alone[f"{place}.0"]) for place in range(len(METHODS))] == [
        10,
        10,
        10,
        5,
        5,
        5,
    ]
    fresh = learners.weights(learners.learner(name))
    assert (
        min(float((alone[f"{place}.weights"][: len(fresh)] - fresh).abs().max()) for place in range(len(METHODS)))
        > 1e-3
    )


def test_the_longest_views_are_dealt_out_back_and_forth(monkeypatch):
    """Lengths 1 to 6 for two workers: 6, 3 and 2 for one and 5, 4 and 1 for the other, of 11 and 10 tokens."""
    views = [View(number, "", tuple(range(1 + number))) for number in (2, 0, 4, 1, 5, 3)]
    shares = []
    for rank in range(2):
        monkeypatch.setattr(
            distributed,
            "dist",
            SimpleNamespace(is_initialized=lambda: True, get_rank=lambda rank=rank: rank, get_world_size=lambda: 2),
        )
        shares.append(distributed.share(views))
    assert [[len(views[place].ids) for place in share] for share in shares] == [[3, 2, 6], [1, 5, 4]]
    monkeypatch.undo()
    assert distributed.share(views) == [0, 1, 2, 3, 4, 5]


# -- under Ray Train


@pytest.fixture(scope="module")
def make(name):
    """A maker of two workers' learners, on a private cluster."""
    from lab.training.workers import Learners

    with hosting("local", 1, lambda detail: None, workers=2):
        started: list[Learners] = []

        def make() -> Learners:
            started.append(
                Learners(2, {"name": name, "tuning": TUNING, "dtype": "float32", "seed": 0, "value_head": True})
            )
            return started[-1]

        yield make
        for group in started:
            group.close()


@pytest.fixture(scope="module")
def both(name, make):
    """One learner, and two workers' that stand where it does."""
    alone, two = learners.learner(name, value_head=True, **vars(TUNING)), make()
    return alone, two


@pytest.mark.slow
def test_nothing_that_two_workers_start_listens_to_other_machines(both):
    """The workers talk to each other besides what Ray starts."""
    assert both[1].steps == 0
    open_to = listening_sockets(os.getpid())
    loopback = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert len(open_to) >= 7 and {address for _, address, _ in open_to} <= loopback, open_to


def weights(learner, folder: Path) -> dict[str, torch.Tensor]:
    learner.save(folder)
    return load_file(folder / STATE)


@pytest.mark.slow
def test_two_workers_under_ray_equal_one_at_the_same_global_batch(both, tmp_path):
    alone, two = both
    alone.save(tmp_path / "0")
    assert (
        (str(two.device), two.dtype, two.steps)
        == ("cpu", "float32", 0)
        == (str(alone.device), alone.dtype, alone.steps)
    )
    for method in (METHODS[0], METHODS[2], METHODS[3]):
        for learner in both:
            learner.restore(tmp_path / "0")
        for views in batches(method):
            assert torch.allclose(
                numbers(two.learn(views, method)), numbers(learn(alone, views, method)), atol=1e-5, rtol=1e-5
            )
        wanted, parallel = weights(alone, tmp_path / "alone"), weights(two, tmp_path / "two")
        assert two.steps == alone.steps == 2 * method.tuning.num_iterations and wanted.keys() == parallel.keys()
        assert all(torch.allclose(parallel[key], wanted[key], atol=1e-5, rtol=0) for key in wanted)
        begun = load_file(tmp_path / "0" / STATE)
        assert (
            max(float((wanted[key] - begun[key]).abs().max()) for key in wanted if key.startswith("parameter")) > 1e-3
        )
        config, installed = two.adapter()
        assert config == alone.adapter()[0] and all(
            torch.allclose(installed[key], value, atol=1e-5) for key, value in alone.adapter()[1].items()
        )


@pytest.mark.slow
def test_two_workers_go_back_to_where_they_were_saved_or_where_one_was(both, tmp_path):
    alone, two = both
    first, second = batches(METHODS[0])
    two.save(tmp_path / "two")
    alone.restore(tmp_path / "two")
    figures = two.learn(first, METHODS[0])
    two.learn(second, METHODS[0])
    two.restore(tmp_path / "two")
    # on both workers: each has views of its own
    assert two.steps == alone.steps and two.learn(first, METHODS[0]) == figures
    assert torch.allclose(numbers(learn(alone, first, METHODS[0])), numbers(figures), atol=1e-5, rtol=1e-5)
    assert (tmp_path / "two" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_reaches_the_loop_in_the_learners_words(both):
    alone, two = both
    [views, _] = batches(METHODS[0])
    views[1] = replace(views[1], lines=tuple(replace(line, reward=math.nan) for line in views[1].lines))
    with pytest.raises(ValueError) as wanted:
        learn(alone, views, METHODS[0])
    for _ in range(2):  # and whoever asks again is told again
        with pytest.raises(ValueError) as raised:
            two.learn(views, METHODS[0])
        assert str(raised.value) == str(wanted.value) and "expected finite numbers" in str(raised.value)


@pytest.mark.slow
def test_a_view_that_one_worker_cannot_read_ends_both(make):
    two = make()
    views = batches(METHODS[5])[0]
    broken = next(line for line in views[0].lines if line.on_trunk)
    views[0] = replace(views[0], lines=(replace(broken, ids=tuple(token + 1 for token in broken.ids)),))
    began = time.monotonic()
    with pytest.raises(ValueError, match="differs from its view"):
        two.learn(views, METHODS[5])
    assert time.monotonic() - began < 180
    two.close()


@pytest.mark.slow
def test_a_worker_that_dies_is_told_in_one_sentence(make):
    two = make()
    victim = next(pid for pid in below(os.getpid()) if "RayTrainWorker" in command(pid))
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"the 2 workers of the learner ended .* expected .* fewer workers") as caught:
        two.learn(batches(METHODS[5])[0], METHODS[5])
    assert time.monotonic() - began < 180 and "\n" not in str(caught.value)
    two.close()
    two.close()


def below(pid: int) -> list[int]:
    """Processes that this one has started, and those that they have."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return children + [descendant for child in children for descendant in below(child)]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


# -- where they run


def test_several_workers_without_ray_are_refused():
    with pytest.raises(ValueError, match=r"workers: 2 .* expected workers=1 or another --address"):
        check_cluster("none", 2)
    check_cluster("none", 1)


@pytest.mark.parametrize(
    ("gpus", "engines", "workers", "wanted"),
    [
        (0, 3, 2, (0, 0)),
        (1, 2, 0, (1 / 2, 1)),
        (2, 3, 0, (1 / 2, 1)),
        (4, 3, 0, (1, 1)),  # three engines on two GPUs: two places on each
        (4, 3, 2, (1 / 2, 1)),
        (8, 3, 4, (1, 1)),  # 2 whole ones for the workers, three engines on the other 2
        (2, 2, 2, (1 / 2, 1 / 2)),
        (1, 2, 2, (1 / 4, 1 / 4)),
    ],
)  # too few: all alike
def test_gpus_are_shared_so_that_everyone_finds_a_place(gpus, engines, workers, wanted):
    assert gpu_shares(gpus, engines, workers) == wanted
