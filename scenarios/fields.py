"""Types of values that several kinds of file share: what they accept, and the messages for what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A part of a file: unknown keys are refused, values are not converted to another type, and instances are
    frozen.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


HUMAN = "human"  # the model of a seat in which a person types


def as_list(value: Any) -> Any:
    """The value, as a list of one where it is a text."""
    return [value] if isinstance(value, str) else value


def no_repeats(values: list) -> list:
    """The values. Raises ValueError where one occurs twice."""
    if len(set(values)) < len(values):
        raise ValueError("expected each entry once")
    return values


def _spoken(text: str) -> str:
    if not text.strip():
        raise ValueError("expected words")
    return text


def _endpoint(text: str) -> str:
    if text != "openai" and not text.startswith(("http://", "https://")):
        raise ValueError("expected 'openai' or a URL that starts with http:// or https://")
    parts = urlsplit(text)
    try:
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise ValueError("expected a URL whose port is a number") from None
    if "@" in parts.netloc or parts.query:
        raise ValueError("expected a URL without a name, password or query; a key belongs in OPENAI_API_KEY")
    return text


Text = Annotated[str, Field(min_length=1)]
Endpoint = Annotated[str, AfterValidator(_endpoint)] | None
Words = Annotated[str, AfterValidator(_spoken)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def model_anywhere(model: str) -> str:
    """The name of a model with absolute paths for a local folder and adapter."""
    base, colon, adapter = model.partition(":")
    return f"{base if base in ('embedded', HUMAN) else absolute(base)}{colon}{absolute(adapter)}"


def absolute(path: str) -> str:
    """The absolute path where a file or folder exists there; otherwise the text unchanged."""
    return str(Path(path).expanduser().resolve()) if path and Path(path).expanduser().exists() else path


Count = Annotated[int, Field(ge=1)]
Entry = TypeVar("Entry")
Some = Annotated[list[Entry], Field(min_length=1)]
