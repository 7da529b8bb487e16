"""A model's name, and what is said where it means nothing that can be had."""

from __future__ import annotations

import json

import pytest
import tiny
import torch

from agents.models import loading
from agents.models.loading import ModelName, choose_device, choose_dtype, load, local_folder, parse
from agents.models.packed_linear import pack


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def adapter_folder(path):
    path.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (path / file).write_text("{}")
    return path


# -- names


def test_names_come_apart_into_base_revision_and_adapter(tmp_path):
    adapter = adapter_folder(tmp_path / "lora")
    (tmp_path / "base@home").mkdir()
    assert parse("embedded") == ModelName("embedded")
    assert parse("org/name") == ModelName("org/name")
    assert parse("org/name@v1") == ModelName("org/name", "v1")
    assert parse(f"org/name@v1:{adapter}") == ModelName("org/name", "v1", str(adapter))
    assert parse(f"embedded:{adapter}") == ModelName("embedded", None, str(adapter))
    assert parse(f"{tmp_path}/base@home") == ModelName(f"{tmp_path}/base@home")  # a folder that is there is a folder


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nowhere", "~/no-such-model", "missing.gguf", "/no/such/file.gguf"]
)
def test_a_path_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match="there is no") as error:
        parse(name)
    assert name in one_sentence(error)


def test_a_name_without_a_base_is_refused():
    with pytest.raises(ValueError, match="names no base"):
        parse(":adapter")


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_folder_lacking_a_file_is_refused_by_that_files_name(tmp_path, missing):
    adapter = adapter_folder(tmp_path / "lora")
    (adapter / missing).unlink()
    (adapter / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ValueError, match=missing) as error:
        parse(f"embedded:{adapter}")
    one_sentence(error)


# -- what cannot be had


def test_without_the_embedded_package_its_install_command_is_said(monkeypatch):
    monkeypatch.setattr(loading, "EMBEDDED_PACKAGE", "no_such_package")
    for ask in (lambda: loading.check("embedded"), lambda: local_folder("embedded")):
        with pytest.raises(ValueError) as error:
            ask()
        assert loading.EMBEDDED_INSTALL in one_sentence(error)


@pytest.mark.parametrize("name", ["some-org/some-model", "some-org/some-model@v2", "not a hub id"])
def test_an_unknown_hub_id_offline_is_refused_with_what_to_set(monkeypatch, name, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for ask in (loading.check, local_folder):
        with pytest.raises(ValueError) as error:
            ask(name)
        assert all(
            word in one_sentence(error) for word in (name.partition("@")[0], "HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE")
        )


def test_a_folder_of_pickled_weights_is_refused_unread(tmp_path):
    (tmp_path / "config.json").write_text(tiny.llama().to_json_string())
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    for ask in (loading.check, load):
        with pytest.raises(ValueError, match="safetensors") as error:
            ask(str(tmp_path))
        assert str(tmp_path) in one_sentence(error)


def test_a_folder_without_a_config_and_a_file_that_is_no_gguf_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    for ask in (loading.check, local_folder):
        with pytest.raises(ValueError, match=r"config.json"):
            ask(str(tmp_path))
        with pytest.raises(ValueError, match=r"no .gguf file"):
            ask(str(tmp_path / "model.safetensors"))


def test_layers_that_remember_something_else_than_keys_are_refused():
    loading.check_layers("tiny", tiny.CONFIGS["gemma3"]())
    config = tiny.llama()
    config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ValueError, match="linear_attention"):
        loading.check_layers("tiny", config)


# -- what can


def test_the_embedded_package_is_converted_once(monkeypatch, embedded):
    """The session's engine has it converted already."""

    def not_again(*_):
        raise AssertionError("converted again")

    monkeypatch.setattr(loading, "_dequantise", not_again)
    folder = loading.Path(local_folder("embedded"))
    assert loading.cache_folder() in folder.parents
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 30


def test_a_gguf_file_is_converted_again_only_when_it_changes(monkeypatch, tmp_path):
    converted = []

    def dequantise(file, folder):
        converted.append(file)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(loading, "_dequantise", dequantise)
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "small.gguf"
    file.write_bytes(b"one")
    first, again = local_folder(str(file)), local_folder(str(file))
    assert first == again and len(converted) == 1
    file.write_bytes(b"another")
    assert local_folder(str(file)) != first and len(converted) == 2


def test_a_conversion_that_fails_leaves_no_folder_behind(monkeypatch, tmp_path):
    def half(file, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise OSError("disk full")

    monkeypatch.setattr(loading, "_dequantise", half)
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "small.gguf"
    file.write_bytes(b"one")
    with pytest.raises(ValueError, match="disk full"):
        local_folder(str(file))
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_a_changed_embedded_file_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"tampered")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "embedded_file", lambda: file)
    with pytest.raises(ValueError, match="sha256"):
        local_folder("embedded")


def test_a_folder_saved_by_transformers_loads_by_its_path(tmp_path, embedded):
    tiny.plain(tiny.llama(vocab_size=len(embedded.tokenizer))).save_pretrained(tmp_path)
    embedded.tokenizer.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), "float32", "cpu")
    assert (loaded.info.context, loaded.info.dtype, loaded.info.device) == (512, "float32", "cpu")
    assert loaded.info.format == embedded.info().format
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())


def test_the_embedded_model_stops_at_its_templates_end_of_turn(embedded):
    assert embedded.loaded.stop_ids >= {embedded.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert (embedded.info().context, embedded.info().dtype) == (8192, "float32")


# -- device and dtype


def test_auto_takes_a_gpu_where_there_is_one_and_bfloat16_where_it_is_fast(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_device("auto") == "cuda" and choose_dtype("auto", "cuda") == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert choose_dtype("auto", "cuda:0") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu" and choose_device("cpu") == "cpu"
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        assert choose_dtype("auto", "cpu") == dtype
    assert choose_dtype("float16", "cpu") == torch.float16


def test_devices_and_dtypes_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for ask, word in (
        (lambda: choose_device("cuda"), "no CUDA"),
        (lambda: choose_device("gpu"), "gpu"),
        (lambda: choose_dtype("int8"), "int8"),
    ):
        with pytest.raises(ValueError, match=word):
            ask()


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_files_are_refused_in_one_sentence(tmp_path, embedded, damaged):
    tiny.plain(tiny.llama()).save_pretrained(tmp_path)
    embedded.tokenizer.save_pretrained(tmp_path)
    (tmp_path / damaged).write_bytes(b"{ cut off")
    with pytest.raises(ValueError) as refused:
        load(str(tmp_path))
    assert str(tmp_path) in str(refused.value) and "could not be loaded" in one_sentence(refused)


def test_packed_weights_give_the_same_products():
    """bfloat16 on the CPU: the same numbers, whatever the number of tokens; with gradients on, the plain weights are
    used.
    """
    torch.manual_seed(0)
    plain, packed = (torch.nn.Sequential(torch.nn.Linear(64, 96, bias=False, dtype=torch.bfloat16)) for _ in range(2))
    packed.load_state_dict(plain.state_dict())
    assert pack(packed) == 1
    for tokens in (1, 7, 64):
        x = torch.randn(1, tokens, 64, dtype=torch.bfloat16)
        with torch.inference_mode():
            assert torch.allclose(plain(x).float(), packed(x).float(), atol=2e-2)
        assert torch.equal(plain(x), packed(x))
    assert pack(tiny.plain(tiny.llama())) == 0, "float32 is left as it is"
