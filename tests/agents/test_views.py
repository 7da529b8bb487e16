"""Views: which token of a row predicts which, who sees whom, and that one pass over a row equals a plain pass a
line.
"""

from __future__ import annotations

from dataclasses import replace

import learners
import pytest
import tiny
import torch
from tiny import close
from transformers import MistralConfig, Qwen2Config

from agents.engine.protocol import Sampling
from agents.learning.views import Sampled, View, at_places, padded, row, visible, with_lines
from agents.seats.base import Cue, Question
from agents.seats.model import ModelSeat
from lab.training.rewards import Rollout, sampled
from scenarios.records import derive_seed

pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = tiny.CONFIGS | {
    "mistral": lambda: MistralConfig(**tiny.SIZES, sliding_window=tiny.WINDOW),  # no layer types: all layers slide
    "qwen2 with a window": lambda: Qwen2Config(
        **tiny.SIZES, use_sliding_window=True, sliding_window=tiny.WINDOW, max_window_layers=1
    ),
}
SMALL = View(
    0,
    "p",
    (10, 11, 12, 13, 14, 15),
    (
        Sampled(0, 2, (12, 13)),
        Sampled(0, 2, (20, 21, 22), on_trunk=False),
        Sampled(1, 4, (40,), on_trunk=False, given=(30, 31)),
    ),
)


# -- by hand


def test_a_row_is_the_trunk_up_to_its_last_line_and_then_each_branch_at_its_own_positions():
    packed = row(SMALL)
    assert packed.ids.tolist() == [10, 11, 12, 13, 20, 21, 22, 30, 31, 40]  # 14 and 15 were heard after the last line
    assert packed.positions.tolist() == [0, 1, 2, 3, 2, 3, 4, 4, 5, 6]
    assert packed.first.tolist() == [0] * 4 + [4] * 3 + [7] * 3
    assert packed.seen.tolist() == [0] * 4 + [2] * 3 + [4] * 3


def test_each_token_of_a_line_is_predicted_by_the_one_that_it_was_sampled_after():
    packed = row(SMALL)
    assert [places.tolist() for places in packed.targets] == [[2, 3], [4, 5, 6], [9]]
    # after 11; after 11 again; after the question
    assert [places.tolist() for places in packed.sources] == [
        [1, 2],
        [1, 4, 5],
        [8],
    ]


def test_a_branch_sees_the_trunk_up_to_its_start_and_itself_only():
    mask = visible(row(SMALL)).int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 1, 1, 0],
        [1, 1, 1, 1, 0, 0, 0, 1, 1, 1],
    ]


def test_a_window_counts_positions_and_not_places():
    mask = visible(row(SMALL), window=3).int().tolist()
    assert mask[3] == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert mask[6] == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]  # positions 2, 3, 4
    assert mask[7] == [0, 0, 1, 1, 0, 0, 0, 1, 0, 0]  # positions 2, 3, 4
    assert mask[9] == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_a_line_that_is_not_what_stands_in_its_view_is_refused():
    other = replace(SMALL, lines=(Sampled(7, 2, (12, 99)),))
    with pytest.raises(ValueError, match="line of turn 7 in conversation 0 differs from its view"):
        row(other)
    with pytest.raises(ValueError, match="differs from its view"):
        row(replace(SMALL, lines=(Sampled(7, 5, (15, 16)),)))  # the trunk ends before it does
    assert row(replace(SMALL, lines=(replace(other.lines[0], on_trunk=False),))).ids.tolist() == [10, 11, 12, 99]


def test_lines_of_one_place_come_together_and_a_questions_answers_are_another_place():
    more = replace(
        SMALL,
        lines=(
            *SMALL.lines,
            Sampled(1, 4, (41,), on_trunk=False, given=(30, 31)),
            Sampled(1, 4, (42,), on_trunk=False),
        ),
    )
    assert [[line.ids for line in group] for group in at_places(more)] == [
        [(12, 13), (20, 21, 22)],
        [(40,), (41,)],
        [(42,)],
    ]
    assert with_lines(more, lambda line: line.ids[0] > 40).lines == more.lines[3:]


def test_padding_is_no_token():
    values, mask = padded([torch.tensor([1.0, 2.0]), torch.tensor([3.0])])
    assert values.tolist() == [[1, 2], [3, 0]] and mask.tolist() == [[1, 1], [1, 0]]


# -- against plain forward passes


def by_plain_passes(model, view: View) -> list[list[float]]:
    return [tiny.target_logprobs(model, [*view.ids[: line.start], *line.given], list(line.ids)) for line in view.lines]


def lines_of(view: View, logps: torch.Tensor) -> list[list[float]]:
    return [line_logps[: len(line.ids)].tolist() for line, line_logps in zip(view.lines, logps, strict=True)]


@pytest.mark.parametrize("kind", FAMILIES)
def test_one_pass_over_a_view_equals_a_plain_pass_for_each_of_its_lines(kind, tmp_path):
    learner = learners.learner(learners.saved(FAMILIES[kind](), tmp_path / "model"))
    view = learners.view(9, 7, 5, takes=3)  # 57 tokens of trunk behind a window of 16
    [now], [before] = learner.read([view]), learner.read([view], untouched=True)
    assert close(lines_of(view, before.logps), by_plain_passes(tiny.plain(FAMILIES[kind]()), view))
    updating = learner._read(row(view)).logps.detach()
    assert torch.equal(updating, now.logps)  # no dropout of the base's own
    assert close(lines_of(view, now.logps), by_plain_passes(learner.model.eval(), view))
    assert not close(lines_of(view, now.logps), lines_of(view, before.logps))


