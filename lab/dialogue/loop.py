"""The loop: dialogues in lock-step, one line of each at a time, judged before the next line.

It yields events (plain dicts) and never prints or saves. Lines that are already stored are recited instead of sampled:
the same code builds the same views, so that a resumed run equals one that was never stopped (float32).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import networkx as nx

from agents.engine.protocol import Usage
from agents.seats.base import Cue, Left, Question, Seat, Trouble, Utterance
from lab.dialogue.ongoing import OngoingDialogue
from lab.store.events import LineOrigin
from lab.store.resume import Stored
from metrics.catalogue import needed
from metrics.judges import NO_FACTS, Judge, Pair, answer_choice, pair_retrieval, scored_by
from metrics.judges import answer_words as answered
from metrics.judges.pairs import pairs_of_line
from scenarios import graph as graphs
from scenarios.records import PARTNER, SEATS, Fact, Judgement, Line, Persona, derive_seed
from scenarios.scenario import Scenario
from scenarios.scripts import count_words
from scenarios.spoken import Speaker

SYSTEM = (
    "{card}\n{instruction}\nYou are {name}. Stay in character and answer as {name} in one or two short sentences. "
    "Notes in "
    "[brackets] tell you what to do next; follow them, but do not mention them."
)
QA_JUDGES = {"multiple_choice": answer_choice.NAME, "free_text": answered.NAME}


@dataclass(frozen=True)
class Next:
    """The next line of a dialogue: its seat, its cue, its given words (None where a model speaks), and its fact."""

    seat: str
    cue: Cue
    words: str | None
    fact: Fact | None  # of the partner, where the line is about one


@dataclass(frozen=True)
class Play:
    """Everything that is needed to play a run."""

    scenario: Scenario
    graph: nx.MultiDiGraph
    cast: Sequence[dict[str, Persona]]
    seats: Mapping[str, Seat]
    judges: Sequence[Judge]
    usage: Callable[[], Usage]
    stored: Stored = field(default_factory=Stored)
    embed: pair_retrieval.Embed | None = None  # pairs of lines are retrieved by it; None: all are judged
    probed_seats: Collection[str] = SEATS  # those that get Q&A probes
    alike: int = 1  # conversations in a row with the same walk, facts and ready words, that differ in what is sampled

    def events(self) -> Iterator[dict]:
        """The events of lines, judgements, walks and usage as they happen, without those already stored."""
        size = self.scenario.concurrency
        for start in range(0, self.scenario.conversations, size):
            numbers = range(start, min(start + size, self.scenario.conversations))
            wave = [
                OngoingDialogue(c, self.cast[c], self._stored_node(c, 0) or self.scenario.graph.start)
                for c in numbers
                if not self._is_done(c)
            ]
            if wave:
                yield from self._wave(wave)
            over = self.stored.finished | {d.number for d in wave if d.failed}
            for c in numbers:
                if c not in over:
                    yield {"event": "conversation", "conversation": c, "status": "finished", "reason": None}

    def line_origins(self, conversation: int, turn: int) -> list[LineOrigin]:
        """The instruction and the fact of each stored line of the conversation before `turn`, and whether its words
        were given.
        """
        dialogue, origins = OngoingDialogue(conversation, self.cast[conversation], self.scenario.graph.start), []
        for before in range(turn):
            line = self.stored.lines[conversation, before]
            dialogue.node = line.node
            upcoming = self._next(dialogue, before)
            instruction, fact = upcoming.cue.instruction, upcoming.fact and upcoming.fact.id
            origins.append({"instruction": instruction, "fact": fact, "ready": upcoming.words is not None})
            dialogue.lines.append(line)
        return origins

    def _is_done(self, conversation: int) -> bool:
        return all(
            (conversation, turn) in self.stored.lines and self._missing(conversation, turn) == []
            for turn in range(self.scenario.turns)
        )

    def _missing(self, conversation: int, turn: int) -> list[str]:
        due = ["judges"] + ["qa"] * self._asks_after(turn)
        return [by for by in due if (conversation, turn, by) not in self.stored.judged]

    def _asks_after(self, turn: int) -> bool:
        """Whether probes follow this turn: the first (unless `qa_first` is false), then every `qa_every` lines."""
        measure = self.scenario.measure
        first = turn == 0 and measure.qa_first
        return "qa" in needed(measure.metrics) and (first or (turn + 1) % measure.qa_every == 0)

    def _wave(self, wave: list[OngoingDialogue]) -> Iterator[dict]:
        for name, seat in self.seats.items():
            seat.open({d.number: self._system(d, name) for d in wave})
        for turn in range(self.scenario.turns):
            going = [d for d in wave if not d.over]
            if not going and any(d.left for d in wave):
                break
            yield from self._lines(going, turn)
            going = [d for d in going if not d.over]
            contradicted = yield from self._judge(going, turn)
            if self._asks_after(turn):
                yield from self._questions(going, turn)
            yield from self._walk(going, turn, contradicted)
            yield {"event": "usage", **asdict(self.usage())}
        for seat in self.seats.values():
            seat.close([d.number for d in wave])

    def _system(self, dialogue: OngoingDialogue, seat: str) -> str:
        return system_text(dialogue.cast[seat], self.scenario.seats[seat].instruction)

    # -- saying

    def _lines(self, going: list[OngoingDialogue], turn: int) -> Iterator[dict]:
        """One line of every dialogue, added to the other seat's view; a dialogue without a line has failed."""
        upcoming = {d.number: self._next(d, turn) for d in going}
        for name, seat in self.seats.items():
            mine = [d for d in going if upcoming[d.number].seat == name]
            recited: dict[int, Utterance] = {}
            for d in mine:
                kept = self.stored.lines.get((d.number, turn))
                if kept:
                    recited[d.number] = Utterance(kept.text, kept.tokens, kept.token_ids, kept.logprob)
                elif (words := upcoming[d.number].words) is not None:
                    recited[d.number] = Utterance(words, count_words(words))
            cues = {d.number: upcoming[d.number].cue for d in mine}
            start = time.perf_counter()
            said: dict[int, Utterance | Trouble | Left] = {}
            if recited:
                said |= seat.recite({c: cues[c] for c in recited}, recited)
            if len(recited) < len(mine):
                said |= seat.speak({c: cue for c, cue in cues.items() if c not in recited})
            seconds = (time.perf_counter() - start) / max(len(mine), 1)
            for d in mine:
                yield from self._said(d, turn, name, said[d.number], seconds, upcoming[d.number].words is not None)
        for name, seat in self.seats.items():
            if heard := {d.number: d.lines[-1].text for d in going if not d.over and upcoming[d.number].seat != name}:
                seat.hear(heard)

    def _next(self, dialogue: OngoingDialogue, turn: int) -> Next:
        if (dialogue.number, turn) in self.stored.origins:
            return self._as_stored(dialogue, turn)
        node = self.graph.nodes[dialogue.node]["node"]
        seat = graphs.speaker(node, dialogue.lines[-1].seat if dialogue.lines else None)
        other = PARTNER[seat]
        me, partner = dialogue.cast[seat], dialogue.cast[other]
        seed = (self.scenario.seed, self._draws(dialogue.number))
        fact = graphs.fact_for(node, seat, partner, dialogue.facts_asked[other], dialogue.fact[other], *seed)
        if fact is not None and fact is not dialogue.fact[other]:
            dialogue.facts_asked[other] += 1
            dialogue.fact[other] = fact
        words = graphs.ready_line(node, me, partner, fact, random.Random(derive_seed(*seed, "says", turn)))
        instruction = "" if words is not None else graphs.instruction(node, seat, me, partner, fact)
        reminder = self.scenario.seats[seat].reminder.replace("{card}", me.card) if words is None else ""
        return Next(
            seat,
            Cue(
                " ".join(filter(None, (instruction, reminder))),
                self._seed(dialogue.number, seat, turn),
                turn,
                Speaker(seat, me.name, partner.name),
            ),
            words,
            fact,
        )

    def _as_stored(self, dialogue: OngoingDialogue, turn: int) -> Next:
        """A line of another run with the cue that its speaker had there. The fact it is about counts as asked of the
        partner who sits there now.
        """
        line, origin = self.stored.lines[dialogue.number, turn], self.stored.origins[dialogue.number, turn]
        other, fact = PARTNER[line.seat], None
        if origin["fact"] is not None:
            fact = next((candidate for candidate in dialogue.cast[other].facts if candidate.id == origin["fact"]), None)
            if fact is None or fact is not dialogue.fact[other]:
                dialogue.facts_asked[other] += 1
                dialogue.fact[other] = fact
        cue = Cue(origin["instruction"], self._seed(dialogue.number, line.seat, turn), turn)
        return Next(line.seat, cue, line.text if origin["ready"] else None, fact)

    def _stored_node(self, conversation: int, turn: int) -> str | None:
        """The node of a line kept from another run; None for other lines."""
        return self.stored.lines[conversation, turn].node if (conversation, turn) in self.stored.origins else None

    def _draws(self, conversation: int) -> int:
        """The conversation number from which the seeds of the walk, the facts and the given lines derive."""
        return self.scenario.fork.draws() if self.scenario.fork else conversation // self.alike

    def _seed(self, conversation: int, *parts: object) -> int:
        """The seed of a sample in a conversation."""
        own = self.scenario.fork.samples(conversation) if self.scenario.fork else (conversation,)
        return derive_seed(self.scenario.seed, *own, *parts)

    def _said(
        self,
        dialogue: OngoingDialogue,
        turn: int,
        seat: str,
        said: Utterance | Trouble | Left,
        seconds: float,
        ready: bool,
    ) -> Iterator[dict]:
        if isinstance(said, Left):
            dialogue.left = True
            return
        if isinstance(said, Trouble):
            dialogue.failed = True
            yield {"event": "conversation", "conversation": dialogue.number, "status": "failed", "reason": said.reason}
            return
        kept = self.stored.lines.get((dialogue.number, turn))
        line = kept or Line(
            dialogue.number,
            turn,
            seat,
            dialogue.cast[seat].id,
            dialogue.node,
            said.text,
            said.tokens,
            said.token_ids,
            said.logprob,
            seconds,
            said.projections.get(dialogue.cast[seat].id),
            said.cut,
        )
        dialogue.lines.append(line)
        if ready:
            dialogue.ready.add(turn)
        if not kept:
            yield {"event": "line", **vars(line)}

    # -- judging

    def _judge(self, going: list[OngoingDialogue], turn: int) -> Iterator[dict]:
        """Judgements of the last lines; returns the numbers of the dialogues whose last line contradicts and does not
        merely return to the persona, says the first judge.
        """
        fresh = [d for d in going if (d.number, turn, "judges") not in self.stored.judged]
        rows = {d.number: self.stored.judged.get((d.number, turn, "judges"), []) for d in going}
        self._remember(fresh)
        pairs = [pair for d in fresh for pair in self._pairs(d)]
        for judgement in self._judgements(pairs):
            rows[judgement.conversation].append(judgement)
        for d in fresh:
            yield _judged(d.number, turn, "judges", rows[d.number])
        return {d.number for d in going if self.judges and d.contradicts(rows[d.number], self.judges[0].name)}

    def _judgements(self, pairs: Sequence[Pair]) -> Iterator[Judgement]:
        for judge in self.judges:
            if mine := scored_by(judge, pairs):
                yield from judge.judge(mine)

    def _pairs(self, dialogue: OngoingDialogue) -> Iterator[Pair]:
        line = dialogue.lines[-1]
        if line.turn in dialogue.ready:
            return
        wanted = needed(self.scenario.measure.metrics)
        if any(edge.when for edge in self.scenario.graph.edges):
            wanted.add("prompt_to_line")
        yield from pairs_of_line(line, dialogue.lines[:-1], dialogue.cast, wanted, self._earlier(dialogue, line))

    def _earlier(self, dialogue: OngoingDialogue, line: Line) -> list[Line]:
        """The speaker's own earlier lines with which the line is paired: all, or the retrieved ones."""
        own = [
            earlier
            for earlier in dialogue.lines[:-1]
            if earlier.seat == line.seat and earlier.turn not in dialogue.ready
        ]
        if self.embed is None:
            return own
        return [own[place] for place in dialogue.near]

    def _remember(self, dialogues: Sequence[OngoingDialogue]) -> None:
        """Finds, where pairs are retrieved, what to hold the last lines against; embeds all lines that are not yet, in
        one call.
        """
        if self.embed is None:
            return
        new = [(d, line) for d in dialogues for line in d.lines[d.remembered :] if line.turn not in d.ready]
        for (d, line), line_pieces in zip(
            new,
            pair_retrieval.pieces([line.text for _, line in new], self.embed, [d.cast[line.seat] for d, line in new]),
            strict=True,
        ):
            d.near = d.memory[line.seat].add(line_pieces)
        for d in dialogues:
            d.remembered = len(d.lines)

    def _questions(self, going: list[OngoingDialogue], turn: int) -> Iterator[dict]:
        """Q&A probes of all facts of the seats, on branches that the dialogue never sees, as `judged` events.

        A known persona without facts gets one unscored judgement.
        """
        fresh = [d for d in going if (d.number, turn, "qa") not in self.stored.judged]
        rows: dict[int, list[Judgement]] = {d.number: [] for d in fresh}
        for name, seat in ((name, seat) for name, seat in self.seats.items() if name in self.probed_seats):
            facts = {d.number: d.cast[name].facts for d in fresh if d.cast[name].facts}
            for c in (d.number for d in fresh if d.number not in facts and d.cast[name].card):
                for judge in (QA_JUDGES[qa_format] for qa_format in self.scenario.measure.qa_format):
                    rows[c].append(Judgement(c, turn, name, "qa", judge, "persona", unscored=NO_FACTS))
            if not facts:
                continue
            questions = {
                c: [Question(self._wording(fact), fact.options, fact.id) for fact in known]
                for c, known in facts.items()
            }
            if "multiple_choice" in self.scenario.measure.qa_format:
                for c, likelihoods in seat.ask(questions).items():
                    rows[c] += _answered(answer_choice.choice_judgement, (c, turn, name), facts[c], likelihoods)
            if "free_text" in self.scenario.measure.qa_format:
                cues = {c: Cue("", self._seed(c, name, turn, "asked"), turn) for c in facts}
                replies, other = seat.answer(questions, cues), PARTNER[name]
                for c, reply in replies.items():
                    rows[c] += _answered(answered.match_judgement, (c, turn, name), facts[c], reply)
                pairs = [
                    Pair(d.number, turn, name, "qa", answer, fact.id, d.cast[name], self._wording(fact), d.cast[other])
                    for d in fresh
                    if d.number in facts and not isinstance(answers := replies[d.number], Trouble)
                    for fact, answer in zip(facts[d.number], answers, strict=True)
                ]
                for row in self._judgements(pairs):
                    rows[row.conversation].append(row)
        for c, judgements in rows.items():
            yield _judged(c, turn, "qa", judgements)

    def _wording(self, fact: Fact) -> str:
        return fact.slot.questions[min(self.scenario.measure.paraphrase, len(fact.slot.questions) - 1)]

    # -- walking

    def _walk(self, going: list[OngoingDialogue], turn: int, contradicted: set[int]) -> Iterator[dict]:
        for d in going:
            rng = random.Random(derive_seed(self.scenario.seed, self._draws(d.number), "walk", turn))
            node = self._stored_node(d.number, turn + 1) or graphs.next_node(
                self.graph, d.node, d.visit + 1, d.lines[-1].text, d.number in contradicted, rng
            )
            d.visit = d.visit + 1 if node == d.node else 0
            d.node = node
            if (d.number, turn + 1) not in self.stored.lines and turn + 1 < self.scenario.turns:
                yield {"event": "walk", "conversation": d.number, "turn": turn, "node": node}


def system_text(persona: Persona, instruction: str) -> str:
    """The system text of a seat: card, name and instruction."""
    return SYSTEM.format(card=persona.card, instruction=instruction, name=persona.name).replace("\n\n", "\n")


def _answered(judged: Callable, where: tuple, facts: Sequence[Fact], answers: Sequence | Trouble) -> list[Judgement]:
    """One judgement per fact; all are unscored, with the reason, where the seat could not answer."""
    if isinstance(answers, Trouble):
        return [judged(*where, fact, None, answers.reason) for fact in facts]
    return [judged(*where, fact, answers[place], None) for place, fact in enumerate(facts)]


def _judged(conversation: int, turn: int, by: str, rows: Sequence[Judgement]) -> dict:
    return {
        "event": "judged",
        "conversation": conversation,
        "turn": turn,
        "by": by,
        "rows": [dict(vars(row)) for row in rows],
    }
