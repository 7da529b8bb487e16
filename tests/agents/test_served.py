"""Engines on a server that speaks vLLM's dialect over the embedded model, held against the embedded model itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from dialect import BASE, LORA, serving

from agents.engine.protocol import Sampling
from agents.engine.sentences import ends_sentence, first_sentences
from agents.judge_models.card_likelihood import Reference
from agents.seats.base import Cue, Question, Trouble
from agents.seats.chat import EndpointSeat
from agents.seats.model import ModelSeat
from agents.servers.engine import ServedEngine, lacking, survey
from lab.dialogue import wiring
from lab.store.resume import Stored
from metrics.judges import Pair
from metrics.judges.likelihood import Likelihood
from scenarios import personas as people
from scenarios.scenario import load_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LONG = SCENARIOS / "long_dialogue.yaml"
PROMPTS = (
    "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nSing!<|im_end|>\n<|im_start|>assistant\n",
)
NEXT = "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def server(embedded):
    with serving(embedded) as running:
        yield running


@pytest.fixture
def served(server):
    return ServedEngine(survey(server.url, BASE))


def lines(engine) -> list:
    """Lines of two dialogues, one of them forked: by sampling until a sentence ends, to the end, and greedily."""
    branches = engine.open(engine.encode(PROMPTS))
    first = engine.generate(branches, [Sampling(seed, 16, sentences=1) for seed in (1, 2**62)])
    [twin] = engine.fork(branches[:1])
    engine.extend([*branches, twin], [engine.encode([NEXT])[0]] * 3)
    second = engine.generate(
        [*branches, twin], [Sampling(3, 24, sentences=2, top_p=0.9), Sampling(0, 4, temperature=0.0), Sampling(3, 2)]
    )
    engine.drop([*branches, twin])
    return [*first, *second]


def test_a_served_engine_says_what_a_local_one_says(served, server, embedded):
    before = embedded.usage()
    wanted = lines(embedded)
    local = embedded.usage()
    served_lines = lines(served)
    assert [(line.token_ids, line.stopped) for line in served_lines] == [
        (line.token_ids, line.stopped) for line in wanted
    ]
    assert {line.stopped for line in served_lines} >= {"sentences", "length"}
    for line, other in zip(served_lines, wanted, strict=True):
        assert line.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    usage = served.usage()
    assert (usage.tokens_new, usage.generated) == (
        local.tokens_new - before.tokens_new,
        local.generated - before.generated,
    )
    sent = server.asked[-1]
    assert sent["stop_token_ids"] == sorted(embedded.loaded.stop_ids)
    assert (sent["repetition_penalty"], sent["min_p"]) == (1.0, 0.0), "or the server's own defaults would hold"


def test_scores_are_the_local_engines_and_leave_the_branch_as_it_was(served, embedded):
    [given, short, long] = served.encode([NEXT, "I am Ada.", "I am Ada, and I live in Paris."])
    continuations = [[(given, short), ((), long), (given, ())], [((), short)]]
    scores, lines = [], []
    for engine in (served, embedded):
        branches = engine.open(engine.encode(PROMPTS))
        scores.append(engine.score(branches, continuations))
        lines.append([line.token_ids for line in engine.generate(branches, [Sampling(5, 4)] * 2)])
    flat = [
        [p for branch in engine_scores for continuation in branch for p in continuation] for engine_scores in scores
    ]
    assert len(flat[0]) == 2 * len(short) + len(long) and scores[0][0][2] == []
    assert flat[0] == pytest.approx(flat[1], abs=1e-4)
    assert lines[0] == lines[1]


def test_usage_counts_what_the_server_says_it_read(served):
    [branch] = served.open([[1, 2, 3, 4, 5]])
    served.generate([branch], [Sampling(0, 3, min_tokens=3)])
    # prompt, of which one cached, and all sampled tokens but the last
    assert served.usage().tokens_computed == 5 - 1 + 3 - 1
    assert served.usage().tokens_new == 5 + 3


def test_info_names_the_server(served, server, embedded):
    info = served.info()
    assert (info.model, info.device, info.dtype) == (BASE, server.url.removesuffix("/v1"), "served")
    assert info.context == 2048 - 1 and info.format == embedded.info().format


def test_a_branch_longer_than_the_servers_context_is_refused(served):
    [branch] = served.open([[1] * 2047])
    for ask in (
        lambda: served.open([[1] * 2048]),
        lambda: served.extend([branch], [[1]]),
        lambda: served.generate([branch], [Sampling(0)]),
        lambda: served.score([branch], [[((), [1])]]),
    ):
        with pytest.raises(ValueError, match=r"tokens cannot take \d+ more: embedded at http://.* reads at most 2047"):
            ask()


def play(overrides, embedded) -> tuple[list[dict], wiring.Setup]:
    brief = ["conversations=1", "turns=4", "seats.user.max_tokens=12", "seats.assistant.max_tokens=12"]
    scenario = load_scenario(LONG, [*brief, "dtype=float32", "device=cpu", "measure.judge=ledger", *overrides])
    setup = wiring.set_up(scenario, lambda model, dtype, device: embedded, Stored())
    return list(setup.play.events()), setup


def answers(events: list[dict]) -> list[dict]:
    return [row for e in events if e["event"] == "judged" for row in e["rows"] if row["metric"] == "qa"]


@pytest.fixture(scope="module")
def here(embedded):
    return play([], embedded)[0]


@pytest.mark.slow
def test_a_seat_on_a_server_plays_and_is_asked_as_one_here(server, embedded, here):
    served_events, setup = play([f"seats.user.endpoint={server.url}"], embedded)
    assert isinstance(setup.seats["user"], ModelSeat) and set(setup.engines) == {BASE, f"{BASE} at {server.url}"}
    said = [
        [(e["seat"], e["text"], tuple(e["token_ids"])) for e in events if e["event"] == "line"]
        for events in (served_events, here)
    ]
    assert len(said[0]) == 4 and said[0] == said[1]
    rows = [answers(served_events), answers(here)]
    assert len(rows[0]) == len(rows[1]) == 16 and all(row["unscored"] is None for row in rows[0])
    assert [row["verdict"] for row in rows[0]] == [row["verdict"] for row in rows[1]]
    assert [row["p_inconsistent"] for row in rows[0]] == pytest.approx(
        [row["p_inconsistent"] for row in rows[1]], abs=1e-4
    )


def test_the_likelihood_judge_reads_on_a_server_as_here(served, embedded):
    ada, *_ = people.load_personas(SCENARIOS / "personas/townsfolk.yaml")
    pairs = [
        Pair(0, turn, "user", "prompt_to_line", line, "persona", ada)
        for turn, line in enumerate((f"I am {ada.name}.", "I sell boats."))
    ]
    here, there = (Likelihood(Reference(engine).logprobs).judge(pairs) for engine in (embedded, served))
    assert [row.p_inconsistent for row in there] == pytest.approx([row.p_inconsistent for row in here], abs=1e-4)
    assert all(row.unscored is None for row in there)


def test_an_adapter_is_a_name_that_the_server_lists(served, server, embedded):
    [branch] = served.open([[1, 2]], LORA)
    served.generate(served.fork([branch]), [Sampling(0, 1)])
    assert server.asked[-1]["model"] == LORA
    refusal = rf"serves no adapter 'other'; expected the name of a LoRA among {BASE}, {LORA}"
    with pytest.raises(ValueError, match=refusal):
        served.open([], "other")
    with pytest.raises(ValueError, match="does not serve model 'other'"):
        wiring.check_scenario(load_scenario(LONG, [f"seats.user.endpoint={server.url}", "seats.user.adapter=other"]))


def test_an_adapter_may_be_named_as_the_model(server):
    assert ServedEngine(survey(server.url, LORA)).info().context == 2047


@pytest.mark.parametrize("without", ["return_token_ids", "prompt_logprobs", "raw_logprobs"])
def test_a_server_is_named_with_what_it_lacks_and_still_gives_words(embedded, without):
    with serving(embedded, without) as server:
        surveyed = survey(server.url, BASE)
        assert len(surveyed.lacks) == 1 and without in surveyed.lacks[0]
        with pytest.raises(
            ValueError, match=f"endpoint {server.url} lacks .*{without}.*; expected a server such as vLLM"
        ):
            ServedEngine(surveyed)
        events, setup = play([f"seats.user.endpoint={server.url}", 'seats.assistant.script=["Who are you?"]'], embedded)
    assert isinstance(setup.seats["user"], EndpointSeat) and not setup.engines
    assert "I am a baker." in {e["text"] for e in events if e["event"] == "line"}
    assert lacking(surveyed) in {row["unscored"] for row in answers(events)}


def test_a_server_that_reads_text_otherwise_than_the_tokenizer_here_is_named(embedded):
    with serving(embedded, "tokenizer") as server:
        assert survey(server.url, BASE).lacks == (
            "the tokenizer of embedded (it reads 'Hello there. My name is' otherwise)",
        )


def test_a_failing_request_is_trouble_for_its_line_only_and_a_failing_score_one_sentence(embedded):
    with serving(embedded) as server:
        engine = ServedEngine(survey(server.url, BASE))
        seat = ModelSeat(engine, Sampling(0, max_tokens=4))
        seat.open({0: "You are Ann.", 1: "You are Bob."})
        bob = engine.encode([" Bob"])[0][0]
        server.down = lambda prompt: bob in prompt
        said = seat.speak({0: Cue("", 1), 1: Cue("", 2)})
        assert said[0].token_ids and isinstance(said[1], Trouble)
        assert (
            said[1].reason.startswith(f"endpoint {server.url} failed (BadRequestError") and "\n" not in said[1].reason
        )
        server.down = lambda prompt: True
        branches = engine.open([[1, 2]])
        with pytest.raises(ValueError, match=f"endpoint {server.url} failed .*planted"):
            engine.score(branches, [[((), [3])]])
        assert (
            survey(server.url, BASE)
            .lacks[0]
            .startswith("completions with token ids and log-probabilities (BadRequestError")
        )
        assert (
            EndpointSeat(server.url, BASE, Sampling(0), "why").ask({0: [Question("Who?", ("a", "b"))]})[0].reason
            == "why"
        )


@pytest.mark.parametrize(
    "spoilt",
    [{"token_ids": None}, {"logprobs": None}, {"logprobs": {"token_logprobs": [None]}}, {"token_ids": [1] * 50}],
)
def test_an_answer_that_does_not_say_what_was_sampled_is_trouble(embedded, spoilt):
    with serving(embedded) as server:
        engine = ServedEngine(survey(server.url, BASE))
        branches = engine.open([[1, 2]])
        server.spoilt = lambda answer: {**answer, "choices": [{**answer["choices"][0], **spoilt}]}
        [sample] = engine.generate(branches, [Sampling(0, max_tokens=4)])
        assert sample.token_ids == () and sample.trouble.startswith(f"endpoint {server.url} failed (")


def test_a_server_whose_two_ways_of_telling_differ_is_no_engine(embedded):
    def doubled(answer: dict) -> dict:
        [choice] = answer["choices"]
        given = [
            place
            and {token: {**candidate, "logprob": 2 * candidate["logprob"] - 1} for token, candidate in place.items()}
            for place in choice["prompt_logprobs"] or []
        ]
        return {**answer, "choices": [{**choice, "prompt_logprobs": given or None}]}

    with serving(embedded) as server:
        server.spoilt = doubled
        assert "agree with those of sampled ones" in survey(server.url, BASE).lacks[0]


@pytest.mark.parametrize(
    ("token", "ends"),
    [
        (".", True),
        ('!"', True),
        (".)", True),
        ("?”", True),
        (". ", True),
        ("\n", True),
        (" a", False),
        ('"', False),
        (".5", False),
        (".\n", True),
        ("…", True),
        ("", False),
    ],
)
def test_a_token_ends_a_sentence_where_its_text_does(token, ends):
    assert ends_sentence(token) is ends


def test_a_newline_ends_a_sentence_and_a_mark_before_it_does_not_end_another():
    assert [first_sentences("One.\nTwo\nThree", n) for n in (1, 2)] == ["One.", "One.\nTwo"]


def test_sentences_end_at_the_marks_of_other_scripts():
    assert first_sentences("你好。我叫小梅。我住在成都！", 2) == "你好。我叫小梅。"
    assert first_sentences("كيف حالك؟ أنا بخير.", 1) == "كيف حالك؟"
    assert first_sentences("मैं ठीक हूँ। और आप?", 1) == "मैं ठीक हूँ।"
    assert ends_sentence("。") and ends_sentence("！」") and not ends_sentence("，")
