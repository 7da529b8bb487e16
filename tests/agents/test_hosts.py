"""Engines in Ray actors, and what happens when one is killed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from agents.engine.protocol import Sampling
from agents.engine.steering import OPENERS, axis

ray = pytest.importorskip("ray")

PROMPTS = (
    "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nSing!<|im_end|>\n<|im_start|>assistant\n",
)
NEXT = "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def cluster():
    """On one core, so that actors compute on one thread: far faster where other work is going on."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=2,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    os.sched_setaffinity(0, cores)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(cluster, tmp_path_factory):
    """A small random model's."""
    import learners
    import tiny

    return Path(learners.saved(tiny.llama(max_position_embeddings=2048), tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def local(folder):
    from agents.engine.local import LocalEngine
    from agents.models.loading import load

    return LocalEngine(load(str(folder), "float32", "cpu"))


@pytest.fixture(scope="module")
def recoveries() -> list[str]:
    return []


@pytest.fixture(scope="module")
def hosted(folder, recoveries):
    """An engine whose process is started anew for each death: for some ten seconds."""
    from agents.engine.actor import HostedEngine

    engine = HostedEngine(str(folder), "float32", "cpu", on_recovery=recoveries.append)
    yield engine
    engine.close()


def process(hosted) -> int:
    return ray.get(hosted.actor.pid.remote())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while (
        os.path.exists(f"/proc/{pid}")
        and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    ):
        time.sleep(0.01)


def lines(engine, between=lambda: None) -> list[tuple[int, ...]]:
    """Two lines of two dialogues, one of them forked, with something happening between the lines."""
    branches = engine.open(engine.encode(PROMPTS))
    first = engine.generate(branches, [Sampling(seed, 6) for seed in (1, 2)])
    [twin] = engine.fork(branches[:1])
    between()
    more = engine.encode([NEXT])[0]
    engine.extend([*branches, twin], [more] * 3)
    second = engine.generate([*branches, twin], [Sampling(seed, 6) for seed in (3, 4, 3)])
    engine.drop([*branches, twin])
    return [sample.token_ids for sample in (*first, *second)]


def test_a_hosted_engine_says_what_a_local_one_says(hosted, local):
    wanted = lines(local)
    assert lines(hosted) == wanted
    assert wanted[2] == wanted[4]  # the fork, under the same seed
    [ids, target] = hosted.encode([PROMPTS[0], "I am Ada."])
    scores = []
    for engine in (hosted, local):
        branches = engine.open([ids])
        scores += engine.score(branches, [[((), target), (target, target)]])
        engine.drop(branches)
    assert [p for branch_scores in scores[0] for p in branch_scores] == pytest.approx(
        [p for branch_scores in scores[1] for p in branch_scores], abs=1e-3
    )
    assert hosted.info() == local.info() and hosted.decode([ids, target]) == local.decode([ids, target])


@pytest.mark.slow
def test_after_a_death_what_is_said_watched_and_steered_is_as_before(hosted, local, folder, recoveries):
    ids = hosted.encode(PROMPTS)
    states = hosted.states(ids, [len(prompt) - 1 for prompt in ids])
    steered = [
        hosted.open(ids[:1], steer=steer)[0] for steer in (axis(states[:1], states[1:]).steer("add", 1.0, (0.5,)), None)
    ]
    hosted.watch({"ann": "You are Ann, a baker.", "bob": "You are Bob, a pilot."}, OPENERS, 1)

    def shown():
        """Projections of two lines, and what steered and other branches make of the same text."""
        branches = hosted.open(ids)
        samples = hosted.generate(branches, [Sampling(seed, 6) for seed in (1, 2)])
        hosted.drop(branches)
        return [sample.projections for sample in samples], hosted.score(steered, [[((), ids[1][:8])]] * 2)

    earlier, pid, projections, scores = hosted.usage(), process(hosted), *shown()
    assert [set(people) for people in projections] == [{"ann", "bob"}] * 2 and scores[0] != scores[1]
    assert lines(hosted, between=lambda: kill(pid)) == lines(local)
    assert process(hosted) != pid
    assert len(recoveries) == 1 and f"{folder} died" in recoveries[0]
    assert shown() == (projections, scores)
    hosted.drop(steered)
    later = hosted.usage()
    assert later.tokens_new >= earlier.tokens_new and later.tokens_computed >= earlier.tokens_computed
    assert later.generated >= earlier.generated
    assert all(later.seconds[phase] >= seconds for phase, seconds in earlier.seconds.items())


def test_a_refusal_comes_back_as_it_is_said_there(hosted, local):
    texts = []
    for engine in (hosted, local):
        [branch] = engine.open([[1] * 10])
        for ask in (
            partial(engine.open, [[1], []]),
            partial(engine.extend, [branch], [[1] * 8192]),
            partial(engine.open, [], "/no/adapter"),
            partial(engine.generate, [branch, branch], [Sampling(0), Sampling(0)]),
        ):
            with pytest.raises(ValueError) as caught:
                ask()
            texts.append(str(caught.value))
        engine.drop([branch])
    assert texts[:4] == texts[4:]
    assert len(set(texts)) == 4


def test_a_refused_extension_is_forgotten_on_this_side_too(hosted):
    [branch] = hosted.open([[1] * 10])
    with pytest.raises(ValueError):
        hosted.extend([branch], [[1] * 8192])
    assert hosted._ids[branch] == [1] * 10
    hosted.drop([branch])


def test_a_model_that_cannot_be_loaded_is_a_value_error(cluster):
    from agents.engine.actor import HostedEngine

    with pytest.raises(ValueError) as caught:
        HostedEngine("/no/such/model", "float32", "cpu")
    assert str(caught.value).startswith("model '/no/such/model': there is no") and "\n" not in str(caught.value)


def test_a_play_whose_engine_is_killed_in_the_middle_of_lines_goes_as_one_left_alone(
    hosted, local, folder, tmp_path, monkeypatch
):
    """Killed 0.1 s into its second and its fourth call of `generate`, each of 2 lines of 150 tokens. Sampled for one
    seat, greedy for the other; float32.
    """
    from corpora import SCENARIO

    from lab.dialogue.wiring import set_up_on
    from scenarios.scenario import load_scenario

    (tmp_path / "small.yaml").write_text(SCENARIO.replace("MODEL", str(folder)))
    scenario = load_scenario(
        tmp_path / "small.yaml",
        [
            "conversations=2",
            "turns=6",
            "seats.user.temperature=0",
            *(f"seats.{seat}.{key}" for seat in ("user", "assistant") for key in ("max_tokens=150", "sentences=null")),
        ],
    )
    notices, generate, calls = [], hosted.generate, []

    def dying(branches, sampling):
        calls.append(branches)
        if len(calls) in (2, 4):
            threading.Timer(0.1, kill, [process(hosted)]).start()
        return generate(branches, sampling)

    monkeypatch.setattr(hosted, "generate", dying)
    monkeypatch.setattr(hosted, "_on_recovery", notices.append)
    name = str(folder)
    interrupted = list(set_up_on(scenario, {name: hosted}).play.events())
    assert len(notices) == 2 and all("4 views are read again" in notice for notice in notices), notices
    wanted = list(set_up_on(scenario, {name: local}).play.events())
    lines = [
        [
            (e["conversation"], e["turn"], e["text"], e["token_ids"], pytest.approx(e["logprob"], abs=1e-3))
            for e in events
            if e["event"] == "line"
        ]
        for events in (interrupted, wanted)
    ]
    assert lines[0] == lines[1] and len({line[:2] for line in lines[0]}) == len(lines[0]) == 12
    assert max(len(line[3]) for line in lines[0]) == 150


def test_a_model_that_is_gone_when_its_engine_must_start_again_is_a_value_error(hosted, folder):
    hosted.open([[1, 2, 3]])
    folder.rename(folder.with_name("moved"))
    kill(process(hosted))
    with pytest.raises(ValueError, match="there is no"):
        hosted.encode(["hello"])
