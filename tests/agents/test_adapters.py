"""LoRA adapters on one base: worn in turn by the branches of one call, in float32."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny import close

from agents.engine.protocol import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = Sampling(seed=0, max_tokens=30, temperature=0, top_k=0)


@pytest.fixture(scope="module")
def llama():
    return tiny.plain(tiny.llama())


@pytest.fixture(scope="module")
def adapters(llama, tmp_path_factory):
    """Two LoRA folders, and what PEFT itself says with each."""
    return {name: lora(tiny.plain(tiny.llama()), tmp_path_factory.mktemp(name), seed) for seed, name in enumerate("AB")}


def lora(model, folder, seed: int):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    worn = get_peft_model(
        model,
        LoraConfig(
            r=4,
            lora_alpha=16,
            target_modules=["q_proj", "v_proj", "down_proj"],
            lora_dropout=0.5,
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        ),
    ).eval()
    worn.save_pretrained(str(folder))
    return str(folder), worn


def test_branches_under_several_adapters_in_one_call_equal_each_alone_and_peft(llama, adapters):
    engine, [prompt, target] = tiny.engine(llama), tiny.prompts(20, 8)
    folders, models = [adapters["A"][0], None, adapters["B"][0]], [adapters["A"][1], llama, adapters["B"][1]]
    together = [engine.open([prompt], folder)[0] for folder in folders]
    scores = engine.score(together, [[((), target)]] * 3)
    samples = engine.generate(together, [GREEDY] * 3)
    for folder, model, score, sample in zip(folders, models, scores, samples, strict=True):
        assert list(sample.token_ids) == tiny.greedy(model, prompt, 30)
        assert close(score[0], tiny.target_logprobs(model, prompt, target))
        alone = tiny.engine(llama)
        [branch] = alone.open([prompt], folder)
        assert alone.generate([branch], [GREEDY])[0].token_ids == sample.token_ids
    assert len({sample.token_ids for sample in samples}) == 3


def test_a_fork_wears_its_sources_adapter(llama, adapters):
    engine, [prompt] = tiny.engine(llama), tiny.prompts(20)
    folder, model = adapters["A"]
    engine.open([prompt], adapters["B"][0])
    [twin] = engine.fork(engine.open([prompt], folder))
    assert list(engine.generate([twin], [GREEDY])[0].token_ids) == tiny.greedy(model, prompt, 30)


@pytest.mark.parametrize(
    "other", [{"hidden_size": 48, "num_attention_heads": 4}, {"num_hidden_layers": 4}, {"intermediate_size": 80}]
)
def test_an_adapter_for_another_base_is_refused_in_one_sentence_each_time(llama, tmp_path, other):
    folder, _ = lora(tiny.plain(tiny.llama(**other)), tmp_path, 0)
    engine, [prompt] = tiny.engine(llama), tiny.prompts(20)
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            engine.open([prompt], folder)
        assert "does not fit" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert list(engine.generate(engine.open([prompt]), [GREEDY])[0].token_ids) == tiny.greedy(llama, prompt, 30)


def test_an_adapter_folder_without_its_files_is_refused(llama, tmp_path):
    with pytest.raises(ValueError, match=r"adapter_config.json"):
        tiny.engine(llama).open([[1]], str(tmp_path / "none"))
