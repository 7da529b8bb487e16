"""YAML files, read such that every error names the file, line and key in one sentence.

A `Document` keeps the composed YAML nodes with the plain data, because pydantic locates an error by key, and only the
nodes know lines. Overrides from the command line are laid over the data and are named in place of a line.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from yaml.parser import ParserError
from yaml.reader import ReaderError
from yaml.scanner import ScannerError

from scenarios.input_files import InputError, content
from scenarios.messages import composed, hidden
from scenarios.renames import new_value, old_key
from scenarios.suggestions import closest, did_you_mean, nearest

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
KINDS = ("[mapping]", "[text]")  # in the location of pydantic's errors: which of two types a value was checked as
FILES = {  # kind of file -> keys that no other kind has, and the command that takes it
    "sweep": ({"axes"}, "python -m lab.sweep"),
    "study": ({"claim", "stimuli", "sizes"}, "python -m lab.run"),
    "training": ({"method", "reward", "tuning", "held_out", "max_steps"}, "python -m lab.train"),
    "scenario": ({"graph"}, "python -m lab.run"),
}
LARGEST_YAML = 16 * 2**20  # bytes
MOST_NODES = 2**20  # values and keys of a file, each counted as often as an alias repeats it
SHOWN_CHARACTERS = 60  # of a value that an error message quotes
EXPECTED = {  # pydantic's error type -> what was expected, where pydantic's own words are not plain
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "text (in quotes where it looks like a number, a date, yes or no)",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text of another form",
}


class ScenarioError(ValueError):
    """An error in a file or an override; `key` is its place in the data, `where` the file and line, where known."""

    def __init__(self, problem: str, key: Key = (), where: str = ""):
        self.problem, self.key, self.where = problem, key, where
        subject = ".".join(_shortened(str(part)) for part in key)
        super().__init__(hidden(f"{where}: " * bool(where) + f"{subject} " * bool(subject) + problem))


if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, about ten times as fast


class Loader(_SafeLoader):
    """YAML 1.1 as in yaml.safe_load, except that `1e-5` is a number and not a text."""


class _Dumper(yaml.SafeDumper):
    """A dumper whose output `Loader` reads back as equal data: the text "1e-5" is quoted."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A text of several lines as a block, others as usual."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
for _kind in (Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+0123456789."),
    )


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data, with the positions of its keys."""

    name: str  # the path as it was given, for messages
    data: Any
    node: yaml.Node
    overrides: tuple[tuple[Key, str], ...] = ()

    def where(self, key: Key) -> str:
        """ "FILE, line N" of the key or its nearest ancestor in the file, or "override 'KEY=VALUE'"."""
        for path, text in reversed(self.overrides):
            if key[: len(path)] == path:
                return f"override {text!r}"
        return f"{self.name}, line {_line(self.node, key, {})}"

    def error(self, problem: str, key: Key = ()) -> ScenarioError:
        """An error at the key, with its file and line; the caller raises it."""
        return ScenarioError(problem, key, self.where(key))


def read_kind(path: str | Path, kind: str) -> Document:
    """The file as a document. Raises ScenarioError as `read_yaml` does, and where its keys are those of another kind
    of FILES.
    """
    document = read_yaml(path)
    found = kind_of(document)
    if found not in ("", kind) and not FILES[kind][0] & set(document.data):
        raise ScenarioError(
            f"is the file of a {found}, which {FILES[found][1]} takes; expected the file of a {kind}",
            where=document.name,
        )
    return document


def kind_of(document: Document) -> str:
    """The kind of FILES that the top keys of a file belong to, "" where they belong to none."""
    return next((kind for kind, (keys, _) in FILES.items() if keys & set(document.data)), "")


def read_yaml(path: str | Path) -> Document:
    """The file as a document. Raises ScenarioError where it cannot be read, is empty, or is not YAML."""
    return parse_yaml(yaml_text(path), str(path))


def yaml_text(path: str | Path) -> str:
    """The text of a YAML file. Raises ScenarioError where it cannot be read, is no regular file, or has more than
    LARGEST_YAML bytes.
    """
    try:
        return content(path, LARGEST_YAML, "a YAML file").decode()
    except UnicodeDecodeError as error:
        raise ScenarioError(f"is not UTF-8 text at byte {error.start}", where=str(path)) from None
    except InputError as error:
        raise ScenarioError(error.problem, where=str(path)) from None


def parse_yaml(text: str, name: str) -> Document:
    """A text as a document. Raises ScenarioError for invalid syntax, a repeated key, and a top level that is no
    mapping.
    """
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ScenarioError("holds no keys; expected lines of 'key: value'", where=name)
        _refuse_duplicates(node, name)
        return Document(name, composed(construct(loader, node, name)), node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        syntax = isinstance(error, ScannerError | ParserError)
        hint = "; text that holds '{', ':' or '#' needs quotes" if syntax else ""
        raise ScenarioError(f"not valid YAML: {error.problem}{hint}", where=_place(name, mark)) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ScenarioError(f"not valid YAML: {error.reason}", where=f"{name}, line {line}") from None
    except RecursionError:
        raise ScenarioError("not valid YAML: nested too deep", where=name) from None


def dump(data: Any) -> str:
    """The data as YAML, with keys in their order; `parse_yaml` reads it back as equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def validate(document: Document, model: type[Model]) -> Model:
    """The data as an instance of the model. Raises ScenarioError for the first error, unknown keys before all
    others.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as errors:
        raise _first(errors, document, model) from None


def construct(loader: Loader, node: yaml.Node, name: str) -> Any:
    """The plain data of a node. Raises ScenarioError where its aliases repeat more than MOST_NODES nodes."""
    if _node_count(node, {}) > MOST_NODES:
        problem = f"its aliases (*name) repeat more than {MOST_NODES:,} values; expected fewer, written out"
        raise ScenarioError(f"not valid YAML: {problem}", where=name)
    try:
        return loader.construct_document(node)
    except ValueError as error:  # a value that looks like a date or a number and is none
        problem = f"holds a value that YAML cannot read: {error}; expected it in quotes"
        raise ScenarioError(problem, where=name) from None


def _node_count(node: yaml.Node, counts: dict[int, float]) -> float:
    """The number of nodes of a tree, repeated ones included; infinity where a node holds itself.

    `counts` are those of nodes that were counted, so that each is looked at once.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counts:
        counts[id(node)] = inf  # until it is known: met again within itself, it has no end
        inner = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        counts[id(node)] = 1 + sum(_node_count(each, counts) for each in inner)
    return counts[id(node)]


