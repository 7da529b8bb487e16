"""Types of the values in events and manifests: what they accept, and the message for what they refuse."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from scenarios.input_files import LARGEST, content
from scenarios.yaml_files import shown

EXPECTED = {  # pydantic's error type -> what was expected, where pydantic's own words are not plain
    "bool_type": "true or false",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "text",
    "string_pattern_mismatch": "text of another form",
}


CONFIG = ConfigDict(strict=True, allow_inf_nan=False)


class Record(TypedDict):
    """A JSON object: values are not converted to another type, numbers are finite, and unknown keys are left out."""

    __pydantic_config__ = CONFIG  # pyright: ignore[reportGeneralTypeIssues]


def _moment(text: str) -> str:
    try:
        if datetime.fromisoformat(text).tzinfo:
            return text
    except ValueError:
        pass
    raise ValueError("expected a time like 2026-01-01T12:00:00.000+00:00")


Entry = TypeVar("Entry")
Many = Annotated[list[Entry], FailFast()]  # the first mistake is reported, and no more are looked for
Moment = Annotated[str, AfterValidator(_moment)]
Number = Annotated[int, Field(ge=0, lt=10_000_000)]  # of a conversation, a turn or a step
Amount = Annotated[int, Field(ge=0, lt=2**53)]  # of tokens, for example
TokenId = Annotated[int, Field(ge=0, lt=2**32)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


def read_record(file: Path, shape: TypeAdapter[Any], what: str) -> dict:
    """The JSON object in a file, of that type. Raises ValueError with the key, what is there and what was expected;
    `what` is the file's content in words, such as "the manifest of a run".
    """
    data = content(file, LARGEST, what)
    try:
        return shape.validate_python(json.loads(data))
    except RecursionError:
        raise ValueError(f"{file} is JSON nested too deep; expected {what} as the lab writes it") from None
    except ValidationError as errors:
        raise ValueError(f"{file}: {mistake(errors)}") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def mistake(errors: ValidationError) -> str:
    """The first mistake as a sentence without its file: where it is, what is there, and what was expected."""
    error: Any = errors.errors(include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"] if not _is_branch(part))
    if error["type"] == "missing":
        return f"has no {key}; expected it, as the lab writes it"
    if error["type"] == "value_error" and not key:
        return str(error["ctx"]["error"])
    return f"{f'{key} ' * bool(key)}is {shown(error['input'])}; expected {_expected(error)}"


def _is_branch(part: str | int) -> bool:
    """Whether the part of a location names a type of a union, and no key."""
    return isinstance(part, str) and (part.endswith("Started") or part in ("str", "int", "float", "bool", "none"))


def _expected(error: Any) -> str:
    if error["type"] in EXPECTED:
        return EXPECTED[error["type"]]
    if error["type"] == "value_error":
        return str(error["ctx"]["error"]).removeprefix("expected ")
    return re.sub(r"^\w+ should (be |have |match )?", "", error["msg"])
