"""Types of values that several kinds of file share: what they accept, and the messages for what they refuse."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from scenarios.endpoints import PROVIDERS
from scenarios.input_files import exists, home_expanded


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
    if text in PROVIDERS:
        return text
    if not text.startswith(("http://", "https://")):
        raise ValueError(f"expected a URL that starts with http:// or https://, or one of {', '.join(PROVIDERS)}")
    parts = urlsplit(text)
    try:
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise ValueError("expected a URL whose port is a number") from None
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            "expected a URL without a name, password or query; a key belongs in OPENAI_API_KEY, or in the variable "
            "that api_key_env names"
        )
    return text


Text = Annotated[str, Field(min_length=1)]
Endpoint = Annotated[str, AfterValidator(_endpoint)] | None
ApiKeyEnv = Annotated[
    Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None,
    Field(description="name of the environment variable that holds the endpoint's key; null for the provider's own"),
]
Connections = Annotated[
    Annotated[int, Field(ge=1, le=256)] | None,
    Field(description="most requests at a time to the endpoint; null for 16, or 64 where it works like a local engine"),
]


class Price(Strict):
    """What an endpoint's tokens cost, in any currency."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="of a million tokens that the model reads"
    )
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(description="of a million that it writes")


TokenPrice = Annotated[
    Price | None, Field(description="price of a million of the endpoint's tokens, {input, output}; null: unknown")
]
Words = Annotated[str, AfterValidator(_spoken)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def model_anywhere(model: str) -> str:
    """The name of a model with absolute paths for a local folder and adapter."""
    base, colon, adapter = model.partition(":")
    return f"{base if base in ('embedded', HUMAN) else absolute(base)}{colon}{absolute(adapter)}"


def absolute(path: str) -> str:
    """The absolute path where a file or folder exists there; otherwise the text unchanged."""
    place = home_expanded(path)
    return str(place.resolve()) if path and exists(place) else path


Count = Annotated[int, Field(ge=1)]
Entry = TypeVar("Entry")
Some = Annotated[list[Entry], Field(min_length=1)]
