"""Adapters of every kind that PEFT has: each says what it says in PEFT alone, or is refused in one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import peft
import pytest
import tiny
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file

from agents.models import bounded_work
from agents.models.packed_linear import pack

pytestmark = pytest.mark.usefixtures("one_thread")
NEAR = 1e-3  # nats
PROMPT_TOKENS = sorted(set(tiny.prompts(12)[0][:3]))
QV = {"target_modules": ["q_proj", "v_proj"]}
LORA = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "bias": {"bias": "all"},
    "head_saved": {"modules_to_save": ["lm_head"]},
    "embedding_and_head_saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "tokens": {"trainable_token_indices": PROMPT_TOKENS},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "qalora": {"use_qalora": True, "qalora_group_size": 16},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "upper_layer": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "parameters": {"target_parameters": ["lm_head.weight"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "all": {"target_modules": "all-linear"},
}
OTHERS = {
    "ADALORA": {**QV, "init_r": 6, "target_r": 4, "total_step": 10, "tinit": 0, "tfinal": 5},
    "ADAMSS": {**QV, "r": 8},
    "BEFT": QV,
    "BOFT": {**QV, "boft_block_size": 4},
    "C3A": {**QV, "block_size": 8},
    "DEFT": QV,
    "DELORA": QV,
    "FOURIERFT": {**QV, "n_frequency": 20},
    "FROD": QV,
    "GLORA": QV,
    "GRALORA": QV,
    "HIRA": {**QV, "r": 4},
    "HRA": {**QV, "r": 4},
    "IA3": {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm", "norm"]},
    "LOHA": QV,
    "LOKR": QV,
    "MISS": {**QV, "r": 4},
    "OFT": {**QV, "r": 0, "oft_block_size": 8},
    "OSF": QV,
    "PEANUT": {**QV, "r": 4},
    "PSOFT": {**QV, "r": 4},
    "PVERA": {**QV, "r": 8},
    "RANDLORA": {**QV, "r": 4},
    "ROAD": {**QV, "group_size": 16},
    "SHIRA": {**QV, "r": 4},
    "SUPERTUNING": QV,
    "TINYLORA": QV,
    "TRAINABLE_TOKENS": {"token_indices": PROMPT_TOKENS},
    "UNILORA": QV,
    "VBLORA": {**QV, "num_vectors": 8, "vector_length": 16, "r": 4},
    "VERA": {**QV, "r": 8},
    "WAVEFT": {**QV, "n_frequency": 20},
}
TOKENS = {"num_virtual_tokens": 3}
REFUSED = {
    "ADAPTION_PROMPT": {"adapter_len": 3, "adapter_layers": 1, "target_modules": "self_attn"},
    "CARTRIDGE": TOKENS,
    "LILY": {**QV, "r": 4, "num_B": 2},
    "CPT": {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 1]},
    "MULTITASK_PROMPT_TUNING": TOKENS,
    "P_TUNING": TOKENS,
    "POLY": {**QV, "r": 4},
    "PREFIX_TUNING": TOKENS,
    "PROMPT_TUNING": TOKENS,
    "SHADOW": QV,
    "XLORA": {},
}
KINDS = {name: ("LORA", {"r": 4, **QV, **more}) for name, more in LORA.items()} | {
    kind.lower(): (kind, more) for kind, more in OTHERS.items() if kind in PEFT_TYPE_TO_CONFIG_MAPPING
}

SLOW = {"adamss"}  # imports scikit-learn


@pytest.fixture(scope="module")
def llama():
    return tiny.plain(tiny.llama())


@pytest.fixture(scope="module")
def saved(llama, tmp_path_factory):
    """A function from a kind's name to its folder and the log-probabilities of the ids in PEFT alone."""
    folders = {}

    def save(name: str) -> tuple[str, list[float]]:
        if name not in folders:
            folders[name] = made(copy.deepcopy(llama), tmp_path_factory.mktemp(name), *KINDS[name])
        return folders[name]

    return save


def made(model, folder, kind: str, options: dict) -> tuple[str, list[float]]:
    torch.manual_seed(1)
    tuned = peft.get_peft_model(
        copy.deepcopy(model), PEFT_TYPE_TO_CONFIG_MAPPING[kind](**options, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    tuned.save_pretrained(folder)
    torch.manual_seed(2)
    alone = peft.PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    given, target = tiny.prompts(12, 6)
    return str(folder), tiny.target_logprobs(alone, given, target)


def spoken(engine, folder: str | None) -> list[float]:
    """The engine's log-probabilities of the same ids."""
    given, target = tiny.prompts(12, 6)
    return engine.score(engine.open([given], folder), [[((), target)]])[0][0]


def near(actual: list[float], wanted: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(actual, wanted, strict=True)) < NEAR


def test_every_kind_of_peft_is_used_or_refused_here():
    assert set(PEFT_TYPE_TO_CONFIG_MAPPING) <= {"LORA", *OTHERS, *REFUSED}


@pytest.fixture(scope="module")
def engine(llama):
    """One engine, on which every kind is loaded after the others."""
    return tiny.engine(llama)


@pytest.fixture(scope="module")
def bare(llama):
    return spoken(tiny.engine(llama), None)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in KINDS]
)
def test_each_kind_says_what_it_says_in_peft_and_so_does_another_after_it(engine, bare, saved, name):
    (other, of_other), (folder, wanted) = saved("head_saved"), saved(name)
    assert not near(wanted, bare), "the adapter does something"
    for worn, expected in ((folder, wanted), (other, of_other), (None, bare), (folder, wanted)):
        assert near(spoken(engine, worn), expected)