def test_entropy_is_that_of_each_tokens_whole_distribution(tmp_path):
    learner, view = learners.learner(learners.saved(tiny.llama(), tmp_path / "model")), learners.view(4, 3)
    [read] = learner.read([view])
    line = view.lines[1]
    table = tiny.logprobs(learner.model.eval(), [*view.ids[: line.start], *line.ids])[line.start - 1 : -1]
    assert close(read.entropy[1, : len(line.ids)].tolist(), (-table.exp() * table).sum(-1).tolist())
    assert read.mask.sum(1).tolist() == [len(line.ids) for line in view.lines]


# -- seats


class Noting:
    """An engine that notes for each branch which of its tokens it was given (False) and which it said itself (True)."""

    def __init__(self, engine) -> None:
        self.engine, self.said = engine, {}

    def __getattr__(self, name: str):
        return getattr(self.engine, name)

    def open(self, prompts, adapter=None, steer=None):
        names = self.engine.open(prompts, adapter, steer)
        self.said.update((name, [False] * len(prompt)) for name, prompt in zip(names, prompts, strict=True))
        return names

    def fork(self, branches):
        names = self.engine.fork(branches)
        self.said.update((name, list(self.said[source])) for name, source in zip(names, branches, strict=True))
        return names

    def extend(self, branches, ids):
        self.engine.extend(branches, ids)
        for name, extension in zip(branches, ids, strict=True):
            self.said[name] += [False] * len(extension)

    def generate(self, branches, sampling):
        samples = self.engine.generate(branches, sampling)
        for name, sample in zip(branches, samples, strict=True):
            self.said[name] += [True] * len(sample.token_ids)
        return samples


@pytest.fixture(scope="module")
def played():
    """Four dialogues of six turns between two seats, three lines sampled at each place, both asked something after the
    third.
    """
    engines = {
        name: Noting(tiny.engine(tiny.plain(tiny.llama(), seed), ord("\n")))
        for seed, name in enumerate(("user", "assistant"))
    }
    seats = {
        name: ModelSeat(engine, Sampling(0, 20, 2.0, 0), generations=3, keep=True) for name, engine in engines.items()
    }
    said: list[tuple[str, dict]] = []
    for name, seat in seats.items():
        seat.open({c: f"You are {name} {c}." for c in range(4)})
    for turn in range(6):
        speaker, other = ("user", "assistant")[:: 1 if turn % 2 == 0 else -1]
        cues = {c: Cue("Ask." if c % 2 else "", derive_seed(c, turn), turn) for c in range(4)}
        said.append((speaker, seats[speaker].speak(cues)))
        seats[other].hear({c: utterance.text for c, utterance in said[-1][1].items()})
        for seat in seats.values() if turn == 3 else ():
            seat.answer(
                {c: [Question("Who are you?", about="name"), Question("Where?", about="place")] for c in range(4)}, cues
            )
    views = {
        (name, c): View(
            c,
            name,
            tuple(seat.ids[c]),
            tuple(sampled(Rollout(c, name, {}, [], tuple(seat.ids[c]), tuple(seat.spoken[c])))),
        )
        for name, seat in seats.items()
        for c in range(4)
    }
    noted = {(name, c): engines[name].said[seat._branch[c]] for name, seat in seats.items() for c in range(4)}
    return said, views, noted


def test_a_seats_mask_is_exactly_what_its_engine_said(played):
    _, views, noted = played
    for key, view in views.items():
        packed = row(view)
        trunk = len(packed.ids) - sum(len(line.given) + len(line.ids) for line in view.lines if not line.on_trunk)
        targeted = torch.cat(packed.targets).tolist()
        assert len(targeted) == len(set(targeted))  # no token twice
        assert {place for place in targeted if place < trunk} == {place for place in range(trunk) if noted[key][place]}
        assert not any(noted[key][trunk:])  # nothing was said behind it
        beside = [place for place in range(trunk, len(packed.ids)) if place not in set(targeted)]
        assert packed.ids[beside].tolist() == [token for line in view.lines for token in line.given]
        assert [tuple(packed.ids[places].tolist()) for places in packed.targets] == [line.ids for line in view.lines]
        assert len(view.lines) == 3 * 3 + 2 * 3


def test_the_masks_of_both_seats_are_disjoint_and_exhaust_what_was_said(played):
    said, views, _ = played
    for turn, (speaker, by_conversation) in enumerate(said):
        for c, utterance in by_conversation.items():
            owners = {
                name: line.ids
                for (name, of), view in views.items()
                if of == c
                for line in view.lines
                if line.on_trunk and line.turn == turn
            }
            assert owners == {speaker: utterance.token_ids}
    ends = [utterance.token_ids[-1] for _, utterances in said for utterance in utterances.values()]
    assert ord("\n") in ends and set(ends) != {ord("\n")}  # lines that closed themselves, and lines that were cut
