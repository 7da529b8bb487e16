"""The keys of a study's file: which finding is tested on which model, at which size, with which stimuli.

What a size is made of differs by study: the keyword arguments of its `study` function in `metrics/studies/`, of which
the caller makes a model for `load_study`. So is the form of its stimuli.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, create_model

from scenarios.fields import Endpoint, Strict, Text, absolute, model_anywhere
from scenarios.overrides import override
from scenarios.suggestions import nearest, nearest_path
from scenarios.yaml_files import Document, dump, read_yaml, validate

Size = Literal["smoke", "default", "full"]
SIZES: tuple[Size, ...] = get_args(Size)
KEY = "study"  # by which a study's file is told from a scenario's
Stimuli = TypeVar("Stimuli", bound=Strict)


class RespondentConfig(Strict):
    """Who is asked."""

    model: Text = Field(
        default="embedded", description="embedded, a hub id, a path, or with an endpoint its name there"
    )
    adapter: Text | None = Field(
        default=None, description="path of a trained adapter, or with an endpoint its name there"
    )
    endpoint: Endpoint = None


class StudySeats(Strict):
    assistant: RespondentConfig = Field(default_factory=RespondentConfig)


class Study(Strict):
    """A checked study; `stimuli` and a local model are absolute paths once `load_study` read it."""

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
        """What the chosen size is made of: keyword arguments of the study."""
        return getattr(self.sizes, self.size).model_dump()

    def resolved_yaml(self) -> str:
        """A YAML text that `load_study` reads as an equal study, from whatever folder it is saved in."""
        return dump(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256, in hex, of all that decides what is asked: the numbers of the chosen size, and what the stimuli file
        holds.
        """
        stimuli = hashlib.sha256(Path(self.stimuli).read_bytes()).hexdigest()
        content = self.model_dump(mode="json") | {"sizes": self.numbers(), "stimuli": stimuli}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_study(path: str | Path) -> bool:
    """Whether the file is a study's. ScenarioError where it cannot be read."""
    return KEY in read_yaml(path).data


def study_named(path: str | Path, known: Sequence[str]) -> str:
    """What the file says it is a study of. ScenarioError where that is none of those known."""
    document = read_yaml(path)
    name = document.data.get(KEY)
    if name not in known:
        raise document.error(f"is {name!r}{nearest(name, known)}", (KEY,))
    return name


def load_study(path: str | Path, overrides: Sequence[str], numbers: type[BaseModel]) -> Study:
    """The study of a file with `key=value` overrides. `numbers`: a model of what a size is made of. ScenarioError:
    file, line, key, what was found and expected.
    """
    sizes = create_model("Sizes", __base__=Strict, **dict.fromkeys(SIZES, (numbers, ...)))
    model = create_model("Study", __base__=Study, sizes=(sizes, Field(description="the settings of each size")))
    document = override(read_yaml(path), overrides, model)
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
    """What the stimuli file holds. ScenarioError as from `load_study`."""
    return validate(read_yaml(study.stimuli), kind)


def _file(document: Document, name: str, folder: Path) -> str:
    """The stimuli's absolute path; one that an override gives may also be relative to the working folder."""
    overridden = document.where(("stimuli",)).startswith("override ")
    file = next((file for file in [folder / name, Path(name)][: 1 + overridden] if file.is_file()), None)
    if file is None:
        hint = nearest_path(folder / name) or (nearest_path(name) if overridden else "")
        raise document.error(
            f"is {name!r}; expected the path of a stimuli file, {folder / name} is none{hint}", ("stimuli",)
        )
    return str(file.resolve())
