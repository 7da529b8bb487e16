"""The loop, with seats and judges written by hand: each seat says a digest of all it has read, so that a seat which
read something else than it should says something else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agents.engine.protocol import Usage
from agents.seats.base import Trouble, Utterance
from lab.dialogue.loop import Play
from lab.store.resume import stored
from metrics.judges import judgement
from scenarios import graph as graphs
from scenarios import personas as people
from scenarios.records import derive_seed
from scenarios.scenario import load_scenario

ROOT = Path(__file__).parents[3]
SCENARIO = """
name: small
seed: 7
conversations: {conversations}
concurrency: {concurrency}
turns: {turns}
personas: {personas}
seats:
  assistant: {{persona: grace, instruction: Keep to the point.}}
  user: {{persona: sample}}
graph:
  start: hello
  nodes:
    hello: {{speaker: assistant, says: ["Hello, {{partner.name}}!"]}}
    chat: {{instruct: {{assistant: "Ask about their {{fact.slot}}."}}}}
    doubt: {{speaker: assistant, instruct: {{assistant: "Doubt it."}}, pressure: 3}}
  edges:
    - {{from: hello, to: chat}}
    - {{from: chat, to: doubt, when: contradiction}}
    - {{from: doubt, to: chat}}
measure: {{qa_every: 3}}
"""


@dataclass
class Echo:
    """A seat that notes every call in `log` and says a digest of its view, direction and seed."""

    name: str
    log: list = field(default_factory=list)
    trouble: frozenset = frozenset()  # (conversation, own line) that cannot be had
    views: dict = field(default_factory=dict)

    def open(self, systems):
        self.log.append((self.name, "open", dict(systems)))
        self.views |= {c: [system] for c, system in systems.items()}

    def hear(self, heard):
        self.log.append((self.name, "hear", dict(heard)))
        for c, text in heard.items():
            self.views[c].append(f"< {text}")

    def speak(self, cues):
        self.log.append((self.name, "speak", dict(cues)))
        return {c: self._say(c, cue) for c, cue in cues.items()}

    def recite(self, cues, said):
        self.log.append((self.name, "recite", dict(said)))
        for c, utterance in said.items():
            self.views[c].append(f"> [{cues[c].instruction}] {utterance.text}")
        return dict(said)

    def ask(self, questions):
        self.log.append((self.name, "ask", dict(questions)))
        return {
            c: [[-float(_digest(self.views[c], q.text, option)) for option in q.options] for q in asked]
            for c, asked in questions.items()
        }

    def close(self, conversations):
        self.log.append((self.name, "close", list(conversations)))

    def _say(self, c, cue):
        if (c, sum(entry.startswith(">") for entry in self.views[c])) in self.trouble:
            return Trouble("the line is dead")
        text = f"{self.name} {c} {_digest(self.views[c], cue)}"
        self.views[c].append(f"> [{cue.instruction}] {text}")
        return Utterance(text, 2, (len(self.views[c]), c), -1.0)


@dataclass
class Finds:
    """A judge that finds a contradiction with the persona in the lines at (conversation, turn)."""

    name: str = "finds"
    where: frozenset = frozenset()
    batches: list = field(default_factory=list)

    def judge(self, pairs):
        self.batches.append([(pair.conversation, pair.turn, pair.metric, pair.against) for pair in pairs])
        contradicting = [
            pair.metric == "prompt_to_line" and (pair.conversation, pair.turn) in self.where for pair in pairs
        ]
        return [
            judgement(pair, self.name, p_inconsistent=float(wrong), verdict=wrong)
            for pair, wrong in zip(pairs, contradicting, strict=True)
        ]


def _digest(*parts) -> int:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:6], 16)


@pytest.fixture
def play(tmp_path):
    @cache
    def scene(conversations=2, turns=6, concurrency=32, overrides=()):
        path = tmp_path / "small.yaml"
        townsfolk = ROOT / "scenarios/personas/townsfolk.yaml"
        path.write_text(
            SCENARIO.format(conversations=conversations, turns=turns, concurrency=concurrency, personas=townsfolk)
        )
        scenario = load_scenario(path, overrides)
        return scenario, graphs.build(scenario), people.cast(scenario)

    def make(earlier=(), *, judges=None, trouble=(), **how) -> Play:
        log = []
        seats = {"assistant": Echo("assistant", log), "user": Echo("user", log, frozenset(trouble))}
        return Play(*scene(**how), seats, judges or [Finds()], Usage, stored(earlier))

    return make


def calls(played: Play, *kinds: str) -> list[tuple]:
    return [entry for entry in played.seats["user"].log if entry[1] in kinds]


def plain(events) -> list[dict]:
    """Events as they are read from a file, without what the clock says."""
    return [
        json.loads(json.dumps({key: value for key, value in event.items() if key != "seconds"})) for event in events
    ]


def lines(events) -> list[tuple[int, int]]:
    return [(event["conversation"], event["turn"]) for event in events if event["event"] == "line"]


def test_dialogues_advance_in_lock_step(play):
    assert lines(play(conversations=3, turns=4).events()) == [(c, turn) for turn in range(4) for c in range(3)]


def test_conversations_that_are_alike_are_asked_the_same_and_answer_as_they_like(play):
    people_alike = [cast for cast in play(conversations=3).cast[:1] for _ in range(3)]
    for alike, different in ((3, False), (1, True)):
        played = replace(play(conversations=3, turns=5), alike=alike, cast=people_alike)
        list(played.events())
        cues = [what for _, _, what in calls(played, "speak")]
        assert (len({cues[1][c].instruction for c in range(3)}) > 1) == different  # the fact that is asked about
        assert len({cues[0][c].seed for c in range(3)}) == 3


def test_a_step_is_one_batch_for_all_dialogues(play):
    played = play(conversations=3, turns=4)
    list(played.events())
    assert [(seat, kind, sorted(what)) for seat, kind, what in calls(played, "speak", "recite")] == [
        ("assistant", "recite", [0, 1, 2]),
        ("user", "speak", [0, 1, 2]),
        ("assistant", "speak", [0, 1, 2]),
        ("user", "speak", [0, 1, 2]),
    ], "the ready greeting is recited, the rest is spoken, one call a step"


def test_every_line_is_judged_before_the_next_is_said(play):
    kinds = [
        (event["event"], event["turn"])
        for event in play(conversations=1, turns=3).events()
        if event["event"] in ("line", "judged")
    ]
    assert kinds == [
        ("line", 0),
        ("judged", 0),
        ("judged", 0),
        ("line", 1),
        ("judged", 1),
        ("line", 2),
        ("judged", 2),
        ("judged", 2),
    ]


def test_each_seat_hears_the_other_and_only_the_other(play):
    played = play(conversations=2, turns=5)
    texts = {(e["conversation"], e["turn"]): (e["seat"], e["text"]) for e in played.events() if e["event"] == "line"}
    for name, seat in played.seats.items():
        for c, view in seat.views.items():
            heard = [entry[2:] for entry in view if entry.startswith("< ")]
            assert heard == [texts[c, t][1] for t in range(5) if texts[c, t][0] != name]


def test_each_seat_is_opened_under_its_own_card(play):
    played = play(conversations=2)
    list(played.events())
    for c, cast in enumerate(played.cast):
        assert cast["assistant"].card in played.seats["assistant"].views[c][0]
        assert cast["user"].card in played.seats["user"].views[c][0]
        assert "Keep to the point." in played.seats["assistant"].views[c][0]
        assert "Keep to the point." not in played.seats["user"].views[c][0]


def test_seed_of_a_line_derives_from_run_conversation_seat_and_turn(play):
    played = play(conversations=2, turns=4)
    list(played.events())
    seeds = [cue.seed for _, _, cues in calls(played, "speak") for cue in cues.values()]
    assert seeds == [
        derive_seed(7, c, seat, turn) for turn, seat in ((1, "user"), (2, "assistant"), (3, "user")) for c in range(2)
    ]
    assert len(set(seeds)) == 6


def test_dialogue_does_not_depend_on_its_neighbours(play):
    alone = [event["text"] for event in play(conversations=1).events() if event["event"] == "line"]
    among = [
        event["text"]
        for event in play(conversations=4).events()
        if event["event"] == "line" and event["conversation"] == 0
    ]
    assert alone == among


def test_more_dialogues_than_side_by_side_go_in_waves(play):
    played = play(conversations=5, turns=2, concurrency=2)
    waves = [[0, 1], [2, 3], [4]]
    assert lines(played.events()) == [(c, turn) for wave in waves for turn in range(2) for c in wave]
    assert [list(what) for seat, _, what in calls(played, "open", "close") if seat == "user"] == [
        w for wave in waves for w in (wave, wave)
    ]


def test_waves_change_nothing_but_the_order(play):
    texts = [
        {
            (e["conversation"], e["turn"]): e["text"]
            for e in play(conversations=3, concurrency=size).events()
            if e["event"] == "line"
        }
        for size in (1, 32)
    ]
    assert texts[0] == texts[1]


def test_failed_dialogue_leaves_the_others_alone(play):
    healthy = [event for event in plain(play(conversations=3).events()) if event.get("conversation") in (0, 2)]
    events = plain(play(conversations=3, trouble={(1, 1)}).events())
    assert [event for event in events if event.get("conversation") in (0, 2)] == healthy
    assert lines(event for event in events if event.get("conversation") == 1) == [(1, 0), (1, 1), (1, 2)]
    ends = [(e["conversation"], e["status"], e["reason"]) for e in events if e["event"] == "conversation"]
    assert ends == [(1, "failed", "the line is dead"), (0, "finished", None), (2, "finished", None)]


def test_run_in_which_every_dialogue_fails_ends(play):
    events = list(play(trouble={(0, 0), (1, 0)}).events())
    assert lines(events) == [(0, 0), (1, 0)]
    assert [e["status"] for e in events if e["event"] == "conversation"] == ["failed", "failed"]


@pytest.mark.parametrize(("every", "turns"), [(1, [0, 1, 2, 3, 4, 5]), (3, [0, 2, 5]), (4, [0, 3]), (100, [0])])
def test_questions_come_after_the_first_line_and_every_n(play, every, turns):
    played = play(overrides=(f"measure.qa_every={every}",))
    asked = [
        event["turn"]
        for event in played.events()
        if event["event"] == "judged" and event["by"] == "qa" and event["conversation"] == 0
    ]
    assert asked == turns


def test_no_questions_come_after_the_first_line_where_no_start_is_asked_for(play):
    played = play(overrides=("measure.qa_every=3", "measure.qa_first=false"))
    assert {event["turn"] for event in played.events() if event.get("by") == "qa"} == {2, 5}


def test_no_questions_are_asked_where_nobody_wants_the_answers(play):
    played = play(overrides=("measure.metrics=[prompt_to_line]",))
    assert "qa" not in {event.get("by") for event in played.events()}
    assert calls(played, "ask") == []


def test_both_seats_are_asked_about_all_facts_of_their_own(play):
    played = play(conversations=1, turns=1)
    (rows,) = [event["rows"] for event in played.events() if event.get("by") == "qa"]
    wanted = [(seat, fact.id) for seat in played.seats for fact in played.cast[0][seat].facts]
    assert [(row["seat"], row["against"]) for row in rows] == wanted


def test_a_persona_without_facts_is_asked_nothing_and_counts_as_unscored(play):
    card = "seats.user.persona={name: Ada, card: A pilot.}"
    played = play(conversations=1, turns=1, overrides=(card, "measure.qa_format=[multiple_choice]"))
    (rows,) = [event["rows"] for event in played.events() if event.get("by") == "qa"]
    mine = [row for row in rows if row["seat"] == "user"]
    assert [(row["against"], row["verdict"], row["unscored"]) for row in mine] == [
        ("persona", None, "the persona has no facts")
    ]
    assert len(rows) == 1 + len(played.cast[0]["assistant"].facts)
    assert [list(call[2]) for call in calls(played, "ask")] == [[0]]  # the assistant alone


def test_a_fact_of_a_persona_without_facts_is_not_asked_for(play):
    card = "seats.user.persona={name: Ada, card: A pilot.}"
    played = play(conversations=1, turns=4, overrides=(card, "measure.metrics=[prompt_to_line]"))
    assert len(lines(list(played.events()))) == 4
    cues = [cue for call in calls(played, "speak") for cue in call[2].values()]
    assert cues and all("Ask about" not in cue.instruction for cue in cues)


def test_questions_leave_the_dialogue_as_it_was(play):
    often, never = play(overrides=("measure.qa_every=1",)), play(overrides=("measure.metrics=[prompt_to_line]",))
    assert [e["text"] for e in often.events() if e["event"] == "line"] == [
        e["text"] for e in never.events() if e["event"] == "line"
    ]


def test_line_is_judged_against_persona_and_all_earlier_lines_of_its_seat(play):
    judge = Finds()
    list(play(conversations=1, turns=6, judges=[judge]).events())
    assert judge.batches[-1] == [
        (0, 5, "prompt_to_line", "persona"),
        (0, 5, "line_to_line", "1"),
        (0, 5, "line_to_line", "3"),
    ]


def test_words_that_the_scenario_gave_are_nobodys_to_be_judged(play):
    """Turn 0 is the ready greeting: judged itself never, and no line of its seat is held against it."""
    judge = Finds()
    list(play(conversations=1, turns=5, judges=[judge]).events())
    assert [batch[0][1] for batch in judge.batches] == [1, 2, 3, 4]
    assert judge.batches[-1] == [(0, 4, "prompt_to_line", "persona"), (0, 4, "line_to_line", "2")]


def test_walk_follows_a_contradiction_that_the_first_judge_found(play):
    events = list(play(conversations=2, turns=5, judges=[Finds(where=frozenset({(1, 1)}))]).events())
    nodes = {c: [e["node"] for e in events if e["event"] == "line" and e["conversation"] == c] for c in range(2)}
    assert nodes == {0: ["hello", "chat", "chat", "chat", "chat"], 1: ["hello", "chat", "doubt", "chat", "chat"]}


def test_walk_does_not_follow_the_second_judge(play):
    events = play(conversations=1, turns=5, judges=[Finds(), Finds("other", frozenset({(0, 1)}))]).events()
    assert [e["node"] for e in events if e["event"] == "line"] == ["hello", "chat", "chat", "chat", "chat"]


def test_walk_is_told_before_the_next_line_is_said(play):
    events = list(play(conversations=1, turns=4).events())
    walks = [(e["turn"], e["node"]) for e in events if e["event"] == "walk"]
    assert walks == [(0, "chat"), (1, "chat"), (2, "chat")], "none after the last line"


CONTRADICTED = frozenset({(0, 1), (1, 3)})


@pytest.mark.parametrize("concurrency", [1, 32])
def test_resumed_play_equals_an_uninterrupted_one_event_by_event(play, concurrency):
    """Wherever it was cut: what comes is the rest, and nothing that was stored (walks and usage aside, which only
    tell).
    """
    how = {"concurrency": concurrency, "turns": 5}
    whole = plain(play(judges=[Finds(where=CONTRADICTED)], **how).events())
    for cut in range(len(whole) + 1):
        earlier = [event | {"seconds": 1.0} if event["event"] == "line" else event for event in whole[:cut]]
        rest = plain(play(earlier, judges=[Finds(where=CONTRADICTED)], **how).events())
        remaining = [event for event in rest if event["event"] not in ("usage", "walk")]
        assert remaining == [event for event in whole[cut:] if event["event"] not in ("usage", "walk")], (
            f"cut after {cut} events"
        )
        walks = [event for event in whole[cut:] if event["event"] == "walk"]
        assert all(walk in rest for walk in walks)


def test_stored_lines_are_recited_with_their_token_ids_not_said_again(play):
    whole = plain(play(conversations=1, turns=4).events())
    earlier = [event | {"seconds": 1.0} for event in whole if event["event"] == "line" and event["turn"] < 3]
    played = play(earlier, conversations=1, turns=4)
    list(played.events())
    assert [(seat, kind) for seat, kind, _ in calls(played, "speak", "recite")] == [
        ("assistant", "recite"),
        ("user", "recite"),
        ("assistant", "recite"),
        ("user", "speak"),
    ]
    recited = [said[0] for _, _, said in calls(played, "recite")]
    assert [(u.text, list(u.token_ids)) for u in recited] == [(e["text"], e["token_ids"]) for e in earlier]


def test_finished_play_opens_no_dialogue_again(play):
    whole = plain(play().events())
    played = play([event | {"seconds": 1.0} for event in whole])
    assert list(played.events()) == [] and calls(played, "open", "speak", "recite", "ask") == []


def test_failed_dialogue_is_tried_again_on_resume(play):
    broken = plain(play(trouble={(1, 1)}).events())
    rest = plain(play([event | {"seconds": 1.0} for event in broken]).events())
    assert lines(rest) == [(1, 3), (1, 4), (1, 5)]
    assert [(e["conversation"], e["status"]) for e in rest if e["event"] == "conversation"] == [(1, "finished")]
    assert sorted(lines(broken) + lines(rest)) == [(c, t) for c in range(2) for t in range(6)]


def test_retrieved_pairs_are_fewer_and_the_same_whether_resumed_or_not(play):
    places: dict[str, int] = {}

    def embed(texts):
        return np.eye(512)[[places.setdefault(text, len(places)) for text in texts]]

    def judged_pairs(**how) -> list:
        judge = Finds()
        played = replace(play(conversations=1, turns=24, judges=[judge], **how), embed=embed)
        events = plain(played.events())
        return events, [pair for batch in judge.batches for pair in batch if pair[2] == "line_to_line"]

    events, retrieved = judged_pairs()
    # the user says 12 lines, 66 pairs; the assistant 11 of its own, 55 pairs: from the tenth line on a fifth of them
    # may be judged
    assert all(int(against) < turn and (turn - int(against)) % 2 == 0 for _, turn, _, against in retrieved)
    assert 20 <= len(retrieved) <= (66 + 55) / 5 + 2
    half = [event for event in events if event.get("turn", 0) < 12]
    _, later = judged_pairs(earlier=half)
    assert later == [pair for pair in retrieved if pair[1] >= 12]


def test_a_reminder_comes_with_every_line_of_its_seat_and_with_no_ready_one(play):
    reminder = "Remember who you are. {card}"
    played = play(
        conversations=1,
        turns=5,
        overrides=(f"seats.user.reminder={reminder!r}", f"seats.assistant.reminder={reminder!r}"),
    )
    list(played.events())
    cast = played.cast[0]
    reminders = {
        name: [entry for entry in seat.views[0] if entry.startswith("> ")] for name, seat in played.seats.items()
    }
    assert all(cast["user"].card in entry for entry in reminders["user"]) and len(reminders["user"]) == 2
    assert cast["assistant"].card not in reminders["assistant"][0] and all(
        cast["assistant"].card in entry for entry in reminders["assistant"][1:]
    )
    assert "Ask about their" in reminders["assistant"][1], "the node's direction stays"
