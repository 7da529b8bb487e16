"""The loop of a training: play, reward, update.

It yields events (plain dicts) and saves nothing but checkpoints. The dialogues, rewards and update of step n depend on
the recipe, n and the weights before it alone, so that a resumed training equals one that was never stopped (float32).
With asynchronous rollouts, dialogues are played with the weights of one step earlier, except in the first step and in
those after a checkpoint.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import SafetensorError

from agents.engine.protocol import MIN_TOKENS, Engine
from agents.learning.learner import Learner
from agents.learning.methods import Method, learn
from agents.learning.views import View
from lab.dialogue import judges, seats
from lab.store.atomic_write import StoreError
from lab.training import collected, dataset, rewards, rollouts
from metrics.judges import Judge
from metrics.tripwires import fired
from scenarios.jobs.recipe import Recipe, all_played
from scenarios.jobs.training import split
from scenarios.jobs.training_keys import ONLINE
from scenarios.messages import reason
from scenarios.scenario import Scenario

if TYPE_CHECKING:
    from lab.training.workers import Learners


PATIENCE = 5  # steps over which a tripwire's mean has to be out of bounds


def learner(recipe: Recipe, scenario: Scenario, seat: str, engines: int = 0) -> Learner | Learners:
    """The learner of that seat's model; with several `workers`, a `Learners` on the Ray cluster, whose GPUs `engines`
    engines share. Raises ValueError like `Learner`.
    """
    updates = -(-recipe.max_steps // len(recipe.seats())) * recipe.tuning.num_iterations
    spec = scenario.seats[seat]
    sampled = {"temperature": spec.temperature, "top_k": spec.top_k, "min_tokens": MIN_TOKENS}
    settings = {
        "name": spec.model,
        "tuning": recipe.tuning,
        "max_steps": updates,
        **(sampled if recipe.method in ONLINE else {}),
        "dtype": recipe.dtype,
        "device": recipe.device,
        "seed": recipe.seed,
        "value_head": recipe.method == "ppo",
    }
    if recipe.workers == 1:
        return Learner(**settings)
    from lab.dialogue.cluster import shares
    from lab.training.workers import Learners

    return Learners(recipe.workers, settings, shares(engines, recipe.workers * len(recipe.seats()), recipe.device)[1])


def method(recipe: Recipe) -> Method:
    """The method of the recipe with its settings."""
    return Method(recipe.method, recipe.groups, recipe.num_generations, recipe.tuning)


@dataclass(frozen=True)
class Batch:
    """The views of one step, the fields that they add to the `step` event, and the seconds of playing and scoring."""

    views: list[View]
    log: Mapping[str, object]
    seconds: float


@dataclass
class TrainingLoop:
    """The training loop of a recipe, with the engines, learners and judge that it uses."""

    recipe: Recipe
    scenario: Scenario  # the first, as it is played: all have the same models in the trained seats
    engines: Mapping[str, Engine]
    students: Mapping[str, Learner | Learners]  # by seat
    judge: Judge
    aids: Mapping  # `embed` and `logprobs`, see `lab.dialogue.judges.aids`
    folder: Path

    def steps(self, first: int = 0, earlier: Sequence[dict] = ()) -> Iterator[dict]:
        """The events of the steps from `first` on: `step`, `checkpoint` every `save_steps` and at the end, and
        `stopped` where a tripwire ends the training; of an offline method first `phase`, and `collected` while the base
        model plays. `earlier` holds the step events before. Raises ValueError where a step fails, and StoreError.
        """
        recipe, steps, online = self.recipe, list(earlier), self.recipe.method in ONLINE
        if online:
            self.install()
        if reason := self._tripped(steps):
            yield {"event": "stopped", "step": first, "reason": reason}
        left = range(0) if reason or self._learnt_enough(steps) else range(first, recipe.max_steps)
        with ThreadPoolExecutor(1) as pool:
            # None where no step is left to take from it
            source = cast("Callable[[int], Batch]", (yield from self._source()) if left else None)
            coming = None
            for step in left:
                batch = coming.result() if coming else source(step)
                saving = step + 1 == recipe.max_steps or (step + 1) % recipe.save_steps == 0
                ahead = recipe.async_rollouts and not saving
                coming = pool.submit(source, step + 1) if ahead else None
                event = self._learn(step, batch)
                if saving and not online:
                    event |= self._monitored(step)
                steps.append(event)
                reason, enough = self._tripped(steps), self._learnt_enough(steps)
                saving = saving or bool(reason) or enough
                _wait(coming)
                if online:
                    self.install()
                yield event
                if saving:
                    self.save(self._checkpoint(step + 1))
                    yield {"event": "checkpoint", "step": step + 1}
                if reason:
                    yield {"event": "stopped", "step": step + 1, "reason": reason}
                if reason or enough:
                    break
        if not online:  # nobody played in between
            self.install()

    def _monitored(self, step: int) -> dict:
        """Tripwire means and sample lines of a batch that only monitors the learner of an offline method."""
        self.install()
        adapters = {seat: rollouts.trained(seat) for seat in self.students}
        log = self._played(step, self._seat(step), split(self.recipe)[0], adapters).log
        return {key: value for key, value in log.items() if key.startswith("wire_") or key == "samples"}

    def install(self) -> None:
        """Copies the current adapters of all learners into the engines."""
        for seat, student in self.students.items():
            self._engine(seat).install(rollouts.trained(seat), *student.adapter())

    @cached_property
    def _walking(self) -> list[list[Judge]]:
        """By scenario, the judges whose verdicts move the walk, for all steps, since each caches what it has read."""
        return [judges.judges(each.measure, self.engines, self.recipe.device) for each in all_played(self.recipe)]

    def _engine(self, seat: str) -> Engine:
        return self.engines[seats.engine_name(self.scenario.seats[seat])]

    def save(self, folder: Path, state: bool = True) -> None:
        """Writes a PEFT folder, or one per seat where two are trained, completely or not at all; with `state`, it can
        be resumed from. Raises StoreError.
        """
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            for seat, student in self.students.items():
                student.save(part / seat if len(self.students) > 1 else part, state)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise StoreError(
                f"cannot write {folder.name} in {folder.parent} ({reason(error)}); {self._last(math.inf)}: make room "
                f"and continue with --resume {self.folder}"
            ) from error

    def restore(self, folder: Path) -> None:
        """Restores all learners from a checkpoint. Raises ValueError like `Learner.restore`."""
        for seat, student in self.students.items():
            student.restore(folder / seat if len(self.students) > 1 else folder)

    def _learn(self, step: int, batch: Batch) -> dict:
        seat = self._seat(step)
        began = time.perf_counter()
        try:
            student, how = self.students[seat], method(self.recipe)
            learnt = (
                learn(student, batch.views, how) if isinstance(student, Learner) else student.learn(batch.views, how)
            )
        except ValueError as error:
            raise ValueError(f"step {step + 1}: {error}; {self._rescued(step, batch.views)}") from error
        done = learnt.step
        note = None if done else "all rewards that could be compared are equal: nothing was learnt"
        return {
            "event": "step",
            "step": step,
            "seat": seat,
            **batch.log,
            **learnt.numbers,
            "skipped": learnt.skipped,
            "note": note,
            "loss": done.loss if done else None,
            "grad_norm": done.grad_norm if done else None,
            "learning_rate": done.learning_rate if done else None,
            "tokens": sum(len(line.ids) for view in batch.views for line in view.lines),
            "tokens_learnt": learnt.tokens,
            "seconds_play": batch.seconds,
            "seconds_learn": time.perf_counter() - began,
        }

    def _rescued(self, step: int, views: Sequence[View]) -> str:
        """A clause that names the checkpoint from which to resume after a failed step: one written now, where the
        learner still gives finite log-probabilities (several workers have ended), otherwise the last one known to give
        them.
        """
        recipe, now = self.recipe, self._checkpoint(step)
        reads = (
            cast(Learner, self.students[self._seat(step)]).read([view for view in views if view.lines])
            if step and recipe.workers == 1
            else []
        )
        if not reads or not all(read.logps.isfinite().all() for read in reads):
            return self._last(step - recipe.async_rollouts if recipe.method in ONLINE else step - len(recipe.seats()))
        if not now.is_dir():
            self.save(now)
        return self._last(step)

    def _last(self, most: float) -> str:
        """A clause that names the last checkpoint after at most `most` steps."""
        checkpoint = latest_checkpoint(self.folder, most)
        return (
            f"the last good checkpoint is {checkpoint}, after step {steps_of(checkpoint)}"
            if checkpoint
            else "there is no checkpoint from before"
        )

    def _checkpoint(self, steps: int) -> Path:
        return self.folder / "checkpoints" / f"step-{steps:06d}"

    def _seat(self, step: int) -> str:
        return self.recipe.seats()[step % len(self.recipe.seats())]

    def _source(self) -> Generator[dict, None, Callable[[int], Batch]]:
        """A function from a step's number to its batch; the events are those of reading or collecting an offline
        method's dialogues.
        """
        recipe, learn_from = self.recipe, split(self.recipe)[0]
        if recipe.method in ONLINE:
            adapters = {seat: rollouts.trained(seat) for seat in self.students}
            return lambda step: self._played(step, self._seat(step), learn_from, adapters)
        if recipe.data:
            stored = {}
            for seat in self.students:
                data = dataset.load_training_data(
                    recipe, self.scenario, seat, self._engine(seat), self.judge, self.aids["embed"]
                )
                stored[seat] = data.views
                yield {"event": "phase", "phase": "data", "detail": data.summary}
        else:
            yield {"event": "phase", "phase": "collecting", "detail": "dialogues of the untouched model"}
            stored = yield from self._kept(learn_from)
        yield {"event": "phase", "phase": "training", "detail": recipe.method}
        return lambda step: Batch(
            _portion(stored[self._seat(step)], step // len(self.students), recipe.conversations), {}, 0.0
        )

    def _played(self, step: int, seat: str, drawn: Sequence[str], adapters: Mapping[str, str]) -> Batch:
        began = time.perf_counter()
        talks = rollouts.talks(self.recipe, self.engines, seat, step, drawn, adapters, self._walking)
        if not talks:
            raise ValueError(f"step {step + 1}: every dialogue failed; expected fewer turns or shorter lines")
        if not any(talk.spoken for talk in talks):
            raise ValueError(
                f"step {step + 1}: the {seat} said no line that its model wrote; expected a scenario whose nodes let "
                "it speak"
            )
        if not all(
            math.isfinite(value)
            for talk in talks
            for utterance in talk.spoken
            for sample in utterance.samples
            for value in sample.logprobs
        ):
            spoiled = len(self.recipe.seats()) + self.recipe.async_rollouts  # steps for which this may have been so
            raise ValueError(
                f"step {step + 1}: the {seat} spoke with likelihoods that are no numbers; expected a smaller "
                f"learning_rate; {self._last(step - spoiled)}"
            )
        views, log = rewards.rewarded(talks, self.recipe.reward, self.judge, self.aids["embed"])
        wires = {f"wire_{name}": value for name, value in rewards.tripwire_means(talks, seat, **self.aids).items()}
        return Batch(views, log | wires | {"samples": rewards.examples(talks, views)}, time.perf_counter() - began)

    def _kept(self, drawn: Sequence[str]) -> Generator[dict, None, dict[str, list[View]]]:
        """By seat, the dialogues of the untrained model: read from the folder, or else played, with `collected`
        events.
        """
        path = self.folder / collected.COLLECTED
        if path.is_file():
            views_by_seat = {
                seat: collected.read_views(path, self.recipe, self.scenario, seat) for seat in self.students
            }
        else:
            views_by_seat = {}
            for seat in self.students:
                views_by_seat[seat] = yield from self._collected(seat, drawn)
            collected.write_views(path, self.recipe, self.scenario, views_by_seat)
        return {
            seat: dataset.teaching(views, self.recipe.method, seat, self.recipe.reward)
            for seat, views in views_by_seat.items()
        }

    def _collected(self, seat: str, drawn: Sequence[str]) -> Generator[dict, None, list[View]]:
        """The views of the untrained model in as many dialogues as the steps of one pass need."""
        views, batches = [], self.recipe.batches_to_collect()
        for batch in range(batches):
            played = self._played(batch, seat, drawn, {})
            views += played.views
            yield {
                "event": "collected",
                "batch": batch,
                "batches": batches,
                "seat": seat,
                **played.log,
                "seconds_play": played.seconds,
            }
        return views

    def _learnt_enough(self, steps: Sequence[dict]) -> bool:
        return sum(step["tokens_learnt"] for step in steps) >= (self.recipe.learn_tokens or math.inf)

    def _tripped(self, steps: Sequence[dict]) -> str | None:
        """The reason to stop, or None: a tripwire whose mean over a seat's last measurements is out of bounds. Online
        there are PATIENCE of them, and the first step is the reference; offline there is one.
        """
        for seat in self.recipe.seats() if self.recipe.tripwires == "stop" else ():
            own = [
                {
                    key.removeprefix("wire_"): value
                    for key, value in step.items()
                    if key.startswith("wire_") and value is not None and value == value
                }
                for step in steps
                if step["seat"] == seat
            ]
            online = self.recipe.method in ONLINE
            if len(own) <= PATIENCE * online:
                continue
            recent = own[-PATIENCE:] if online else own[-1:]
            means = {
                name: sum(values) / len(values)
                for name in recent[-1]
                if (values := [values_of_step[name] for values_of_step in recent if name in values_of_step])
            }
            reference = {name: own[0][name] for name in ("perplexity_nats",) if name in own[0] and online}
            if out_of_bounds := fired(means, reference):
                name, value, bound = out_of_bounds[0]
                return (
                    f"{name} of the {seat} is {value:.2f} "
                    f"{f'over the last {PATIENCE} steps' * online or 'by now'}; expected {bound}"
                )
        return None


def latest_checkpoint(folder: Path, most: float = math.inf) -> Path | None:
    """The checkpoint with the most steps in a training's folder, of those with at most `most` steps; None without
    any.
    """
    return max(
        (path for path in (folder / "checkpoints").glob("step-*") if steps_of(path) <= most), key=steps_of, default=None
    )


def steps_of(checkpoint: Path) -> int:
    """The number of steps before that checkpoint."""
    return int(checkpoint.name.removeprefix("step-"))


def _wait(coming: Future | None) -> None:
    if coming is not None:
        coming.exception()  # its own error is raised where its result is asked for


def _portion(stored: Sequence[View], step: int, size: int) -> list[View]:
    start = step * size % len(stored)
    return [stored[(start + place) % len(stored)] for place in range(min(size, len(stored)))]