def _place(name: str, mark: yaml.Mark | None) -> str:
    return f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name


def _refuse_duplicates(root: yaml.Node, name: str) -> None:
    todo: list[tuple[Key, yaml.Node]] = [((), root)]
    done: set[int] = set()
    while todo:
        path, node = todo.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [((*path, index), item) for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    where, first = f"{name}, line {key.start_mark.line + 1}", seen[key.value]
                    raise ScenarioError(f"is written twice (first in line {first})", (*path, key.value), where)
                seen[key.value] = key.start_mark.line + 1
                todo.append(((*path, key.value), value))


def _line(node: yaml.Node, key: Key, pairs_of: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]]) -> int:
    """The line of a key, from 1; `pairs_of` keeps the pairs of each mapping by key, for the next call."""
    line = node.start_mark.line
    for part in key:
        if isinstance(node, yaml.MappingNode):
            if id(node) not in pairs_of:
                pairs_of[id(node)] = {str(k.value): (k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode)}
            if str(part) not in pairs_of[id(node)]:
                break
            found, node = pairs_of[id(node)][str(part)]
            line = found.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def annotation_at(model: type[BaseModel], path: Key) -> Any:
    """The type of the value at the path in the model; None where the model has no such place."""
    annotation: Any = model
    for part in path:
        fields = fields_of(annotation)
        if fields is not None:
            annotation = _bare(fields[part].annotation) if part in fields else None
        elif get_origin(annotation) in (list, dict):
            annotation = _bare(get_args(annotation)[-1])
        else:
            return None
    return annotation


def _bare(annotation: Any) -> Any:
    """The annotation without `| None` and `Annotated`."""
    if hasattr(annotation, "__metadata__"):
        return _bare(annotation.__origin__)
    if get_origin(annotation) in (Union, UnionType):
        return _bare(next(kind for kind in get_args(annotation) if kind is not NoneType))
    return annotation


def unknown_key(key: object, holder: Any) -> str:
    """The message about a key that the class `holder` does not have, with its new name, why it was removed, or the
    nearest known one.
    """
    known = [*(fields_of(holder) or ()), *added_keys(holder)]
    return f"is no key of the file{old_key(holder, key) or nearest(key, known)}"


def added_keys(holder: Any) -> list[str]:
    """The keys that installed packages add to the part of a file that the class checks."""
    return holder.added_keys() if hasattr(holder, "added_keys") else []


def fields_of(annotation: Any) -> dict[str, FieldInfo] | None:
    """The fields of a pydantic model by their name in files; None for any other type."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return None
    return {field.alias or name: field for name, field in annotation.model_fields.items()}


def _first(errors: ValidationError, document: Document, model: type[BaseModel]) -> ScenarioError:
    def key_of(error: Any) -> Key:
        return tuple(part for part in error["loc"] if part not in ("[key]", *KINDS))

    pairs_of: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}

    def order(error: Any) -> tuple[bool, int]:
        return error["type"] != "extra_forbidden", _line(document.node, key_of(error), pairs_of)

    error = min(errors.errors(include_url=False), key=order)
    key = key_of(error)
    holder = annotation_at(model, key[:-1])
    fields = fields_of(holder) or {}
    if error["type"] == "extra_forbidden":
        return document.error(unknown_key(key[-1], holder), key)
    about = fields[key[-1]].description if key and key[-1] in fields else None
    note = f" ({about})" if about else ""
    if error["type"] == "missing":
        return document.error(f"is missing; expected a value{note}", key)
    choices = (
        re.findall(r"'([^']+)'", error.get("ctx", {}).get("expected", "")) if error["type"] == "literal_error" else []
    )
    name = next((part for part in reversed(key) if isinstance(part, str)), None)
    hint = new_value(name, error["input"]) or did_you_mean(closest(error["input"], choices))
    return document.error(f"is {shown(error['input'])}; expected {_expected(error)}{note}{hint}", key)


def _expected(error: Any) -> str:
    if error["type"] in EXPECTED:
        return EXPECTED[error["type"]]
    if error["type"] == "too_short":
        return f"at least {error['ctx']['min_length']} of them"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"]).removeprefix("expected ")
    return re.sub(r"^\w+ should (be |have |match )?", "", error["msg"])


def check_type(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raises ValueError where an argument is of none of the kinds."""
    if not isinstance(value, kinds):
        raise ValueError(f"{name} is {shown(value)}; expected {expected}")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def shown(value: object) -> str:
    """The value as an error message quotes it, cut at 60 characters."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case dict():
            return f"a mapping with {len(value)} keys"
        case list():
            return f"a list of {len(value)}"
        case datetime.date():
            return f"the date {value}"
    text = hidden(repr(value))  # before it is cut, since nothing finds half a secret
    return _shortened(text)