def test_the_order_of_loading_changes_nothing(llama, bare, saved):
    names = ["plain", "dora", "head_saved", "tokens", "embedding", "olora", "vera", "ia3"]
    for order in (names, names[::-1]):
        engine = tiny.engine(llama)
        for name in (*order, *order[::2]):
            folder, wanted = saved(name)
            assert near(spoken(engine, folder), wanted)
        assert near(spoken(engine, None), bare)


@pytest.mark.parametrize("name", ["plain", "dora", "head_saved", "parameters", "olora", "loha"])
def test_over_packed_weights_an_adapter_says_the_same(llama, saved, name):
    folder, _ = saved(name)
    short = copy.deepcopy(llama).to(torch.bfloat16)
    packed, plain = tiny.engine(short), tiny.engine(short)
    assert pack(packed.model) > 0
    bare = spoken(packed, None)
    actual, wanted = spoken(packed, folder), spoken(plain, folder)
    assert max(abs(a - b) for a, b in zip(actual, wanted, strict=True)) < 0.15 < abs(sum(bare) - sum(wanted))
    assert spoken(packed, None) == bare


@pytest.mark.parametrize("kind", sorted(REFUSED.keys() & PEFT_TYPE_TO_CONFIG_MAPPING.keys()))
def test_kinds_that_look_beyond_a_token_are_refused_and_nothing_stays(llama, saved, tmp_path, kind):
    (folder, wanted), refused = saved("plain"), tmp_path / "refused"
    refused.mkdir()
    options = {"peft_type": kind, "task_type": "CAUSAL_LM", **REFUSED[kind]}
    (refused / "adapter_config.json").write_text(json.dumps(options))
    save_file({"x": torch.zeros(1)}, refused / "adapter_model.safetensors")
    engine = tiny.engine(llama)
    for _ in range(2):
        assert f"its peft_type {kind}" in refusal(engine, refused)
    assert near(spoken(engine, folder), wanted)


def refusal(engine, folder) -> str:
    """The sentence with which the engine refuses the adapter."""
    with pytest.raises(ValueError) as caught:
        engine.open([[1]], str(folder))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700 and str(folder) in text
    return text


def changed(folder, copied, config: dict, tensors: dict) -> str:
    """A copy of an adapter's folder with keys and tensors changed; None removes one."""
    copied.mkdir(parents=True)
    raw = json.loads((folder / "adapter_config.json").read_text()) | config
    weights = load_file(folder / "adapter_model.safetensors") | tensors
    (copied / "adapter_config.json").write_text(json.dumps(raw))
    save_file({k: v for k, v in weights.items() if v is not None}, copied / "adapter_model.safetensors")
    return str(copied)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"megatron_config": {"x": 1}, "megatron_core": "no.such.module"}, "names code to import"),
        ({"init_lora_weights": "corda", "corda_config": {"cache_file": "x"}}, "names files to read"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
        ({"peft_type": "NEWER"}, "NEWER"),
        ({"r": 10**9}, "expected at most"),
        ({"r": 100}, "has shape"),
        ({"rank_pattern": {"q_proj": 10**9}}, "expected at most"),
        ({"target_modules": ["no_such"]}, "no_such"),
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"target_modules": 7}, "could not be read"),
        ({"r": "four"}, "does not fit"),
    ],
)
def test_an_adapter_that_would_be_read_otherwise_is_refused_in_one_sentence(llama, saved, tmp_path, config, expected):
    folder, wanted = saved("plain")
    engine = tiny.engine(llama)
    assert expected in refusal(engine, changed(Path(folder), tmp_path / "changed", config, {}))
    assert near(spoken(engine, folder), wanted)


def test_an_adapter_that_replaces_whole_layers_is_refused_since_steering_would_miss_them(llama, tmp_path):
    options = {"target_modules": ["q_proj"], "layers_to_transform": [0], "modules_to_save": ["layers.1"]}
    folder, _ = made(llama, tmp_path, "LORA", options)
    assert "replaces whole layers" in refusal(tiny.engine(llama), folder)


def test_an_adapters_regular_expressions_are_tried_under_a_time_limit(llama, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_work, "CPU_S", 1)
    folder, engine = saved("plain")[0], tiny.engine(llama)
    path = changed(Path(folder), tmp_path / "slow", {"target_modules": "(.+)+x"}, {})
    assert "takes more than 1 s" in refusal(engine, path)
    path = changed(Path(folder), tmp_path / "fine", {"target_modules": r".*\.(q|v)_proj"}, {})
    assert near(spoken(engine, path), saved("plain")[1])
