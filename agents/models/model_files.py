"""A model's folder, checked before a library reads it: it names no code and no other place, and its sizes are real.

Libraries believe a config: they would build a billion layers, or read the folder that an adapter's config names. Here
the numbers of a config are compared with the headers of the weights, which cannot promise more than the file holds.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from agents.models.bounded import READING_ERRORS, bounded
from scenarios.messages import reason

MEGABYTE = 10**6
MOST_BYTES = {  # of the files that are read whole
    "config.json": MEGABYTE,
    "generation_config.json": MEGABYTE,
    "tokenizer_config.json": 50 * MEGABYTE,
    "special_tokens_map.json": 50 * MEGABYTE,
    "added_tokens.json": 50 * MEGABYTE,
    "model.safetensors.index.json": 100 * MEGABYTE,
    "tokenizer.json": 500 * MEGABYTE,
    "chat_template.jinja": MEGABYTE,
}
CODE = ("megatron_config", "custom_generate", "_adapter_model_path")  # keys that name code or another folder
KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
DTYPE = re.compile(r"(torch\.)?\w+")
# parts of keys whose numbers are no sizes: places in a text, ids, seeds, frequencies
NO_SIZES = ("position", "ctx", "seq", "length", "window", "token", "theta", "seed", "max", "chunk", "context", "freq")
ALWAYS_FINE = 2**16
MOST_LAYERS, MOST_SIZE = 10_000, 2**24  # where there are no weights yet
QUANTISED = 16  # most weights that an element of a quantised file holds
GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of GGUF's plain types
GGUF_STRING, GGUF_ARRAY = 8, 9


@dataclass(frozen=True)
class Weights:
    """What the headers of a folder's weights say."""

    tensors: int
    elements: int
    largest: int  # size of a tensor in one of its dimensions


def check_folder(name: str, folder: str) -> Weights:
    """The headers of the folder's weights. A folder that has not changed is read once.

    Raises ValueError where a file is too large or no JSON, names code or another place, or has numbers that no weights
    of this folder have.
    """
    entries = (entry for entry in Path(folder).iterdir() if entry.is_file())
    return _checked(
        name, folder, tuple((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
    )


@functools.lru_cache(maxsize=64)
def _checked(name: str, folder: str, files_as_they_are: tuple) -> Weights:
    path = Path(folder)
    if (path / "adapter_config.json").exists():
        raise ValueError(
            f"model {name!r}: {folder} holds an adapter_config.json, which names another folder to read; expected a "
            "base model, with the adapter's folder behind it (BASE:ADAPTER)"
        )
    try:
        files = {file: _read(path / file, most) for file, most in MOST_BYTES.items() if (path / file).is_file()}
        config = files.get("config.json", {})
        for file, data in files.items():
            _check_keys(file, data)
        _check_places(path, files)
        if patterns := sorted(set(_patterns(files.get("tokenizer.json", {})))):
            check_patterns(patterns)
        headers = _headers(path)
        for key, number in _numbers(config):
            if "layer" in key:
                most = headers.tensors or MOST_LAYERS
            else:
                most = max(headers.largest if headers.tensors else MOST_SIZE, ALWAYS_FINE)
            if number > most and not any(part in key for part in NO_SIZES):
                raise ValueError(f"config.json: {key} is {number}, expected at most {most}, as the weights have")
    except READING_ERRORS as error:
        raise ValueError(
            f"model {name!r} could not be loaded ({reason(error, 300)}); expected a folder that transformers saved"
        ) from error
    return headers


def check_parameters(outline: Any, weights: Weights) -> None:
    """Raises ValueError where a model, of which `outline` has the shapes, has more weights than its files."""
    most = weights.elements * (QUANTISED if getattr(outline.config, "quantization_config", None) else 1)
    parameters = sum(parameter.numel() for parameter in outline.parameters())
    buffers = sum(buffer.numel() for buffer in outline.buffers())
    if parameters > most or buffers > most + 2**26:
        raise ValueError(f"its config asks for {max(parameters, buffers)} weights, and its files hold {most}")


def _read(path: Path, most: int) -> Any:
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path.name} has {size} bytes, expected at most {most}")
    text = path.read_bytes()
    if path.suffix != ".json":
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} is a {type(data).__name__}, expected a mapping")
    return data


def _check_keys(file: str, data: Any) -> None:
    """Raises ValueError for keys that name code, at any depth of a config."""
    if file == "tokenizer.json" or not isinstance(data, Mapping):
        return
    for key, value in data.items():
        if key in CODE and value:
            raise ValueError(f"{file}: {key} names code or another folder, expected none")
        if key in KERNELS and isinstance(value, str) and "/" in value:
            raise ValueError(f"{file}: {key} names code of the hub ({value!r}), expected none")
        if key in ("dtype", "torch_dtype") and isinstance(value, str) and not DTYPE.fullmatch(value):
            raise ValueError(f"{file}: {key} is {value!r}, expected a type of torch, as bfloat16")
        if file != "model.safetensors.index.json":
            _check_keys(file, value)


def _check_places(path: Path, files: Mapping[str, Any]) -> None:
    """Raises ValueError for files outside the folder that its own files name."""
    for file in files.get("model.safetensors.index.json", {}).get("weight_map", {}).values():
        if os.path.basename(file) != file:
            raise ValueError(f"model.safetensors.index.json names {file!r}, expected files of this folder")
    tokenizer = files.get("tokenizer_config.json", {})
    for file in tokenizer.get("fast_tokenizer_files") or ():
        if os.path.basename(file) != file:
            raise ValueError(
                f"tokenizer_config.json: fast_tokenizer_files names {file!r}, expected files of this folder"
            )
    for key, file in tokenizer.items():  # a path of whoever saved it is common, and not used where the file is here
        if key.endswith("_file") and key != "special_tokens_map_file" and isinstance(file, str):
            base = os.path.basename(file)
            if base != file and not any(
                (path / here).is_file() for here in (base, "tokenizer.json", "tokenizer.model")
            ):
                raise ValueError(f"tokenizer_config.json: {key} is {file!r}, expected a file of this folder")


