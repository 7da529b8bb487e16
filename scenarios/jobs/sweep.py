"""The keys of a sweep file: what is repeated, along which axes, and how the axes give trials.

A trial has one value for each axis. Its id is a digest of these values, and every draw has a seed derived from that of
the sweep: the same file gives the same trials, in whatever order and on whatever machine they run.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, log, prod
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from scenarios.fields import Strict
from scenarios.input_files import is_file
from scenarios.jobs.recipe import Recipe, all_played
from scenarios.jobs.study import Study
from scenarios.jobs.training import load_recipe
from scenarios.overrides import Plain, as_items, override, override_text
from scenarios.persona_schema import PersonasFile
from scenarios.records import derive_seed
from scenarios.scenario import Scenario, load_scenario
from scenarios.suggestions import nearest_path
from scenarios.yaml_files import Document, ScenarioError, dump, read_kind, read_yaml, validate

Base = Scenario | Recipe | Study
KINDS = ("scenario", "training", "study")  # the keys that name a base's file
# what reads it; studies are read by whoever knows what they are made of
BASES = {
    "scenario": load_scenario,
    "training": load_recipe,
}
MOST_TRIALS = 10_000
VARIANT = "variant"  # what the axis of the variants is called
WHOLE = {"axes": 1, "overrides": 1, "variants": 2}  # sections -> the keys before those that are dotted themselves
ID_DIGITS = 10
DRAWN = ("uniform", "loguniform", "integer", "choice")
DIGITS = 6  # significant ones of a number that is drawn
Reader = Callable[[str | Path, Sequence[str]], Base]  # of a file with overrides
Number = Annotated[float, Field(allow_inf_nan=False)]
Bounds = Annotated[list[Number], Field(min_length=2, max_length=2)]


class SweepAxis(Strict):
    """The values of one key: a list, evenly spaced values, or a distribution to draw from."""

    values: list[Plain] | None = Field(
        default=None, min_length=1, description="each of them; a plain list means the same"
    )
    first: Number | None = Field(default=None, alias="from", description="the first of evenly spaced values")
    to: Number | None = Field(default=None, description="the last of them")
    steps: int | None = Field(default=None, ge=2, description="how many there are")
    uniform: Bounds | None = Field(default=None, description="least and greatest")
    loguniform: Bounds | None = Field(default=None, description="least and greatest, both above 0")
    integer: Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="least and greatest"
    )
    choice: list[Plain] | None = Field(default=None, min_length=1, description="one of them")

    @model_validator(mode="after")
    def _makes_sense(self) -> SweepAxis:
        ways = [key for key in ("values", *DRAWN) if getattr(self, key) is not None]
        spaced = [value is not None for value in (self.first, self.to, self.steps)]
        if len(ways) + any(spaced) != 1 or (any(spaced) and not all(spaced)):
            raise ValueError(f"expected a list, from with to and steps, or one of {', '.join(DRAWN)}")
        if self.values and len({json.dumps(value, sort_keys=True) for value in self.values}) < len(self.values):
            raise ValueError("expected each value once")
        for low, high in filter(None, (self.uniform, self.loguniform, self.integer)):
            if not low < high or (self.loguniform and low <= 0):
                raise ValueError(f"expected the least before the greatest{', both above 0' if self.loguniform else ''}")
        return self

    @property
    def drawn(self) -> bool:
        """Whether the values are drawn from a distribution."""
        return any(getattr(self, key) is not None for key in DRAWN)

    def all(self) -> list[Any]:
        """All values of an axis that is not drawn; evenly spaced values are integers where all of them are whole
        numbers.
        """
        if self.values is not None:
            return list(self.values)
        first, to, steps = self.first, self.to, self.steps
        assert first is not None and to is not None and steps is not None  # _makes_sense asks for all three together
        spaced = [float(f"{first + (to - first) * step / (steps - 1):.12g}") for step in range(steps)]
        return [int(value) for value in spaced] if all(value.is_integer() for value in spaced) else spaced

    def draw(self, seed: int) -> Any:
        """A value of an axis that is drawn; equal seeds give equal values."""
        rng = random.Random(seed)
        if self.choice is not None:
            return rng.choice(self.choice)
        if self.integer is not None:
            return rng.randint(*self.integer)
        if self.uniform is not None:
            low, high = self.uniform
        else:
            assert self.loguniform is not None  # the last of DRAWN
            low, high = map(log, self.loguniform)
        value = low + (high - low) * rng.random()
        return float(f"{value if self.uniform else exp(value):.{DIGITS}g}")


class Scheduler(Strict):
    """Early stopping of trainings: asynchronous successive halving, arXiv 1810.05934, by Ray Tune."""

    kind: Literal["asha"] = "asha"
    metric: str = Field(
        default="reward", description="a number that every step of a training reports, such as reward, kl or length"
    )
    mode: Literal["max", "min"] = Field(default="max", description="whether much or little of it is good")
    grace_period: int = Field(default=1, ge=1, description="steps that every training gets")
    reduction_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = Field(
        default=2.0, description="one of this many trainings continues at each rung"
    )


def _storage(text: str) -> str:
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            "expected a place without a name, password or query; keys belong in the environment or the machine's own "
            "settings"
        )
    if not parts.scheme and not Path(text).is_absolute():
        raise ValueError("expected an absolute path, or a URI such as s3://bucket/folder")
    return text


class Best(Strict):
    """The measure by which the best trial so far is chosen for display."""

    metric: str = "prompt_to_line"
    seat: Literal["user", "assistant"] = "user"
    mode: Literal["max", "min"] = "max"


def _listed(value: Any) -> Any:
    return {"values": value} if isinstance(value, list) else value


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class Sweep(Strict):
    """A checked sweep. After `load_sweep`, the path of its base is absolute."""

    name: str = Field(pattern=r"^\w[\w .-]*$", description="letters, digits, blanks, '_', '.' and '-'")
    description: str = ""
    seed: int = Field(description="seed of every draw of an axis; the seed of the dialogues is a key of the base")
    scenario: str | None = Field(
        default=None, description="path of the scenario that trials play, relative to this file"
    )
    training: str | None = Field(
        default=None, description="path of the training that trials carry out, relative to this file"
    )
    study: str | None = Field(default=None, description="path of the study that trials ask, relative to this file")
    overrides: dict[str, Plain] = Field(
        default={}, description="dotted keys of the base and their values in every trial, unless an axis has them"
    )
    variants: dict[Annotated[str, Field(pattern=r"^[\w -]+$")], dict[str, Plain]] = Field(
        default={}, description="a further axis: name -> dotted keys of the base and their values in its trials"
    )
    axes: dict[str, Annotated[SweepAxis, BeforeValidator(_listed)]] = Field(
        default={}, description="dotted keys of the base and their values"
    )
    samples: int = Field(
        default=1, ge=1, description="draws of the axes that are drawn; each meets every combination of the others"
    )
    scheduler: Annotated[Scheduler, BeforeValidator(_named)] | None = Field(
        default=None, description="asha, of trainings only"
    )
    retries: int = Field(
        default=2, ge=0, description="how often a trial is tried again that failed or whose worker was lost"
    )
    at_once: int | None = Field(
        default=None, ge=1, description="most trials at once; null for as many as there is room for"
    )
    cpus: int = Field(default=1, ge=1, description="cores, and threads, of a trial")
    gpus: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="share of a GPU for a trial; null: what its seats need"
    )
    storage: Annotated[str, AfterValidator(_storage)] | None = Field(
        default=None, description="where trials' folders go: a shared path or a URI (s3://...); null: into the sweep's"
    )
    best: Best = Field(default_factory=Best)

    @property
    def kind(self) -> str:
        """The key that names the base."""
        return next(key for key in KINDS if getattr(self, key) is not None)

    def axis_names(self) -> list[str]:
        """The names of all axes, that of the variants first."""
        return [VARIANT] * bool(self.variants) + list(self.axes)

    def is_logarithmic(self, axis: str) -> bool:
        """Whether the axis is drawn on a logarithmic scale."""
        return axis in self.axes and self.axes[axis].loguniform is not None

    def overrides_of(self, trial: Trial) -> dict[str, Any]:
        """The dotted keys of the base and their values in a trial."""
        own = {key: value for key, value in trial.values.items() if key != VARIANT}
        return {**self.overrides, **self.variants.get(trial.values.get(VARIANT, ""), {}), **own}


@dataclass(frozen=True)
class Trial:
    """A trial; `values` are by axis, in the order of the file."""

    id: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return ", ".join(f"{key}={override_text(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class SweepPlan:
    """A sweep with all its trials, each with its base; `repeated` counts draws that repeated an earlier trial."""

    sweep: Sweep
    trials: tuple[Trial, ...]
    bases: Mapping[str, Base]  # by trial id
    repeated: int = 0

    def resolved_yaml(self) -> str:
        """A YAML text that `load_sweep` reads as an equal sweep, whatever folder it is saved in."""
        return dump(self.sweep.model_dump(mode="json", by_alias=True, exclude_none=True))

    def digest(self) -> str:
        """SHA-256, in hex, of everything that decides the results: the values of every trial and the digest of its
        base.
        """
        content = [[trial.values, self.bases[trial.id].digest()] for trial in self.trials]
        return hashlib.sha256(
            json.dumps([content, self.sweep.cpus], sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()


def load_sweep(path: str | Path, overrides: Sequence[str] = (), bases: Mapping[str, Reader] = BASES) -> SweepPlan:
    """The sweep of a file with `key=value` overrides, and its trials, each checked like a file of its kind.

    `bases` maps the kind of a base to the function that reads it. Raises ScenarioError with the file, line and key,
    what is there and what was expected; for an invalid combination of values, with these values.
    """
    document = override(read_kind(path, "sweep"), overrides, Sweep, WHOLE)
    sweep = validate(document, Sweep)
    _makes_sense(sweep, document)
    name, folder = getattr(sweep, sweep.kind), Path(path).parent
    file = next((file for file in (folder / name, Path(name)) if is_file(file)), None)
    if file is None:
        hint = nearest_path(folder / name) or nearest_path(name)
        raise document.error(f"is {name!r}; expected the path of a file, {folder / name} is none{hint}", (sweep.kind,))
    sweep = sweep.model_copy(update={sweep.kind: str(file.resolve())})
    _refuse_many(sweep, document)
    drawn = list(_trials(sweep))
    trials = tuple({trial.id: trial for trial in drawn}.values())
    return SweepPlan(
        sweep,
        trials,
        {trial.id: _base(sweep, trial, document, bases[sweep.kind]) for trial in trials},
        len(drawn) - len(trials),
    )


def _makes_sense(sweep: Sweep, document: Document) -> None:
    """Raises ScenarioError where keys exclude each other."""
    named = [key for key in KINDS if getattr(sweep, key) is not None]
    if len(named) != 1:
        problem = f"is there beside {named[0]}" if named else "is missing"
        raise document.error(f"{problem}; expected one of {', '.join(KINDS)}", (named[-1] if named else KINDS[0],))
    if sweep.scheduler and sweep.training is None:
        raise document.error(
            "stops trainings early; expected none with a scenario, whose dialogues are played to their end",
            ("scheduler",),
        )
    if not sweep.variants and not sweep.axes:
        raise document.error("is missing or empty; expected at least one axis here, or variants", ("axes",))
    if VARIANT in sweep.axes:
        raise document.error(
            "is what the axis of the variants is called; expected a key of the base", ("axes", VARIANT)
        )
    seen: dict[str, str] = {}
    for name, values in sweep.variants.items():
        if (same := seen.setdefault(json.dumps(values, sort_keys=True), name)) != name:
            raise document.error(f"is equal to {same!r}; expected variants that differ", ("variants", name))
        if twice := next((key for key in values if key in sweep.axes), None):
            raise document.error("is an axis too; expected it in one of the two", ("variants", name, twice))
    if sweep.samples > 1 and not any(axis.drawn for axis in sweep.axes.values()):
        raise document.error(
            f"is {sweep.samples}, but no axis is drawn; expected 1, or an axis with {', '.join(DRAWN)}", ("samples",)
        )


def _refuse_many(sweep: Sweep, document: Document) -> None:
    """Raises ScenarioError for more than MOST_TRIALS trials, before any is made."""
    counts = [1 if axis.drawn else len(axis.values or ()) or axis.steps or 0 for axis in sweep.axes.values()]
    if (total := sweep.samples * max(1, len(sweep.variants)) * prod(counts)) > MOST_TRIALS:
        raise document.error(f"give {total:,} trials; expected at most {MOST_TRIALS:,}", ("axes",))


def trial_id(values: Mapping[str, Any]) -> str:
    """The id of a trial: the first hex digits of the SHA-256 of its values."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:ID_DIGITS]


