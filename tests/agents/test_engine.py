"""The engine against plain forward passes and `generate` of transformers, in float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny
import torch
from tiny import CLOSE, close

from agents.engine.protocol import Sampling
from agents.engine.sampling import choose

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = Sampling(seed=0, max_tokens=30, temperature=0, top_k=0)


@pytest.fixture(scope="module")
def llama():
    return tiny.plain(tiny.llama())


# -- against transformers


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_greedy_lines_of_a_ragged_batch_equal_generate_token_for_token(kind):
    model = tiny.plain(tiny.CONFIGS[kind]())
    engine, prompts = tiny.engine(model), tiny.prompts(1, 7, 23, 60)  # the window of the sliding layers is 16
    samples = engine.generate(engine.open(prompts), [GREEDY] * 4)
    assert [list(sample.token_ids) for sample in samples] == [tiny.greedy(model, prompt, 30) for prompt in prompts]
    assert all(sample.stopped == "length" for sample in samples)
    assert len({sample.token_ids for sample in samples}) == 4  # weights that say something


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_scores_equal_the_log_softmax_of_a_plain_forward_pass(kind):
    model = tiny.plain(tiny.CONFIGS[kind]())
    engine, (first, second, given, target, other) = tiny.engine(model), tiny.prompts(40, 3, 5, 20, 9)
    scores = engine.score(
        engine.open([first, second]), [[((), target), (given, target), (given, other)], [(given, target)]]
    )
    wanted = [
        [
            tiny.target_logprobs(model, first, target),
            tiny.target_logprobs(model, first + given, target),
            tiny.target_logprobs(model, first + given, other),
        ],
        [tiny.target_logprobs(model, second + given, target)],
    ]
    assert [[len(continuation) for continuation in by_branch] for by_branch in scores] == [[20, 20, 9], [20]]
    assert close(scores, wanted)


def test_different_windows_would_show():
    """The sliding window is no decoration: the same weights with a wider one say something else."""
    configs = [tiny.CONFIGS["gemma3"]() for _ in range(2)]
    configs[1].sliding_window = 400
    [prompt] = tiny.prompts(60)
    engines = [tiny.engine(tiny.plain(config)) for config in configs]
    narrow, wide = (engine.score(engine.open([prompt]), [[((), [5])]])[0][0][0] for engine in engines)
    assert abs(narrow - wide) > CLOSE


@pytest.mark.slow
def test_a_branch_of_4000_tokens_equals_a_plain_forward_pass():
    model = tiny.plain(tiny.llama(max_position_embeddings=8192))
    engine, (prompt, target) = tiny.engine(model), tiny.prompts(4000, 12)
    [branch] = engine.open([prompt])
    assert close(engine.score([branch], [[((), target)]])[0][0], tiny.target_logprobs(model, prompt, target))
    [sample] = engine.generate([branch], [GREEDY])
    assert close(sample.logprobs, tiny.target_logprobs(model, prompt, list(sample.token_ids)))


def test_a_branch_that_outgrows_its_slab_equals_generate(llama):
    engine, prompts = tiny.engine(llama), tiny.prompts(3, 90)
    branches = engine.open(prompts)  # room for 128 tokens
    samples = engine.generate(branches, [Sampling(0, 300, 0, 0)] * 2)
    assert [list(sample.token_ids) for sample in samples] == [tiny.greedy(llama, prompt, 300) for prompt in prompts]


# -- branches


def test_forked_branch_equals_fresh_prefill_and_leaves_its_source_alone(llama):
    engine, (prompt, more, other) = tiny.engine(llama), tiny.prompts(30, 9, 4)
    [source] = engine.open([prompt])
    engine.generate([source], [Sampling(0, 1, 0, 0)])  # so that there is something to copy
    [said] = [engine._branches[source].ids[30:]]
    twin, other_twin = engine.fork([source, source])
    engine.extend([twin, other_twin], [more, other])
    samples = engine.generate([twin, other_twin, source], [GREEDY] * 3)
    assert list(samples[0].token_ids) == tiny.greedy(llama, prompt + said + more, 30)
    assert list(samples[1].token_ids) == tiny.greedy(llama, prompt + said + other, 30)
    assert list(samples[2].token_ids) == tiny.greedy(llama, prompt + said, 30)


def test_a_fork_reads_nothing_again(llama):
    engine, [prompt] = tiny.engine(llama), tiny.prompts(100)
    [source] = engine.open([prompt])
    engine.generate([source], [Sampling(0, 1)])
    before = engine.usage().tokens_computed
    engine.generate(engine.fork([source]), [Sampling(0, 1)])
    assert engine.usage().tokens_computed - before == 1  # the last token, which was still unread


def test_score_leaves_the_branch_unchanged(llama):
    engine, prompts = tiny.engine(llama), tiny.prompts(20, 50)
    scored, bare = engine.open(prompts), engine.open(prompts)
    long = tiny.prompts(200, seed=1)[0]  # past the slab's 128
    first = engine.score(scored, [[((), long)], [(long, [3])]])
    assert engine.score(scored, [[((), long)], [(long, [3])]]) == first
    sampling = [Sampling(seed=4, max_tokens=20), Sampling(seed=5, max_tokens=20)]
    after_scoring, wanted = engine.generate(scored, sampling), engine.generate(bare, sampling)
    assert [s.token_ids for s in after_scoring] == [s.token_ids for s in wanted]
    assert close([s.logprobs for s in after_scoring], [s.logprobs for s in wanted])


def test_score_with_nothing_to_score_is_empty(llama):
    engine = tiny.engine(llama)
    assert engine.score(engine.open(tiny.prompts(4, 4)), [[], [((), ()), ([1], ())]]) == [[], [[], []]]
    assert engine.generate([], []) == [] and engine.fork([]) == [] and engine.open([]) == []


def test_score_in_several_trees_equals_score_in_one(llama, monkeypatch):
    engine, (prompt, *targets) = tiny.engine(llama), tiny.prompts(20, *[15] * 6)
    wanted = engine.score(engine.open([prompt]), [[((), target) for target in targets]])
    monkeypatch.setattr("agents.engine.branches.TOKENS_A_PASS", 32)  # two targets of 15 fit
    monkeypatch.setattr("agents.engine.branches.TOKENS_A_LOOK", 8)
    assert close(engine.score(engine.open([prompt]), [[((), target) for target in targets]]), wanted)


def test_ragged_branches_scored_together_equal_each_alone(llama):
    engine, prompts = tiny.engine(llama), tiny.prompts(5, 33, 90, 17)
    targets = [
        tiny.prompts(9, 4, seed=2),
        tiny.prompts(1, seed=5),
        tiny.prompts(30, seed=3),
        tiny.prompts(2, 2, 2, seed=4),
    ]
    asked = [[((), target) for target in branch_targets] for branch_targets in targets]
    together = engine.score(engine.open(prompts), asked)
    assert together == engine.score(engine.open(prompts), asked)
    for prompt, branch_targets, branch_scores in zip(prompts, asked, together, strict=True):
        assert close(engine.score(engine.open([prompt]), [branch_targets])[0], branch_scores)
    [twice] = engine.open([prompts[1]])
    assert close(
        engine.score([twice, twice], [asked[0], asked[3]]),
        [engine.score([twice], [branch_targets])[0] for branch_targets in (asked[0], asked[3])],
    )


def test_a_ragged_batch_read_together_equals_each_branch_read_alone(llama, monkeypatch):
    engine, prompts = tiny.engine(llama), tiny.prompts(3, 70, 64, 66, 1, 40)
    wanted = [engine.generate(engine.open([prompt]), [GREEDY])[0] for prompt in prompts]
    for tokens in (2048, 50):  # all in one pass, and cut into pieces
        monkeypatch.setattr("agents.engine.branches.TOKENS_A_PASS", tokens)
        monkeypatch.setattr("agents.engine.branches.TOKENS_A_LOOK", min(tokens, 20))
        together = engine.generate(engine.open(prompts), [GREEDY] * len(prompts))
        assert [s.token_ids for s in together] == [s.token_ids for s in wanted]
        assert close([s.logprobs for s in together], [s.logprobs for s in wanted])


def test_decoding_by_torchs_attention_equals_decoding_by_the_kernels(llama, monkeypatch):
    prompts = tiny.prompts(5, 33, 90, 17, 60)
    # rows that end leave gaps
    sampling = [Sampling(seed=i, max_tokens=n, min_tokens=n) for i, n in enumerate((12, 3, 9, 5, 12))]
    engine = tiny.engine(llama)
    wanted = engine.generate(engine.open(prompts), sampling)
    monkeypatch.setattr("agents.models.cpu_kernels.able", lambda tensor: False)
    engine = tiny.engine(llama)
    by_torch = engine.generate(engine.open(prompts), sampling)
    assert [s.token_ids for s in by_torch] == [s.token_ids for s in wanted]
    assert close([s.logprobs for s in by_torch], [s.logprobs for s in wanted])


def test_dropped_branches_are_gone(llama):
    engine = tiny.engine(llama)
    first, second = engine.open(tiny.prompts(4, 6))
    engine.drop([first])
    engine.drop([first])
    assert list(engine._branches) == [second]
    assert engine.generate([second], [GREEDY])[0].token_ids


# -- work


def test_finished_branches_do_no_more_work(llama):
    engine = tiny.engine(llama)
    branches = engine.open(tiny.prompts(10, 20, 5))
    engine.generate(branches, [Sampling(1, max_tokens=2), Sampling(2, max_tokens=40), Sampling(3, max_tokens=0)])
    assert engine.usage().tokens_computed == (9 + 19 + 4) + 2 + 40  # prompts but for their last tokens, then one a step
    assert engine.usage().generated == 42


def test_a_stop_token_ends_a_line_but_never_begins_one(llama):
    [prompt] = tiny.prompts(12)
    line = tiny.greedy(llama, prompt, 30)
    stop = next(token for token in line if token != line[0])
    where = line.index(stop)
    engine = tiny.engine(llama, stop)
    [sample] = engine.generate(engine.open([prompt]), [GREEDY])
    assert list(sample.token_ids) == line[: where + 1] and sample.stopped == "stop"
    engine = tiny.engine(llama, line[0])
    [sample] = engine.generate(engine.open([prompt]), [GREEDY])
    assert sample.token_ids[0] == int(tiny.logprobs(llama, prompt)[-1].topk(2).indices[1])


def test_a_line_stops_after_its_sentences(llama):
    engine, [prompt] = tiny.engine(llama), tiny.prompts(12)
    [branch, twin] = engine.open([prompt, prompt])
    [free, held] = engine.generate([branch, twin], [Sampling(8, 200, 2.0, 0), Sampling(8, 200, 2.0, 0, sentences=2)])
    ends = [i for i, token in enumerate(free.token_ids) if chr(token) in ".!?\n"]
    assert held.token_ids == free.token_ids[: ends[1] + 1] and held.stopped == "sentences"


def test_every_token_is_read_about_once_over_a_dialogue_of_20_lines(llama):
    """Two views of one dialogue: a line's own tokens for its speaker, the same tokens heard by the other."""
    engine = tiny.engine(llama)
    views = engine.open(tiny.prompts(60, 60))
    for turn in range(20):
        speaker, listener = views[turn % 2], views[1 - turn % 2]
        [sample] = engine.generate([speaker], [Sampling(turn, max_tokens=12)])
        engine.extend([speaker, listener], [[1, 2, 3], [*sample.token_ids, 4, 5, 6]])
    usage = engine.usage()
    # 2 * 60 of prompts; 20 lines of 12 tokens in two views, and 3 more in each
    assert usage.tokens_new == 120 + 20 * (12 * 2 + 3 * 2)
    assert usage.tokens_computed <= 1.1 * usage.tokens_new