def check_patterns(patterns: list[str]) -> None:
    """Raises ValueError for a tokenizer's regular expressions whose time is not about linear in a text's length.

    Its engine (Oniguruma) tries alternatives one after the other, and gives up a match after ten million.
    """
    for pattern in patterns:
        if repeats_repeats(pattern):
            raise ValueError(f"tokenizer.json: {pattern[:100]!r} repeats what is repeated, expected a plain pattern")
    try:
        bounded("split", patterns=patterns)
    except ValueError as error:
        raise ValueError(f"tokenizer.json: its patterns could not be tried on long words ({error})") from None


def _patterns(data: Any) -> Iterator[str]:
    """Every regular expression in a tokenizer's steps."""
    if isinstance(data, Mapping):
        if isinstance(data.get("Regex"), str):
            yield data["Regex"]
        for key, value in data.items():
            if key not in ("vocab", "merges", "added_tokens"):
                yield from _patterns(value)
    elif isinstance(data, list):
        for value in data:
            yield from _patterns(value)


def repeats_repeats(pattern: str) -> bool:
    """Whether a group that holds a repetition without end is itself repeated, as in (a+)+."""
    parts = re.finditer(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*+\]|[()]|[*+]|\{\d+,?\d*\}", pattern, re.DOTALL)
    endless, closed = [False], False  # of each open group; of the group that was closed just before, at its end
    end = -1
    for part in parts:
        text = part[0]
        repeats = text in "*+" or (text[0] == "{" and text[-2] == ",")
        if text == "(":
            endless.append(False)
        elif text == ")" and len(endless) > 1:
            closed, end = endless.pop(), part.end()
            endless[-1] |= closed
        elif repeats:
            if closed and part.start() == end:
                return True
            endless[-1] = True
    return False


def _numbers(data: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in the data with its key; those in lists have the list's key."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _numbers(value, str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _numbers(value, key)
    elif isinstance(data, (int, float)):
        yield key, data


def _headers(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    tensors, elements, largest = 0, 0, 1
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # no mapping
                    shape = opened.get_slice(name).get_shape()
                    tensors, elements = tensors + 1, elements + math.prod(shape)
                    largest = max(largest, *shape, 1)
        except SafetensorError as error:
            raise ValueError(f"{file.name}: {error}") from None
    return Weights(tensors, elements, largest)


# -- GGUF


def check_gguf(file: Path) -> None:
    """Raises ValueError where a GGUF file's header does not fit into the file, or promises more than the file holds."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        try:
            magic, version, tensors, keys = struct.unpack("<4sIQQ", stream.read(24))
            if magic != b"GGUF" or version not in (2, 3):
                raise ValueError(f"begins with {magic!r} and version {version}, expected GGUF of version 2 or 3")
            if max(tensors, keys) > size:
                raise ValueError(f"promises {tensors} tensors and {keys} keys in {size} bytes")
            for _ in range(keys):
                key = _gguf_string(stream, size)
                value = _gguf_value(stream, size, *struct.unpack("<I", stream.read(4)))
                if key.endswith(b".block_count") and isinstance(value, int) and value > tensors:
                    raise ValueError(f"{key.decode(errors='replace')} is {value}, and it has {tensors} tensors")
            ends = [_gguf_tensor(stream, size) for _ in range(tensors)]
        except struct.error:
            raise ValueError(f"is cut off in its header: it has {size} bytes") from None
        rest = size - stream.tell()
        if max(ends, default=0) > rest:
            raise ValueError(f"is cut off: its tensors need {max(ends)} bytes behind the header, and it has {rest}")


def _gguf_string(stream: BinaryIO, size: int) -> bytes:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > size - stream.tell():
        raise ValueError(f"is cut off in its header: a text of {length} bytes, in a file of {size}")
    return stream.read(length)


def _gguf_value(stream: BinaryIO, size: int, kind: int) -> Any:
    """Reads a value; numbers of one kind are skipped at once."""
    if kind == GGUF_STRING:
        return _gguf_string(stream, size)
    if kind == GGUF_ARRAY:
        inner, count = struct.unpack("<IQ", stream.read(12))
        if count > size:
            raise ValueError(f"is cut off in its header: a list of {count} values, in a file of {size} bytes")
        if inner in GGUF_SIZES:
            stream.seek(count * GGUF_SIZES[inner], os.SEEK_CUR)
        else:
            for _ in range(count):
                _gguf_value(stream, size, inner)
        return None
    if kind not in GGUF_SIZES:
        raise ValueError(f"has a value of type {kind}, expected 0 to 12")
    data = stream.read(GGUF_SIZES[kind])
    if len(data) < GGUF_SIZES[kind]:
        raise struct.error
    return int.from_bytes(data, "little")


def _gguf_tensor(stream: BinaryIO, size: int) -> int:
    """Reads a tensor's entry and returns where its data ends, in bytes behind the header."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    _gguf_string(stream, size)
    (dimensions,) = struct.unpack("<I", stream.read(4))
    if dimensions > 8:
        raise ValueError(f"has a tensor of {dimensions} dimensions, expected at most 8")
    *shape, kind, offset = struct.unpack(f"<{dimensions}QIQ", stream.read(8 * dimensions + 12))
    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return offset + math.prod(shape) // block * block_bytes
