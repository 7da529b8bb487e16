"""Persona directions by hand, and projections read while lines are generated, against plain forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from agents.protocol import Sampling
from agents.steering import OPENERS, Direction, Probe, contrast, decoder_layers
from scenarios import personas as people

PEOPLE = {persona.id: persona for persona in people.load_personas("scenarios/personas/townsfolk.yaml")}
UNSEEN = ["Hi there, nice to meet you!", "What brings you here today?", "Where did you grow up?", "What is your job like?",
          "Anything new with you?", "Do you live alone?"]


def test_contrast_by_hand():
    # one layer of width 2, all on the x axis: a at 3 5 3 5, b at -1 1 -1 1. Within cards x varies by 1, shrunken by .3 of the mean of (1, 0):
    # 1.15; so a's vector is (1 / sqrt(1.15), 0). Without one line x varies by 8/9, shrunken 1.0222: that vector finds the line left out
    # 4 / sqrt(1.0222) from its like
    a, b = (np.array([[[x, 0.0]] for x in xs]) for xs in ((3.0, 5.0, 3.0, 5.0), (-1.0, 1.0, -1.0, 1.0)))
    found = contrast({"a": a, "b": b})["a"]
    unit, gap = 1 / np.sqrt(1.15), 4 / np.sqrt(8 / 9 * 1.15)
    np.testing.assert_allclose(found.vector, [[unit, 0]], rtol=1e-6)
    np.testing.assert_allclose([found.other[0], found.own[0]], [2 * unit - gap / 2, 2 * unit + gap / 2])
    projections = [found.project(np.array([[x, 9.0]])) for x in (2 - gap / unit / 2, 2.0, 2 + gap / unit / 2)]
    np.testing.assert_allclose(projections, [0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(contrast({"a": a, "b": b})["b"].vector, [[-unit, 0]], rtol=1e-6)


def test_contrast_counts_a_direction_by_how_little_lines_of_one_card_vary_along_it():
    rng = np.random.default_rng(3)
    lines = {name: rng.normal(size=(200, 1, 2)) * (10, 1) + shift for name, shift in (("a", (3, 3)), ("b", (0, 0)))}
    x, y = contrast(lines)["a"].vector[0]
    assert y > 5 * abs(x)


def test_direction_that_does_not_hold_for_the_other_half_of_the_lines_projects_nothing():
    assert np.isnan(Direction(np.ones((1, 1), np.float32), np.array([2.0]), np.array([1.0])).project(np.ones((1, 1))))


def test_contrast_needs_two_cards_and_four_lines():
    with pytest.raises(ValueError, match=r"1 cards with \[4\] lines: expected two cards"):
        contrast({"a": np.ones((4, 1, 2))})
    with pytest.raises(ValueError, match=r"2 cards with \[4, 3\] lines: expected two cards"):
        contrast({"a": np.ones((4, 1, 2)), "b": np.ones((3, 1, 2))})


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_decoder_layers_are_found_in_every_family(family):
    assert len(decoder_layers(tiny.plain(tiny.CONFIGS[family]()))) == 2


def test_decoder_layers_are_not_mistaken_for_a_longer_list_of_experts():
    layer = torch.nn.ModuleDict({"experts": torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(9)), "norm": torch.nn.LayerNorm(2)})
    stack = torch.nn.ModuleList([layer, torch.nn.Linear(2, 2)])
    assert decoder_layers(torch.nn.Sequential(stack)) is stack
    with pytest.raises(ValueError, match="has no list of layers"):
        decoder_layers(torch.nn.Linear(2, 2))


def watched(model):
    """An engine whose probe keeps the mean states of layer 0."""
    engine = tiny.engine(model)
    engine.probe = Probe(engine.model, [0])
    engine.probe.kept = []
    return engine


def test_mean_state_of_a_line_is_that_of_a_plain_forward_pass():
    model = tiny.plain(tiny.llama())
    engine, prompts = watched(model), tiny.prompts(5, 17, 9)
    names = engine.open(prompts)
    samples = engine.generate(names, [Sampling(seed=i, max_tokens=4 + i) for i in range(3)])  # ragged, so that rows change as lines end
    for prompt, sample, kept in zip(prompts, samples, engine.probe.kept, strict=True):
        ids = [*prompt, *sample.token_ids]
        with torch.inference_mode():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
        sampled_from = hidden[len(prompt) - 1 : len(ids) - 1].mean(0).numpy()
        np.testing.assert_allclose(kept, sampled_from[None], atol=1e-4)


def test_watching_changes_no_token_and_reads_none_again():
    model, prompts = tiny.plain(tiny.llama()), tiny.prompts(5, 17)
    bare, eyed = tiny.engine(model), watched(model)
    said = [one.generate(one.open(prompts), [Sampling(seed=1), Sampling(seed=2)]) for one in (bare, eyed)]
    assert [sample.token_ids for sample in said[0]] == [sample.token_ids for sample in said[1]]
    assert bare.usage().tokens_computed == eyed.usage().tokens_computed
    assert said[0][0].projections == {}


def test_scoring_and_reading_are_not_watched():
    engine = watched(tiny.plain(tiny.llama()))
    branch = engine.open(tiny.prompts(30))
    engine.score(branch, [[((), (3, 4, 5))]])
    assert engine.probe._sums == {} and engine.probe.kept == []


def test_closed_probe_sees_nothing():
    engine = watched(tiny.plain(tiny.llama()))
    engine.probe.close()
    assert not decoder_layers(engine.model)[0]._forward_hooks


@pytest.fixture(scope="module")
def eyed(embedded):
    """The embedded model that watches three personas."""
    cards = {name: persona.card for name, persona in list(PEOPLE.items())[:3]}
    embedded.watch(cards, OPENERS, seed=7)
    yield embedded, cards
    embedded.probe.close()
    embedded.probe = None


def test_line_under_its_own_persona_projects_higher_than_under_anothers(eyed):
    engine, cards = eyed
    form, lines = engine.info().format, {}
    for name, card in cards.items():
        branches = engine.open(engine.encode([form.opening + card + form.after_system + words + form.before_said for words in UNSEEN]))
        lines[name] = engine.generate(branches, [Sampling(seed=i, max_tokens=20, sentences=2) for i in range(len(UNSEEN))])
        engine.drop(branches)
    nearer = [mine.projections[name] - theirs.projections[name] for name in cards for other in cards if other != name
              for mine, theirs in zip(lines[name], lines[other], strict=True)]  # in answer to the same words, which were not learned from
    assert np.mean(nearer) > 0.3, "1 is the distance between fresh lines under the persona's card and under others"
    assert np.mean(np.array(nearer) > 0) > 0.7, "chance is one half"
    assert set(lines[name][0].projections) == set(cards) and all(isinstance(value, float) for value in lines[name][0].projections.values())