def test_shared_beginnings_of_continuations_are_read_once(llama):
    engine, (prompt, given) = tiny.engine(llama), tiny.prompts(10, 30)
    [branch] = engine.open([prompt])
    engine.score([branch], [[((), [1])]])
    before = engine.usage().tokens_computed
    engine.score([branch], [[(given, [token, 0]) for token in range(8)]])
    # the branch's last token, 30 shared ones, then 8 continuations of 2
    assert engine.usage().tokens_computed - before == 1 + 30 + 8 * 2


def test_usage_is_a_reading_not_a_live_object(llama):
    engine = tiny.engine(llama)
    before = engine.usage()
    engine.generate(engine.open(tiny.prompts(5)), [GREEDY])
    assert before.tokens_new == 0 and before.seconds["generate"] == 0


# -- sampling


def test_same_seed_same_tokens_whatever_the_neighbours(llama):
    engine, (prompt, *others) = tiny.engine(llama), tiny.prompts(17, 3, 80, 41)
    mine = Sampling(seed=99, max_tokens=25, top_k=20, top_p=0.95)
    [alone] = engine.generate(engine.open([prompt]), [mine])
    branches = engine.open([others[0], prompt, *others[1:]])
    company = [Sampling(1, 3, 0.2, 0), mine, Sampling(2, 25, 0, 0), Sampling(3, 25, 2.0, 100)]
    assert engine.generate(branches, company)[1].token_ids == alone.token_ids


