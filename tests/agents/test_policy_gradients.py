"""Gradients of GRPO and PPO against exact ones: a dialogue small enough that everything which can be said in it is
enumerated.

Three tokens, of which the last ends a line; a line has at most two, so that there are seven: the end at once, or one of
the other two tokens and any third. The policy speaks twice, and is answered between. Where it may leave, ending its
first line at once ends the dialogue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product
from math import factorial, prod

import learners
import numpy as np
import pytest
import tiny
import torch

from agents.learning import losses, online
from agents.learning.learner import Learner
from agents.learning.views import Sampled, View
from scenarios.jobs.training_keys import Tuning
from scenarios.records import derive_seed

pytestmark = pytest.mark.usefixtures("one_thread")
STOP = 2
TEMPERATURE = 0.8  # what is said is sampled at it, and so the policy that learns is the one at it
LINES = [(STOP,), *product((0, 1), (0, 1, STOP))]
OPENING = (0, 1, 1)
CLOSE = 1e-5  # of the gradient's size: float32
# epsilon is never reached: the ratio is 1
FREE = Tuning(beta=0.0, loss_type="dr_grpo", scale_rewards=False, gamma=1.0, lam=1.0)


def worth(*lines: tuple[int, ...]) -> float:
    """The reward of the last of these lines after the others: anything, but always the same."""
    return derive_seed("reward", str(lines)) % 1000 / 500 - 1


@dataclass(frozen=True)
class Everything:
    """All dialogues, with what the policy thinks of each."""

    views: list[View]
    first: torch.Tensor  # (D,) probability of the first line, with a gradient
    second: torch.Tensor  # (D,) of the second after it; 1 where there is none
    kl: torch.Tensor  # (D,) divergence from the untouched model, exactly, summed over the tokens of its lines
    rewards: torch.Tensor  # (D, 2)


def dialogue(number: int, first: tuple[int, ...], second: tuple[int, ...] | None) -> View:
    heard = (*OPENING, *first, 1, first[0] % 2)
    lines = [Sampled(0, len(OPENING), first, reward=worth(first))]
    if second is not None:
        lines.append(Sampled(1, len(heard), second, reward=worth(first, second)))
    return View(number, "p", (*heard, *(second or ())), tuple(lines))


def everything(learner: Learner, may_leave: bool) -> Everything:
    """By plain passes over each dialogue's tokens; nothing of views is used."""
    pairs = [(first, second) for first in LINES for second in ([None] if may_leave and first == (STOP,) else LINES)]
    views, chances_and_kls = [], []
    for number, (first, second) in enumerate(pairs):
        view = dialogue(number, first, second)
        now = (learner.model(torch.tensor([view.ids])).logits[0] / TEMPERATURE).log_softmax(-1)
        with torch.no_grad(), learner.model.disable_adapter():
            ref = (learner.model(torch.tensor([view.ids])).logits[0] / TEMPERATURE).log_softmax(-1)
        by_line = [[(line.start + i - 1, token) for i, token in enumerate(line.ids)] for line in view.lines]
        logps = [torch.stack([now[place, token] for place, token in per_line]) for per_line in by_line]
        kls = [(now[place].exp() * (now[place] - ref[place])).sum() for per_line in by_line for place, _ in per_line]
        lines = [
            replace(line, logprobs=tuple(per_line.tolist())) for line, per_line in zip(view.lines, logps, strict=True)
        ]
        views.append(replace(view, lines=tuple(lines)))
        chances = [per_line.sum().exp() for per_line in logps] + [torch.ones(())]
        chances_and_kls.append((chances[0], chances[1], torch.stack(kls).sum()))
    rewards = torch.tensor([[line.reward for line in view.lines] + [0.0] * (2 - len(view.lines)) for view in views])
    return Everything(views, *map(torch.stack, zip(*chances_and_kls, strict=True)), rewards)


def slope(learner: Learner, objective: torch.Tensor) -> torch.Tensor:
    """Its gradient by autograd, over the parameters of the policy."""
    parameters = [p for p in learner.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(objective, parameters, retain_graph=True)])


