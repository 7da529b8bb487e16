"""What a hostile or damaged model folder makes of a load: one sentence, before time or memory is spent on it."""

from __future__ import annotations

import json

import learners
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from agents.engine import actor
from agents.models import bounded_work, loading, model_files
from agents.models.bounded import bounded
from agents.models.chat_template import from_tokenizer

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model whose weights have 21 tensors, the largest size of one 128."""
    folder = tmp_path_factory.mktemp("model")
    learners.saved(tiny.llama(), folder)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """A function from a file's name and keys to a copy of the folder with them."""

    def change(file: str, keys: object):
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        changed = tmp_path / file
        old = json.loads(changed.read_text()) if changed.exists() else {}
        changed.write_text(json.dumps(old | keys if isinstance(keys, dict) else keys))
        return tmp_path

    return change


def sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    return text


@pytest.mark.parametrize(
    ("file", "keys", "expected"),
    [
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected at most 21"),
        ("config.json", {"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ("config.json", {"vocab_size": 10**9}, "vocab_size is"),
        ("config.json", {"num_labels": 10**9}, "num_labels is"),
        ("config.json", {"text_config": {"num_attention_heads": 10**9}}, "num_attention_heads is"),
        ("config.json", {"intermediate_size": float("inf")}, "intermediate_size is inf"),
        ("config.json", {"megatron_config": {"a": 1}}, "megatron_config names code"),
        ("config.json", {"text_config": {"_attn_implementation": "org/kernel"}}, "code of the hub ('org/kernel')"),
        ("config.json", {"torch_dtype": "os.system"}, "torch_dtype is 'os.system'"),
        ("config.json", ["a list"], "is a list, expected a mapping"),
        ("config.json", {"padding": "x" * 10**6}, "bytes, expected at most 1000000"),
        ("generation_config.json", {"custom_generate": "org/code"}, "custom_generate names code"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../b.safetensors"}}, "'../b.safetensors'"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../tokenizer.json"]}, "'../tokenizer.json'"),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}, None),  # its own tokenizer.json is read
        ("tokenizer.json", {"normalizer": {"pattern": {"Regex": "(a+)+$"}}}, "repeats what is repeated"),
        ("adapter_config.json", {"base_model_name_or_path": "/elsewhere"}, "names another folder to read"),
        ("config.json", {"max_position_embeddings": 10**7, "rope_theta": 1e8, "eos_token_id": 151643}, None),
    ],
)
def test_a_folder_that_promises_too_much_or_names_code_is_refused_unread(copied, file, keys, expected):
    changed = copied(file, keys)
    if expected is None:
        assert model_files.check_folder("m", str(changed)) == model_files.Weights(21, 26784, 128)
        return
    with pytest.raises(ValueError) as refused:
        model_files.check_folder("m", str(changed))
    assert expected in sentence(refused) and "m" in sentence(refused)


def test_json_that_is_nested_without_end_is_refused(copied):
    folder = copied("config.json", {})
    (folder / "config.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match=r"config.json is no JSON"):
        model_files.check_folder("m", str(folder))


def test_a_tokenizer_file_elsewhere_is_refused_where_the_folder_has_none(copied):
    folder = copied("tokenizer_config.json", {"tokenizer_file": "/elsewhere/tokenizer.json"})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"/elsewhere/tokenizer\.json"):
        model_files.check_folder("m", str(folder))


def test_a_config_that_asks_for_more_weights_than_there_are_is_refused_before_they_are_made(copied):
    with pytest.raises(ValueError, match="its config asks for") as refused:
        loading.load(str(copied("config.json", {"intermediate_size": 60_000})), "float32", "cpu")
    sentence(refused)


def test_a_folder_that_lacks_a_weight_is_refused_by_its_name(copied):
    folder = copied("config.json", {"num_hidden_layers": 3, "intermediate_size": 4, "head_dim": 2})
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "filler": torch.zeros(40_000)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError) as refused:
        loading.load(str(folder), "float32", "cpu")
    assert "could not be loaded" in sentence(refused)
    folder = copied("config.json", {})
    save_file({**weights, "lm_head.weight": torch.zeros(1, 1)} | {"more": torch.zeros(5_000)}, folder / "x.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 weights, the first of them lm_head.weight") as refused:
        loading.load(str(folder), "float32", "cpu")
    sentence(refused)


