"""Persona directions by hand, and projections read while lines are generated, against plain forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from agents.engine.protocol import Sampling
from agents.engine.steering import HOWS, OPENERS, Axis, Direction, Probe, axis, contrast, decoder_layers
from scenarios import personas as people

pytestmark = pytest.mark.usefixtures("one_thread")
PEOPLE = {persona.id: persona for persona in people.load_personas("scenarios/personas/townsfolk.yaml")}
UNSEEN = [
    "Hi there, nice to meet you!",
    "What brings you here today?",
    "Where did you grow up?",
    "What is your job like?",
    "Anything new with you?",
    "Do you live alone?",
]


def test_contrast_by_hand():
    # one layer of width 2, all on the x axis: a at 3 5 3 5, b at -1 1 -1 1. Within cards x varies by 1, shrunken by .3
    # of the mean of (1, 0):
    # 1.15; so a's vector is (1 / sqrt(1.15), 0). Without one line x varies by 8/9, shrunken 1.0222: that vector finds
    # the line left out
    # 4 / sqrt(1.0222) from its like
    a, b = (np.array([[[x, 0.0]] for x in xs]) for xs in ((3.0, 5.0, 3.0, 5.0), (-1.0, 1.0, -1.0, 1.0)))
    contrasted = contrast({"a": a, "b": b})["a"]
    unit, gap = 1 / np.sqrt(1.15), 4 / np.sqrt(8 / 9 * 1.15)
    np.testing.assert_allclose(contrasted.vector, [[unit, 0]], rtol=1e-6)
    np.testing.assert_allclose([contrasted.other[0], contrasted.own[0]], [2 * unit - gap / 2, 2 * unit + gap / 2])
    projections = [contrasted.project(np.array([[x, 9.0]])) for x in (2 - gap / unit / 2, 2.0, 2 + gap / unit / 2)]
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
    layer = torch.nn.ModuleDict(
        {"experts": torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(9)), "norm": torch.nn.LayerNorm(2)}
    )
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
    # ragged, so that rows change as lines end
    samples = engine.generate(names, [Sampling(seed=i, max_tokens=4 + i) for i in range(3)])
    for prompt, sample, kept in zip(prompts, samples, engine.probe.kept, strict=True):
        ids = [*prompt, *sample.token_ids]
        with torch.inference_mode():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
        sampled_from = hidden[len(prompt) - 1 : len(ids) - 1].mean(0).numpy()
        np.testing.assert_allclose(kept, sampled_from[None], atol=1e-4)


def test_watching_changes_no_token_and_reads_none_again():
    model, prompts = tiny.plain(tiny.llama()), tiny.prompts(5, 17)
    bare, eyed = tiny.engine(model), watched(model)
    said = [engine.generate(engine.open(prompts), [Sampling(seed=1), Sampling(seed=2)]) for engine in (bare, eyed)]
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


@pytest.mark.slow
def test_line_under_its_own_persona_projects_higher_than_under_anothers(eyed):
    engine, cards = eyed
    form, lines = engine.info().format, {}
    for name, card in cards.items():
        branches = engine.open(
            engine.encode([form.opening + card + form.after_system + words + form.before_said for words in UNSEEN])
        )
        lines[name] = engine.generate(
            branches, [Sampling(seed=i, max_tokens=20, sentences=2) for i in range(len(UNSEEN))]
        )
        engine.drop(branches)
    # in answer to the same words, which were not learned from
    nearer = [
        mine.projections[name] - theirs.projections[name]
        for name in cards
        for other in cards
        if other != name
        for mine, theirs in zip(lines[name], lines[other], strict=True)
    ]
    assert np.mean(nearer) > 0.3, "1 is the distance between fresh lines under the persona's card and under others"
    assert np.mean(np.array(nearer) > 0) > 0.7, "chance is one half"
    assert set(lines[name][0].projections) == set(cards) and all(
        isinstance(value, float) for value in lines[name][0].projections.values()
    )


# -- steering
#
#

MODEL, SEEN = tiny.plain(tiny.llama()), tiny.prompts(20, 8, 9, 7)
EXACT = 1e-5  # nats


def along_axis(engine) -> Axis:
    """From the first two texts to the others, by their last states."""
    return axis(*(engine.states(prompts, [len(prompt) - 1 for prompt in prompts]) for prompts in (SEEN[:2], SEEN[2:])))


def by_hand(model, steer, ids: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """log p behind each token of one plain forward pass with hooks of our own, and the projections of the steered
    states by layer.
    """
    vectors, seen, hooks = np.frombuffer(steer.vectors, np.float32).reshape(len(steer.layers), -1), [], []
    for layer, vector, amount in zip(steer.layers, torch.tensor(vectors), steer.amounts, strict=True):

        def hook(module, inputs, output, vector=vector, amount=amount):
            hidden = output[0] if isinstance(output, tuple) else output
            along = hidden @ vector
            wanted = {
                "add": along + amount,
                "ablate": 0 * along,
                "cap": along.minimum(torch.tensor(amount)),
                "floor": along.maximum(torch.tensor(amount)),
            }[steer.how]
            hidden = hidden + (wanted - along)[..., None] * vector
            seen.append(hidden @ vector)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        hooks.append(decoder_layers(model)[layer].register_forward_hook(hook))
    try:
        return tiny.logprobs(model, ids), seen
    finally:
        for handle in hooks:
            handle.remove()


def test_states_are_those_of_a_plain_forward_pass():
    by_prompt = tiny.engine(MODEL).states(SEEN, [19, 0, 4, 6])
    for prompt, start, states in zip(SEEN, [19, 0, 4, 6], by_prompt, strict=True):
        hidden = []
        hooks = [
            layer.register_forward_hook(
                lambda module, inputs, output, kept=hidden: kept.append(
                    output[0] if isinstance(output, tuple) else output
                )
            )
            for layer in decoder_layers(MODEL)
        ]
        tiny.logprobs(MODEL, prompt)
        for hook in hooks:
            hook.remove()
        wanted = torch.stack([layer.view(len(prompt), -1)[start:].mean(0) for layer in hidden]).numpy()
        np.testing.assert_allclose(states, wanted, atol=1e-5)


def test_an_axis_by_hand():
    # one layer: away (0, 0) and (2, 0), towards (4, 4); from (1, 0) to (4, 4) is (3, 4), so v = (.6, .8), which
    # projects them on .6 and 5.6
    measured = axis(np.array([[[0.0, 0]], [[2, 0]]]), np.array([[[4.0, 4]]]))
    assert measured.length[0] == pytest.approx((0 + 2 + 32**0.5) / 3)
    added, capped = measured.steer("add", 0.5), measured.steer("cap", 0.2)
    np.testing.assert_allclose(np.frombuffer(added.vectors, np.float32), [0.6, 0.8], rtol=1e-6)
    assert added.layers == capped.layers == (0,) and added.amounts[0] == pytest.approx(measured.length[0] / 2)
    assert capped.amounts[0] == pytest.approx(0.6 + 0.2 * 5) and added == measured.steer("add", 0.5) != capped
    other = measured.steer("add", 0.5, random=1)
    assert other.amounts == added.amounts and np.linalg.norm(np.frombuffer(other.vectors, np.float32)) == pytest.approx(
        1
    )
    assert other.vectors != added.vectors and other != measured.steer("add", 0.5, random=2)


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_a_steered_branch_says_and_scores_what_hooks_by_hand_make_of_the_model(family):
    model = tiny.plain(tiny.CONFIGS[family]())
    engine = tiny.engine(model)
    for how in HOWS:
        steer = along_axis(engine).steer(how, 0.5, (0, 1))
        [branch] = engine.fork(engine.open(SEEN[:1], steer=steer))
        wanted, projections = by_hand(model, steer, [*SEEN[0], *SEEN[1]])
        scored = engine.score([branch], [[((), SEEN[1])]])[0][0]
        np.testing.assert_allclose(scored, [float(wanted[19 + i, token]) for i, token in enumerate(SEEN[1])], atol=1e-4)
        bare = tiny.target_logprobs(model, *SEEN[:2])
        assert np.abs(np.subtract(scored, bare)).max() > 1e-3, "it does something"
        if how == "ablate":
            assert max(float(layer.abs().max()) for layer in projections) < EXACT
        [sample] = engine.generate([branch], [Sampling(seed=0, max_tokens=5, temperature=0, top_k=0)])
        table, _ = by_hand(model, steer, [*SEEN[0], *sample.token_ids])
        assert list(sample.token_ids) == table[19:24].argmax(-1).tolist()


def test_an_ablated_state_has_no_projection_left_and_a_probe_sees_that():
    engine = watched(MODEL)
    steer = along_axis(engine).steer("ablate", 0, (0,))
    vector = np.frombuffer(steer.vectors, np.float32)
    engine.generate([*engine.open(SEEN[:1], steer=steer), *engine.open(SEEN[:1])], [Sampling(seed=1, max_tokens=4)] * 2)
    ablated, bare = (float(vector @ kept[0]) for kept in engine.probe.kept)
    assert abs(ablated) < EXACT and abs(bare) > 100 * EXACT


def test_an_unsteered_branch_beside_a_steered_one_is_as_it_is_alone():
    engine, alone = tiny.engine(MODEL), tiny.engine(MODEL)
    steer = along_axis(engine).steer("add", 1.0, (0,))
    mixed = [engine.open(SEEN[:1], steer=each_steer)[0] for each_steer in (steer, None, steer)]
    scores = engine.score(mixed, [[((), SEEN[1])]] * 3)
    wanted = alone.score(alone.open(SEEN[:1]), [[((), SEEN[1])]])
    np.testing.assert_allclose(scores[1][0], wanted[0][0], atol=EXACT)
    assert scores[0] == scores[2] and np.abs(np.subtract(scores[0][0], scores[1][0])).max() > 0.01
    said = engine.generate(mixed, [Sampling(seed=3, max_tokens=6)] * 3)
    assert said[1].token_ids == alone.generate(alone.open(SEEN[:1]), [Sampling(seed=3, max_tokens=6)])[0].token_ids
    assert not any(layer._forward_hooks for layer in decoder_layers(engine.model))


def test_steers_that_do_not_fit_are_refused():
    engine = tiny.engine(MODEL)
    measured = along_axis(engine)
    with pytest.raises(ValueError, match="steered by 'push'; expected add, ablate, cap, floor"):
        measured.steer("push", 1.0)
    with pytest.raises(ValueError, match="does not fit a model of 2 layers with 32"):
        engine.open(SEEN[:1], steer=Axis(np.zeros((4, 32)), np.ones((4, 32)), np.ones(4)).steer("add", 1.0, (1,)))
    with pytest.raises(ValueError, match="the same states behind layer 1"):
        Axis(measured.away, measured.away, measured.length).steer("add", 1.0, (0.5,))
    with pytest.raises(ValueError, match="from 0 texts to 4"):
        axis(np.zeros((0, 2, 32)), np.zeros((4, 2, 32)))


def test_the_embedded_model_goes_where_it_is_steered(embedded):
    form = embedded.info().format
    moods = [
        [
            form.opening + f"You are {mood} today." + form.after_system + words + form.before_said
            for words in OPENERS[:4]
        ]
        for mood in ("very sad and hopeless", "very happy and excited")
    ]
    ids = [embedded.encode(texts) for texts in moods]
    steer = axis(*(embedded.states(encoded, [len(text_ids) - 1 for text_ids in encoded]) for encoded in ids)).steer(
        "add", 0.5, (0.5,)
    )
    prompt, happy, sad = embedded.encode(
        [form.opening + form.after_system + "How are you?" + form.before_said, "I feel great!", "I feel terrible."]
    )

    def gap(**how):
        [branch] = embedded.open([prompt], **how)
        good, bad = embedded.score([branch], [[((), happy), ((), sad)]])[0]
        embedded.drop([branch])
        return sum(good) - sum(bad)

    assert gap(steer=steer) > gap() + 1