def test_different_seeds_give_different_lines(llama):
    engine, [prompt] = tiny.engine(llama), tiny.prompts(17)
    samples = engine.generate(engine.open([prompt] * 8), [Sampling(seed) for seed in range(8)])
    assert len({sample.token_ids for sample in samples}) == 8


def test_logprobs_of_a_sampled_line_are_those_that_score_gives(llama):
    """At temperature 1 over the whole vocabulary, whatever it was sampled under."""
    engine, prompts = tiny.engine(llama), tiny.prompts(17, 33)
    branches = engine.open(prompts)
    twins = engine.fork(branches)
    samples = engine.generate(branches, [Sampling(1, 20, 0.3, 5), Sampling(2, 20, 1.5, 0, 0.8)])
    scored = engine.score(twins, [[((), sample.token_ids)] for sample in samples])
    assert close([sample.logprobs for sample in samples], scored)


LOGITS = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()  # probabilities, most likely first


@pytest.mark.parametrize(
    ("sampling", "draw", "token"),
    [
        (Sampling(0, temperature=1, top_k=0), 0.39, 0),
        (Sampling(0, temperature=1, top_k=0), 0.41, 1),
        (Sampling(0, temperature=1, top_k=0), 0.95, 3),
        (Sampling(0, temperature=1, top_k=2), 0.56, 0),
        (Sampling(0, temperature=1, top_k=2), 0.58, 1),  # 0.4 / 0.7 = 0.571
        (Sampling(0, temperature=1, top_k=2), 0.999, 1),
        (
            Sampling(0, temperature=1, top_k=0, top_p=0.5),
            0.999,
            1,
        ),  # 0.4 is short of 0.5: the second comes in, no third
        (Sampling(0, temperature=1, top_k=0, top_p=0.3), 0.999, 0),  # the first is always in
        (Sampling(0, temperature=1, top_k=0, top_p=0.39), 0.999, 0),
        (Sampling(0, temperature=1, top_k=0, top_p=0.41), 0.999, 1),
        (Sampling(0, temperature=0.5, top_k=0), 0.52, 0),  # squares: 16 9 4 1 of 30, 16 / 30 = 0.533
        (Sampling(0, temperature=0.5, top_k=0), 0.54, 1),
        (Sampling(0, temperature=0.5, top_k=0), 0.97, 3),
        (Sampling(0, temperature=0, top_k=0), 0.999, 0),
    ],
)
def test_temperature_top_k_and_top_p_cut_the_line_of_probabilities(sampling, draw, token):
    [choice] = choose(LOGITS, [sampling], [draw])
    assert choice.token == token and choice.logprob == pytest.approx(float(LOGITS[0, token]))