def _trials(sweep: Sweep) -> Iterator[Trial]:
    """For each sample, all combinations of the variants and the axes that are not drawn; the last axis varies
    fastest.
    """
    for sample in range(sweep.samples):
        columns: list[list[Any]] = [list(sweep.variants)] if sweep.variants else []
        columns += [
            [axis.draw(derive_seed(sweep.seed, "axis", key, sample))] if axis.drawn else axis.all()
            for key, axis in sweep.axes.items()
        ]
        for combination in product(*columns):
            values = dict(zip(sweep.axis_names(), combination, strict=True))
            yield Trial(trial_id(values), values)


def _base(sweep: Sweep, trial: Trial, document: Document, read_base: Reader) -> Base:
    """The base of a trial. Raises ScenarioError with the trial's values."""
    values = sweep.overrides_of(trial)
    try:
        base = read_base(getattr(sweep, sweep.kind), as_items(values))
        if isinstance(base, Recipe) and base.workers > 1:
            raise ScenarioError("is more than 1; expected 1 in a sweep, whose trials are the workers", ("workers",))
    except ScenarioError as error:
        variant = trial.values.get(VARIANT, "")
        places = [("axes", key) for key in sweep.axes]
        places += [("variants", variant, key) for key in sweep.variants.get(variant, ())]
        places += [("overrides", key) for key in sweep.overrides]
        at = ".".join(map(str, error.key))
        place = next((place for place in places if at == place[-1] or f"override '{place[-1]}=" in error.where), None)
        place = place or (("variants", variant) if variant else ("axes",))
        raise document.error(f"does not go with the trial {trial}: {error}", place) from None
    return base


def files_of(base: Base) -> list[Path]:
    """The files that a base consists of besides its own: persona and slots files, and a training's scenarios.

    Of a study it is the stimuli file alone, without the files that it names.
    """
    if isinstance(base, Study):
        return [Path(base.stimuli)]
    files: list[Path] = []
    if isinstance(base, Recipe):
        others = base.evaluation.scenario
        files += map(Path, (*(each.scenario for each in base.scenario), *others))
        people = [name for scenario in (*all_played(base), *map(load_scenario, others)) for name in scenario.personas]
    else:
        people = base.personas
    for folder in dict.fromkeys(Path(name).parent for name in people):  # in which a persona may be looked up
        files += sorted(folder.glob("*.yaml"))
    for path in map(Path, people):
        slots = validate(read_yaml(path), PersonasFile).slots
        files += [path, *([(path.parent / slots).resolve()] if slots else [])]
    return list(dict.fromkeys(files))
