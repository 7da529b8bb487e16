"""Stored conversations recited by the trained seat: its view of each as token ids, with nothing sampled.

The loop of a run recites what the run stored, so that a view is what the speaker read. Lines that no model of the lab
sampled are encoded, with the token that ends a line appended, from which a learner learns to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from agents.engine.protocol import Engine, Sample, Sampling, Usage
from agents.seats.base import Cue, Spoken, Trouble, Utterance
from agents.seats.model import ModelSeat
from lab.dialogue.loop import Play, system_text
from lab.store.event_log import read_events
from lab.store.resume import Stored, stored
from lab.training.reward_parts import Rollout
from lab.transcripts.transcript import Source, Transcript, own_turns
from scenarios import graph as graphs
from scenarios import personas as people
from scenarios.input_files import exists, home_expanded
from scenarios.records import SEATS
from scenarios.scenario import Scenario


def base_of(model: str) -> str:
    """The name of the base model, without an adapter; an existing path is made absolute."""
    base = model.partition(":")[0]
    path = home_expanded(base)
    return str(path.resolve()) if exists(path) else base


class Reciter:
    """A seat that recites stored lines, with trouble for a line that is not stored.

    `said` holds, by conversation, the recited lines as far as they fit into its view.
    """

    def __init__(self, engine: Engine) -> None:
        self._seat = ModelSeat(engine, Sampling(0), keep=True)
        self.ids, self.said = self._seat.ids, dict[int, list[Spoken]]()
        self.open, self.hear, self.close = self._seat.open, self._seat.hear, self._seat.close

    def speak(self, cues: Mapping[int, Cue]) -> dict[int, Trouble]:
        return dict.fromkeys(cues, Trouble("nothing more is stored"))

    def recite(self, cues: Mapping[int, Cue], said: Mapping[int, Utterance]) -> dict[int, Utterance]:
        bare = {c: utterance for c, utterance in said.items() if not utterance.token_ids}
        form = self._seat.format
        written = self._seat.engine.encode([form.line(utterance.text) + form.closing for utterance in bare.values()])
        closed = {
            c: replace(utterance, token_ids=tuple(ids))
            for (c, utterance), ids in zip(bare.items(), written, strict=True)
        }
        before = {c: len(self.ids[c]) for c in said}
        full = self._seat.recite(cues, {c: closed.get(c, utterance) for c, utterance in said.items()})
        for c, utterance in full.items():
            start = len(self.ids[c]) - len(utterance.token_ids)
            if start >= before[c] and tuple(self.ids[c][start:]) == utterance.token_ids:  # else the view is full
                spoken = Spoken(cues[c].turn, start, (Sample(utterance.token_ids, (), "recited"),), (utterance.text,))
                self.said.setdefault(c, []).append(spoken)
        return full


def replayed(source: Source, seat: str, model: str, engine: Engine) -> list[Rollout]:
    """The rollouts of a run's conversations, as the run played them.

    Lines of another model than `model` are encoded anew. Raises ValueError where the scenario or persona files have
    changed such that another seat would speak.
    """
    scenario, kept = cast(Scenario, source.scenario), stored(read_events(source.path))
    spec, wanted = scenario.seats[seat], {transcript.conversation for transcript in source.transcripts}
    same = not spec.endpoint and base_of(spec.model) == base_of(model)
    lines = {at: line if same else replace(line, token_ids=()) for at, line in kept.lines.items() if at[0] in wanted}
    # none would be opened that is judged to its end
    judged = {at: rows for at, rows in kept.judged.items() if at[1] + 1 < scenario.turns}
    # its stored verdicts move the walk
    silent: Any = SimpleNamespace(name=scenario.measure.judge[0], judge=lambda pairs: [])
    seats = {name: Reciter(engine) for name in SEATS}
    unmeasured = scenario.model_copy(update={"measure": scenario.measure.model_copy(update={"metrics": []})})
    play = Play(
        unmeasured,
        graphs.build(scenario),
        people.cast(scenario),
        seats,  # pyright: ignore[reportArgumentType]  # nothing is measured, so they are not asked
        [silent],
        Usage,
        Stored(lines, judged, origins=kept.origins),
    )
    for _ in play.events():
        pass
    talks = [_talk(transcript, seat, seats[seat]) for transcript in source.transcripts]
    for talk in talks:
        if lost := next(
            (
                utterance
                for utterance in seats[seat].said.get(talk.number, ())
                if lines[talk.number, utterance.turn].seat != seat
            ),
            None,
        ):
            raise ValueError(
                f"{source.path}: conversation {talk.number} no longer goes as it was played (turn {lost.turn} would be "
                f"the {seat}'s); expected the scenario and persona files as they were"
            )
    return talks


def recited(source: Source, seat: str, instruction: str, engine: Engine) -> list[Rollout]:
    """The rollouts of conversations as if the seat had said its lines under its persona's card and the instruction."""
    reciter = Reciter(engine)
    reciter.open(
        {transcript.conversation: system_text(transcript.cast[seat], instruction) for transcript in source.transcripts}
    )
    for place in range(max((len(transcript.lines) for transcript in source.transcripts), default=0)):
        now = {
            transcript.conversation: transcript.lines[place]
            for transcript in source.transcripts
            if place < len(transcript.lines)
        }
        reciter.hear({c: line.text for c, line in now.items() if line.seat != seat})
        said = {c: line for c, line in now.items() if line.seat == seat}
        reciter.recite(
            {c: Cue("", 0, line.turn) for c, line in said.items()},
            {c: Utterance(line.text, 0) for c, line in said.items()},
        )
    reciter.close([transcript.conversation for transcript in source.transcripts])
    return [_talk(transcript, seat, reciter) for transcript in source.transcripts]


def _talk(transcript: Transcript, seat: str, reciter: Reciter) -> Rollout:
    own = own_turns(transcript, seat)
    spoken = [utterance for utterance in reciter.said.get(transcript.conversation, ()) if utterance.turn in own]
    # known or not: rewards ask who said it
    lines = [replace(line, logprob=0.0 if line.turn in own else None) for line in transcript.lines]
    return Rollout(
        transcript.conversation,
        seat,
        transcript.cast,
        lines,
        tuple(reciter.ids.get(transcript.conversation, ())),
        spoken,
    )