@pytest.mark.parametrize(
    ("sampling", "stops", "p"),
    [
        (Sampling(0, temperature=0.5, top_k=0), [], 16 / 30),
        (Sampling(0, temperature=0.5, top_k=2), [], 16 / 25),
        (Sampling(0, temperature=0), [], 1),
        (Sampling(0, temperature=1, top_k=0, top_p=0.6), [], 4 / 7),
        (Sampling(0, temperature=1, top_k=0), [3], 4 / 9),
    ],
)  # no stop token comes first
def test_a_tokens_own_chance_is_told_beside_its_likelihood_at_temperature_1(sampling, stops, p):
    [choice] = choose(LOGITS, [sampling], [0.0], stops)
    assert math.exp(choice.logprob) == pytest.approx(0.4) and math.exp(choice.drawn) == pytest.approx(p)


def test_a_row_never_depends_on_how_its_neighbours_are_sampled():
    logits, draws = torch.randn(4, 50, generator=torch.Generator().manual_seed(1)), [0.1, 0.5, 0.9, 0.99]
    each = [
        Sampling(0, temperature=1, top_k=0),
        Sampling(0, top_k=5),
        Sampling(0, temperature=0.7, top_k=0),
        Sampling(0, temperature=0),
    ]
    alone = [choose(logits[i : i + 1], [sampling], [draws[i]], stop_ids=[7])[0] for i, sampling in enumerate(each)]
    assert choose(logits, each, draws, stop_ids=[7]) == alone