# -- GGUF


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    import gguf
    import numpy as np

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.0])
    for name in ("one", "two"):
        writer.add_tensor(name, np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_read_only_where_its_header_fits_it(gguf_file, tmp_path):
    model_files.check_gguf(gguf_file)
    whole, other = gguf_file.read_bytes(), tmp_path / "other.gguf"
    huge = (2**60).to_bytes(8, "little")
    cases = {
        "is cut off: its tensors need": whole[:-600],
        "cut off in its header": whole[:60],
        "begins with": b"GGML" + whole[4:],
        "promises": whole[:8] + huge + whole[16:],
        "a text of": whole[:24] + huge + whole[32:],
        "a list of": whole.replace(
            (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"a", huge + b"\1" * 8 + b"a"
        ),
        "block_count is 1000": whole.replace(
            b"llama.block_count" + (4).to_bytes(4, "little") + (2).to_bytes(4, "little"),
            b"llama.block_count" + (4).to_bytes(4, "little") + (1000).to_bytes(4, "little"),
        ),
    }
    for expected, data in cases.items():
        other.write_bytes(data)
        with pytest.raises(ValueError, match=expected):
            model_files.check_gguf(other)


def test_a_truncated_gguf_file_is_refused_by_its_name_and_leaves_nothing(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cut.gguf").write_bytes(gguf_file.read_bytes()[:-600])
    with pytest.raises(ValueError, match=r"cut.gguf.*is cut off") as refused:
        loading.load(str(tmp_path / "cut.gguf"))
    sentence(refused)
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


@pytest.mark.parametrize("error", [IndexError("out of range"), MemoryError("no room"), KeyError("block_count")])
def test_an_engine_that_cannot_be_made_says_why_and_does_not_die(error, monkeypatch):
    def load(*_):
        raise error

    monkeypatch.setattr(loading, "load", load)
    answer = actor.EngineHost("m", "auto", "cpu").call("info")
    assert isinstance(answer, ValueError) and type(error).__name__ in str(answer) and "'m'" in str(answer)


# -- templates


class Templated:
    """A tokenizer of which a template is asked."""

    bos_token_id = eos_token_id = None
    name_or_path, special_tokens_map = "templated", {"eos_token": "</s>"}

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def get_chat_template(self) -> str:
        return self.chat_template


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more than 1 s"),
        ("{% for i in range(10**9) %}{% endfor %}", "OverflowError: Range too big"),
        ("{{ 'a' * 10**10 }}", "MemoryError"),
        ("{% set a = 'a' %}{{ a * 10**7 }}", "writes 10000000 characters"),
        ("{{ raise_exception('not for you') }}", "TemplateError: not for you"),
        ("{{ messages[9].content.x }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "SecurityError"),
    ],
)
def test_a_template_that_does_not_end_or_raises_is_refused_by_its_own_reason(template, expected, monkeypatch):
    monkeypatch.setattr(bounded_work, "CPU_S", 1)
    with pytest.raises(ValueError) as refused:
        from_tokenizer(Templated(template))
    assert expected in sentence(refused) and "the chat template of templated" in sentence(refused)


def test_a_template_is_rendered_as_transformers_renders_it():
    template = (
        "{%- set n = namespace(k=1) -%}{% for m in messages %}\n    [{{ m.role }}]{% if loop.index > 2 %}{% break %}"
        "{% endif %}\n  {% generation %}{{ m['content'] | tojson }}{{ n.k }}{% set n.k = n.k + 1 %}"
        "{% endgeneration %}\n{% endfor %}{{ dict(a=1).items() | list }}{{ eos_token }}{{ x is defined }}"
    )
    tokenizer = learners.tokenizer(128)
    tokenizer.chat_template = template
    messages = [{"role": role, "content": f"<{role}> é"} for role in ("user", "assistant", "user")]
    [result] = bounded(
        "rendered",
        template=template,
        variables={**tokenizer.special_tokens_map, "tools": None, "documents": None},
        dialogues=[{"messages": messages, "add_generation_prompt": False}],
        day="2024-07-26",
    )
    assert result["text"] == tokenizer.apply_chat_template(messages, tokenize=False) != ""


# -- regular expressions of tokenizers


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(a+)+$", True),
        ("(?:a|b*)*", True),
        ("((a+)b)*", True),
        ("(a{2,})*", True),
        ("((a+)?)+", True),
        (LLAMA_3, False),
        (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", False),
        ("[(a+)]+", False),
        (r"\(a+\)+", False),
        ("(a+){3}", False),
        ("[]a+()]+(b)+", False),
    ],
)
def test_a_repetition_of_repetitions_is_seen(pattern, expected):
    assert model_files.repeats_repeats(pattern) == expected


def test_patterns_that_take_long_on_long_words_are_refused():
    model_files.check_patterns([LLAMA_3])
    for pattern, reason in (("a*a*a*a*b", "tried on long words"), ("(ab|ab)*c", "tried on long words"), ("(", "tried")):
        with pytest.raises(ValueError, match=reason) as refused:
            model_files.check_patterns([pattern])
        sentence(refused)