def turn_by_turn(learner: Learner, all_: Everything, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How each turn's choice changes what is expected from it on, at the chances of the moment of everything else."""
    first = all_.first * all_.second.detach() * (all_.rewards[:, 0] + gamma * all_.rewards[:, 1])
    second = all_.first.detach() * all_.second * all_.rewards[:, 1]
    return slope(learner, first.sum()), slope(learner, second.sum())


def surrogate(learner: Learner, all_: Everything, views, advantages, how: Tuning, weigh: bool = True) -> torch.Tensor:
    """The gradient of the learner's own loss, each dialogue weighted by its exact chance, times what the loss is
    divided by.
    """
    chances = (all_.first * all_.second).detach()
    parts = [
        (view, lambda read, loss=loss, chance=chances[view.conversation] if weigh else 1.0: loss(read) * chance)
        for view, loss in online.parts(learner, views, advantages, how)
    ]
    lines = [line for view in views for line in view.lines]
    over = {
        "dr_grpo": len(lines) * max(len(line.ids) for line in lines),
        "dapo": sum(len(line.ids) for line in lines),
        "grpo": len(lines),
    }
    _, gradient = learners.gradient(learner, parts)
    return gradient[: sum(p.numel() for p in learner.model.parameters() if p.requires_grad)] * over[how.loss_type]


def apart(actual: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((actual - wanted).norm() / wanted.norm())


@pytest.fixture
def learner(tmp_path):
    """With a value head that says something; updates give gradients and leave it where it is."""
    config = tiny.llama(vocab_size=STOP + 1, hidden_size=16, intermediate_size=16, initializer_range=0.2)
    return learners.learner(
        learners.saved(config, tmp_path / "model", seed=2),
        value_head=True,
        noise=0.2,
        max_grad_norm=1e9,
        learning_rate=1e-30,
        temperature=TEMPERATURE,
    )


@pytest.mark.parametrize("may_leave", [False, True])
def test_the_dialogues_are_all_there_are(learner, may_leave):
    all_ = everything(learner, may_leave)
    assert len(all_.views) == (43 if may_leave else 49)
    assert float((all_.first * all_.second).sum()) == pytest.approx(1, abs=1e-5)
    assert len({round(p, 6) for p in all_.first.tolist()}) == 7 and max(all_.first.tolist()) < 0.7  # nothing is certain


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["dr_grpo", "dapo"])
@pytest.mark.parametrize("may_leave", [pytest.param(False, marks=pytest.mark.slow), True])
def test_ppo_climbs_the_exact_gradient_and_pays_the_exact_divergence(learner, may_leave, kind, gamma):
    all_ = everything(learner, may_leave)
    how = FREE.model_copy(update={"beta": 0.3, "loss_type": kind, "gamma": gamma})
    wanted = sum(turn_by_turn(learner, all_, gamma))
    if gamma == 1:  # then the sum over turns is the gradient of what is expected in all
        assert apart(wanted, slope(learner, (all_.first * all_.second * all_.rewards.sum(1)).sum())) < CLOSE
    kl = slope(learner, ((all_.first * all_.second).detach() * all_.kl).sum())
    views, advantages, returns, values = online.by_value(learner, all_.views, how)
    raw = torch.tensor(
        [g - v for per_view, old in zip(returns, values, strict=True) for g, v in zip(per_view, old, strict=True)]
    )
    assert [len(per_view) for per_view in advantages] == [len(view.lines) for view in all_.views] and abs(
        values[0][0]
    ) > 0.01
    gradient = surrogate(learner, all_, views, advantages, how)
    assert apart(gradient, how.beta * kl - wanted / raw.std()) < CLOSE  # advantages were divided by their deviation
    assert kl.norm() > 0.1 and wanted.norm() > 0.1


@pytest.mark.slow
def test_an_average_within_each_line_climbs_something_else(learner):
    """The bias that Dr. GRPO tells of: a token of a long line counts less."""
    all_ = everything(learner, True)
    advantages = [
        [sum(line.reward for line in view.lines[place:]) for place in range(len(view.lines))] for view in all_.views
    ]
    wanted = -sum(turn_by_turn(learner, all_, 1.0))
    assert apart(surrogate(learner, all_, all_.views, advantages, FREE), wanted) < CLOSE
    gradient = surrogate(learner, all_, all_.views, advantages, FREE.model_copy(update={"loss_type": "grpo"}))
    assert float(torch.cosine_similarity(gradient, wanted, dim=0)) < 0.99


def test_a_line_without_its_end_climbs_something_else(learner):
    """To stop is a choice like any other, and has to be learnt."""
    all_ = everything(learner, False)
    wanted = -sum(turn_by_turn(learner, all_, 1.0))
    views, advantages = [], []
    for view in all_.views:
        rest = [
            (
                replace(line, ids=ids, logprobs=line.logprobs[: len(ids)]),
                sum(later.reward for later in view.lines[place:]),
            )
            for place, line in enumerate(view.lines)
            if (ids := tuple(token for token in line.ids if token != STOP))
        ]
        if rest:
            views.append(replace(view, lines=tuple(line for line, _ in rest)))
            advantages.append([worth for _, worth in rest])
    assert apart(surrogate(learner, all_, views, advantages, FREE), wanted) > 0.1


@pytest.mark.parametrize("may_leave", [False, True])
def test_grpo_of_dialogues_climbs_the_exact_gradient(learner, may_leave):
    """The mean over all groups of two. Each advantage is half the difference, and both lines of a pair learn from it: 2
    * 1/2 times the gradient. A second turn that one of the two never came to has nothing to be compared with: it counts
    by the chance that the other went on.
    """
    all_ = everything(learner, may_leave)
    chances = (all_.first * all_.second).tolist()
    expected = {(view.conversation, line.turn): 0.0 for view in all_.views for line in view.lines}
    for episode, other in product(all_.views, repeat=2):
        twin = replace(other, conversation=-1)
        kept, advantages, _ = online.by_dialogue([episode, twin], lambda view: 0, FREE)
        for view, line_advantages in zip(kept, advantages, strict=True):
            for line, advantage in zip(view.lines, line_advantages, strict=True):
                number = episode.conversation if view.conversation >= 0 else other.conversation
                expected[number, line.turn] += chances[episode.conversation] * chances[other.conversation] * advantage
    advantages = [[expected[view.conversation, line.turn] for line in view.lines] for view in all_.views]
    first, second = turn_by_turn(learner, all_, 1.0)
    went_on = sum(chance for chance, view in zip(chances, all_.views, strict=True) if len(view.lines) == 2)
    assert (went_on < 0.95) == may_leave
    assert (
        apart(surrogate(learner, all_, all_.views, advantages, FREE, weigh=False), -(first + went_on * second)) < CLOSE
    )


def test_grpo_of_lines_at_one_place_climbs_the_exact_gradient(learner):
    """The mean over all groups of three: each advantage is 1 - 1/3 of what it would be against the true mean, and there
    are three.
    """
    all_ = everything(learner, False)
    chance = {view.lines[0].ids: float(p) for view, p in zip(all_.views, all_.first, strict=True)}
    known = {view.lines[0].ids: view.lines[0] for view in all_.views}
    sides = {ids: replace(line, on_trunk=False) for ids, line in known.items()}
    expected = dict.fromkeys(LINES, 0.0)
    for group in product(LINES, repeat=3):
        view = View(0, "p", (*OPENING, *group[0]), (known[group[0]], sides[group[1]], sides[group[2]]))
        for kept, line_advantages in zip(*online.by_place([view], FREE)[:2], strict=True):
            for line, advantage in zip(kept.lines, line_advantages, strict=True):
                expected[line.ids] += chance[group[0]] * chance[group[1]] * chance[group[2]] * advantage
    wanted = -2 * slope(
        learner, (all_.first * torch.tensor([worth(view.lines[0].ids) for view in all_.views])).sum() / len(LINES)
    )
    view = View(0, "p", OPENING, tuple(sides.values()))
    assert (
        apart(surrogate(learner, all_, [view], [[expected[ids] for ids in sides]], FREE, weigh=False), wanted) < CLOSE
    )


def test_what_is_said_off_the_record_is_an_episode_of_its_own_to_ppo(learner):
    episode = dialogue(0, (0, STOP), (1, STOP))
    aside = replace(episode.lines[0], ids=(1, STOP), given=(0, 1), on_trunk=False, about="fact", reward=0.75)
    lines = (replace(episode.lines[0], reward=1.0), aside, replace(episode.lines[1], reward=-0.5))
    _, _, returns, values = online.by_value(
        learner, [replace(episode, lines=lines)], FREE.model_copy(update={"gamma": 0.5})
    )
    # aside and turns are nothing to each other
    assert returns[0] == pytest.approx([1.0 - 0.5 * 0.5, 0.75, -0.5], abs=1e-6)
    assert len({round(value, 4) for value in values[0]}) == 3  # and the head is read behind the question


# -- how far the defaults are from the exact direction: a softmax over four lines of 1 to 8 tokens


def softmax_policy(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits, rewards and lengths of four lines, (4,) each."""
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=4)), torch.tensor(rng.random(4)), torch.tensor(rng.integers(1, 9, size=4))


def expected_direction(policy, how: Tuning, size: int) -> torch.Tensor:
    """The mean over all groups of `size` lines of minus the gradient of their loss, with respect to the logits, (4,),
    where each group is the batch of its step.
    """
    logits, rewards, lengths = policy
    logits = logits.clone().requires_grad_()
    logp = logits.log_softmax(0)
    groups = list(combinations_with_replacement(range(4), size))
    advantages = [losses.relative(rewards[list(group)], how.scale_rewards) for group in groups]
    learnt = [place for place, advantage in enumerate(advantages) if advantage is not None]
    rows = torch.tensor([groups[place] for place in learnt]).flatten()  # lines, group by group
    advantage = torch.cat([advantages[place] for place in learnt])
    mask = (torch.arange(8) < lengths[rows, None]).double()  # (N, 8)
    logps = (logp[rows] / lengths[rows])[:, None] * mask  # how a line's is spread over its tokens changes nothing
    per_token = losses.clipped(logps, logps.detach(), mask, advantage, how.epsilon, how.epsilon_high)
    tokens = lengths[rows].reshape(-1, size).sum(1).repeat_interleave(size)
    loss = losses.averaged(per_token, mask, how.loss_type, size, 1.0, 8) / (tokens if how.loss_type == "dapo" else 1.0)
    counts = [np.bincount(groups[place], minlength=4).tolist() for place in learnt]
    orders = torch.tensor([factorial(size) // prod(map(factorial, count)) for count in counts])
    chances = orders * logp.detach()[rows].reshape(-1, size).sum(1).exp()
    return -torch.autograd.grad((loss * chances.repeat_interleave(size)).sum(), logits)[0]


def cosine_with_gradient(policy, how: Tuning, size: int) -> float:
    logits, rewards, _ = policy
    logits = logits.clone().requires_grad_()
    wanted = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)[0]
    return float(torch.cosine_similarity(expected_direction(policy, how, size), wanted, dim=0))


PLAIN = Tuning(loss_type="dr_grpo", scale_rewards=False)


@pytest.mark.parametrize(
    ("how", "size", "mean", "worst"),
    [
        (Tuning(), 2, 0.889, 0.341),
        (Tuning(), 4, 0.939, 0.464),
        (Tuning(), 8, 0.978, 0.710),
        (Tuning(scale_rewards=False), 2, 0.988, 0.932),
        (Tuning(scale_rewards=False), 4, 0.997, 0.973),
        (PLAIN, 2, 1.0, 1.0),
        (PLAIN, 4, 1.0, 1.0),
    ],
)
def test_cosine_of_the_expected_direction_with_the_gradient_is_what_the_documentation_says(how, size, mean, worst):
    cosines = [cosine_with_gradient(softmax_policy(seed), how, size) for seed in range(100)]
    assert (np.mean(cosines), min(cosines)) == pytest.approx((mean, worst), abs=0.001 if mean < 1 else 1e-9)


def test_scale_of_rewards_with_two_values_changes_no_direction_within_a_place():
    for seed in range(20):
        logits, _, lengths = softmax_policy(seed)
        policy = logits, torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64), lengths
        assert cosine_with_gradient(policy, Tuning(loss_type="dr_grpo"), 4) == pytest.approx(1, abs=1e-3)


# -- credit for later turns, with two lines (0 and 1) at each of two turns and groups of two: all of it is enumerated

FIRST = (0.7, 0.3)  # probabilities of the first line
SECOND = ((0.4, 0.6), (0.9, 0.1))  # of the second, after either first one that the dialogue went on from
OWN, THEN = (0.2, -0.5), ((1.0, 0.0), (-0.75, 0.5))  # rewards of the first line; of the second, after the first


def two_turns(number: int, first: tuple[int, int], second: tuple[int, int]) -> tuple[View, float]:
    """A dialogue with the lines sampled at its turns, of which it goes on from the one named first; its probability."""
    places = [(0, 1, first, OWN), (1, 3, second, THEN[first[0]])]
    lines = [
        Sampled(turn, start, (said,), (0.0,), on_trunk=place == 0, text=str(place), reward=worth_of[said])
        for turn, start, both, worth_of in places
        for place, said in enumerate(both)
    ]
    chance = prod(FIRST[said] for said in first) * prod(SECOND[first[0]][said] for said in second)
    return View(number, "p", (9, first[0], 9, second[0]), tuple(lines)), chance


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_grpo_with_reward_to_go_climbs_the_exact_gradient_of_discounted_rewards(gamma):
    how = Tuning(loss_type="dr_grpo", scale_rewards=False, reward_to_go=True, gamma=gamma)
    pairs = list(product((0, 1), repeat=2))
    climbed = dict.fromkeys(((0, 0), (1, 0), (1, 1)), 0.0)  # by turn, and the line before
    for (one, chance), (other, other_chance) in product(
        (two_turns(0, *both) for both in product(pairs, repeat=2)), repeat=2
    ):
        kept, advantages, _ = online.by_place([one, replace(other, conversation=1)], how)
        for view, of_lines in zip(kept, advantages, strict=True):
            for line, advantage in zip(view.lines, of_lines, strict=True):
                before = view.ids[1] if line.turn else 0
                likely = SECOND[before][1] if line.turn else FIRST[1]
                # the gradient of the line's log-probability by the logit of line 1
                climbed[line.turn, before] += chance * other_chance * advantage * (line.ids[0] - likely) / 2
    ahead = [sum(p * reward for p, reward in zip(SECOND[said], THEN[said], strict=True)) for said in (0, 1)]
    wanted = {(0, 0): FIRST[0] * FIRST[1] * (OWN[1] - OWN[0] + gamma * (ahead[1] - ahead[0]))}
    for said in (0, 1):
        wanted[1, said] = FIRST[said] * prod(SECOND[said]) * (THEN[said][1] - THEN[said][0])
    assert climbed == pytest.approx(wanted, abs=1e-6)


def test_line_that_a_dialogue_did_not_go_on_from_gets_no_credit_for_later_turns():
    how = Tuning(loss_type="dr_grpo", scale_rewards=False, reward_to_go=True, gamma=0.5)
    good, bad = two_turns(0, (0, 0), (0, 0))[0], two_turns(1, (1, 1), (0, 0))[0]
    views, advantages, skipped = online.by_place([good, bad], how)
    # after them came 1 and -3/4: half of that, less the other's
    assert [[line.turn for line in view.lines] for view in views] == [[0], [0]] and skipped == 4
    assert [line.on_trunk for view in views for line in view.lines] == [True, True]
    assert advantages == [[pytest.approx(0.875)], [pytest.approx(-0.875)]]
    assert online.by_place([good], how)[0] == [], "alone it has nothing to be compared with"
