"""The keys of a study file: which claim is tested on which model, at which size, with which stimuli.

The numbers of a size differ by study: they are the keyword arguments of its `study` function in `metrics/studies/`, for
which the caller passes a pydantic model to `load_study`. The schema of the stimuli file differs likewise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, create_model

from scenarios.fields import ApiKeyEnv, Endpoint, Strict, Text, absolute, model_anywhere
from scenarios.input_files import is_file
from scenarios.overrides import override
from scenarios.suggestions import nearest, nearest_path
from scenarios.yaml_files import Document, dump, kind_of, read_kind, read_yaml, validate, yaml_text

Size = Literal["smoke", "default", "full"]
SIZES: tuple[Size, ...] = get_args(Size)
KEY = "study"  # by which a study's file is told from a scenario's
Stimuli = TypeVar("Stimuli", bound=Strict)


class RespondentConfig(Strict):
    """The model under study."""

    model: Text = Field(
        default="embedded", description="embedded, a hub id, a path, or with an endpoint its name there"
    )
    adapter: Text | None = Field(
        default=None, description="path of a trained adapter, or with an endpoint its name there"
    )
    endpoint: Endpoint = None
    api_key_env: ApiKeyEnv = None


class StudySeats(Strict):
    """The seats of a study: the respondent alone."""

    assistant: RespondentConfig = Field(default_factory=RespondentConfig)


class Study(Strict):
    """A checked study. After `load_study`, `stimuli` and a local model are absolute paths."""

    study: Text = Field(description="a file of metrics/studies/")
    name: str = Field(pattern=r"^\w[\w .-]*$", description="letters, digits, blanks, '_', '.' and '-'")
    claim: Text = Field(description="the finding, in a sentence")
    source: Text = Field(description="source of the claim")
    seed: int = Field(description="every random choice derives from it")
    dtype: Literal["auto", "bfloat16", "float32", "float16"] = "auto"
    device: Text = Field(default="auto", description="auto, cpu, cuda, ...")
    size: Size = Field(
        default="default", description="smoke: seconds, default: minutes on two cores, full: as in the protocol"
    )
    seats: StudySeats = Field(default_factory=StudySeats)
    stimuli: Text = Field(description="path of the stimuli file, relative to this file")
    sizes: Any

    def numbers(self) -> dict[str, Any]:
        """The numbers of the chosen size: keyword arguments of the study."""
        return getattr(self.sizes, self.size).model_dump()

    def resolved_yaml(self) -> str:
        """A YAML text that `load_study` reads as an equal study, whatever folder it is saved in."""
        return dump(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256, in hex, of everything that decides what is asked: the numbers of the chosen size and the stimuli
        file.
        """
        stimuli = hashlib.sha256(yaml_text(self.stimuli).encode()).hexdigest()
        content = self.model_dump(mode="json", exclude={"seats": {"assistant": {"api_key_env"}}}) | {
            "sizes": self.numbers(),
            "stimuli": stimuli,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_study(path: str | Path) -> bool:
    """Whether the file is a study file. Raises ScenarioError where it cannot be read."""
    document = read_yaml(path)
    return KEY in document.data and kind_of(document) != "sweep"


def study_named(path: str | Path, known: Sequence[str]) -> str:
    """The name of the study in the file. Raises ScenarioError where it is none of the known names."""
    document = read_kind(path, "study")
    name = document.data.get(KEY)
    if name not in known:
        raise document.error(f"is {name!r}{nearest(name, known)}", (KEY,))
    return name


def load_study(path: str | Path, overrides: Sequence[str], numbers: type[BaseModel]) -> Study:
    """The study of a file with `key=value` overrides; `numbers` is the model of the numbers of a size.

    Raises ScenarioError with the file, line and key, what is there and what was expected.
    """
    sizes = create_model("Sizes", __base__=Strict, **dict.fromkeys(SIZES, (numbers, ...)))
    model = create_model("Study", __base__=Study, sizes=(sizes, Field(description="the settings of each size")))
    document = override(read_kind(path, "study"), overrides, model)
    study = validate(document, model)
    seat = study.seats.assistant
    if not seat.endpoint:
        seat = seat.model_copy(
            update={"model": model_anywhere(seat.model), "adapter": seat.adapter and absolute(seat.adapter)}
        )
    return study.model_copy(
        update={"seats": StudySeats(assistant=seat), "stimuli": _file(document, study.stimuli, Path(path).parent)}
    )


def load_stimuli(study: Study, kind: type[Stimuli]) -> Stimuli:
    """The content of the stimuli file. Raises ScenarioError like `load_study`."""
    return validate(read_yaml(study.stimuli), kind)


def _file(document: Document, name: str, folder: Path) -> str:
    """The absolute path of the stimuli file; a path in an override may also be relative to the working directory."""
    overridden = document.where(("stimuli",)).startswith("override ")
    file = next((file for file in [folder / name, Path(name)][: 1 + overridden] if is_file(file)), None)
    if file is None:
        hint = nearest_path(folder / name) or (nearest_path(name) if overridden else "")
        raise document.error(
            f"is {name!r}; expected the path of a stimuli file, {folder / name} is none{hint}", ("stimuli",)
        )
    return str(file.resolve())