def test_frequencies_of_many_draws_are_the_probabilities():
    n = 20_000
    drawn = np.random.default_rng(0).random(n).tolist()
    choices = choose(LOGITS.expand(n, -1), [Sampling(0, temperature=1, top_k=0)] * n, drawn)
    shares = np.bincount([choice.token for choice in choices], minlength=4) / n
    assert np.abs(shares - [0.4, 0.3, 0.2, 0.1]).max() < 4 * (0.25 / n) ** 0.5  # four standard errors at most


# -- limits


def test_a_branch_may_fill_the_context_and_not_one_token_more():
    model = tiny.plain(tiny.llama(max_position_embeddings=64))
    engine = tiny.engine(model)
    for ask in (
        lambda: engine.open(tiny.prompts(65)),
        lambda: engine.extend(engine.open(tiny.prompts(60)), [[1] * 5]),
        lambda: engine.score(engine.open(tiny.prompts(60)), [[((1, 2), (1, 2, 3))]]),
        lambda: engine.generate(engine.open(tiny.prompts(64)), [GREEDY]),
    ):
        with pytest.raises(ValueError, match="64"):
            ask()
    assert len(engine.score(engine.open(tiny.prompts(60)), [[((1, 2), (1, 2))]])[0][0]) == 2
    [sample] = engine.generate(engine.open(tiny.prompts(60)), [GREEDY])
    assert len(sample.token_ids) == 4 and sample.stopped == "length"


def test_what_is_refused_changes_nothing():
    engine = tiny.engine(tiny.plain(tiny.llama(max_position_embeddings=64)))
    branches = engine.open(tiny.prompts(10, 64))
    for ask in (lambda: engine.extend(branches, [[1, 2], [3]]), lambda: engine.generate(branches, [GREEDY] * 2)):
        with pytest.raises(ValueError):
            ask()
    assert [len(engine._branches[branch].ids) for branch in branches] == [10, 64]


def test_empty_prompts_and_branches_twice_in_a_call_are_refused(llama):
    engine = tiny.engine(llama)
    with pytest.raises(ValueError, match="empty prompt"):
        engine.open([[1], []])
    [branch] = engine.open([[1]])
    with pytest.raises(ValueError, match="each once"):
        engine.generate([branch, branch], [GREEDY] * 2)


# -- the embedded model


def test_embedded_model_says_what_generate_says(embedded):
    """The same weights under transformers' own attention."""
    model = embedded.model
    prompts = embedded.encode(
        ["The capital of France is", "<|im_start|>user\nWho wrote Hamlet?<|im_end|>\n<|im_start|>assistant\n"]
    )
    samples = embedded.generate(embedded.open(prompts), [Sampling(0, 12, 0)] * 2)
    name = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        wanted = [
            model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=len(sample.token_ids))[
                0, len(prompt) :
            ].tolist()
            for prompt, sample in zip(prompts, samples, strict=True)
        ]
    finally:
        model.set_attn_implementation(name)
    assert [list(sample.token_ids) for sample in samples] == wanted


def test_a_dialogue_read_bit_by_bit_scores_like_one_read_at_once(embedded):
    [branch] = embedded.open(embedded.encode(["<|im_start|>system\nYou are Ada.<|im_end|>\n<|im_start|>user\n"]))
    for turn, heard in enumerate(("Hello!", "Where do you live?", "Why?")):
        [heard_ids, close_ids] = embedded.encode(
            [f"{heard}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n"]
        )
        embedded.extend([branch], [heard_ids])
        embedded.generate([branch], [Sampling(turn, 8)])
        embedded.extend([branch], [close_ids])
    [target] = embedded.encode(["Do you have a dog, or would you rather have a cat?"])
    [fresh] = embedded.open([embedded._branches[branch].ids])
    [[bit_by_bit]], [[at_once]] = embedded.score([branch], [[((), target)]]), embedded.score([fresh], [[((), target)]])
    assert close(bit_by_bit, at_once)
