"""`key=value` overrides from a command line, laid over the data of a YAML file."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, get_origin

import yaml
from pydantic import AfterValidator, BaseModel

from scenarios.messages import composed
from scenarios.suggestions import nearest
from scenarios.yaml_files import (
    Document,
    Key,
    Loader,
    ScenarioError,
    added_keys,
    annotation_at,
    construct,
    fields_of,
    shown,
    unknown_key,
)

PLAIN = "text (a date in quotes), a finite number, true, false, null, or lists and mappings by text of such"


def override(
    document: Document, items: Sequence[str], model: type[BaseModel], whole: Mapping[str, int] | None = None
) -> Document:
    """The document with dotted `key=value` items laid over it; values are YAML, and digits are indices of lists.

    `whole` maps sections within which keys contain dots to the number of keys that stand before those. Raises
    ScenarioError where an item has no `=`, or where the model does not have its key.
    """
    data = copy.deepcopy(document.data)
    paths = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            raise ScenarioError("is not of the form key=value", where=f"override {item!r}")
        depth = (whole or {}).get(name.strip().partition(".")[0], 0)
        path = tuple(name.strip().split(".", depth)) if depth else ()
        path = path if len(path) > depth > 0 else _override_path(name.strip(), data, model, item)
        _assign(data, path, _value(text, item), item)
        paths.append((path, item))
    return replace(document, data=data, overrides=document.overrides + tuple(paths))


def takes(document: Document, key: str, model: type[BaseModel]) -> bool:
    """Whether the document has a place for the dotted key, so that an override of it is not refused."""
    try:
        _override_path(key, document.data, model, key)
    except ScenarioError:
        return False
    return True


def as_items(values: Mapping[str, Any]) -> list[str]:
    """The values by dotted key, as items for `override`. Raises ScenarioError for a value that is no `Plain`."""
    for key, value in values.items():
        if not _is_plain(value):
            raise ScenarioError(f"is {shown(value)}; expected {PLAIN}", (key,))
    return [f"{key}={override_text(value)}" for key, value in values.items()]


def override_text(value: Any) -> str:
    """A plain value as an override writes it: as JSON, which is also YAML."""
    return json.dumps(value, ensure_ascii=False)


def _is_plain(value: Any) -> bool:
    """Whether JSON preserves the value, unlike a date, bytes, a set, a number that is not finite, or a key that is no
    text.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError):
        return False


def _plain(value: Any) -> Any:
    if not _is_plain(value):
        raise ValueError(f"expected {PLAIN}")
    return value


Plain = Annotated[Any, AfterValidator(_plain)]  # a value that `as_items` takes


def _value(text: str, item: str) -> Any:
    try:
        loader = Loader(text)  # a SafeLoader
        node = loader.get_single_node()
        return None if node is None else composed(construct(loader, node, f"override {item!r}"))
    except ScenarioError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise ScenarioError(f"the value is not valid YAML: {problem}", where=f"override {item!r}") from None


def _override_path(name: str, data: Any, model: type[BaseModel], item: str) -> Key:
    path: Key = ()
    parts = name.split(".")
    for part in parts:
        annotation, holder = annotation_at(model, path), _get(data, path)
        if fields := fields_of(annotation):
            if part not in fields and part not in added_keys(annotation):
                raise ScenarioError(unknown_key(part, annotation), (*path, part), f"override {item!r}")
            path = (*path, part)
        elif get_origin(annotation) is list:
            count = len(holder) if isinstance(holder, list) else 0
            if not part.isdigit() or int(part) >= count:
                problem = f"is no entry; expected the number of one of {count}, counted from 0"
                raise ScenarioError(problem, (*path, part), f"override {item!r}")
            path = (*path, int(part))
        elif get_origin(annotation) is dict:
            known = holder if isinstance(holder, dict) else {}
            if part not in known and len(path) + 1 < len(parts):
                raise ScenarioError(f"is not in the file{nearest(part, known)}", (*path, part), f"override {item!r}")
            path = (*path, part)
        else:
            raise ScenarioError("is a single value and has no keys within", path, f"override {item!r}")
    return path


def _get(data: Any, path: Key) -> Any:
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        else:
            data = data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None
    return data


def _assign(data: Any, path: Key, value: Any, item: str) -> None:
    for depth, part in enumerate(path):
        if not _has_such_keys(data, part):
            raise ScenarioError(f"is {shown(data)}, which has no keys", path[:depth], f"override {item!r}")
        if depth == len(path) - 1:
            data[part] = value
        else:
            if isinstance(part, str):
                data.setdefault(part, {})
            data = data[part]


def _has_such_keys(data: Any, part: str | int) -> bool:
    return isinstance(data, dict if isinstance(part, str) else list)
