"""The work that `lab.bench` times. Token ids are random, since speed does not depend on what is said."""

from __future__ import annotations

import random
import resource
import statistics
import sys
import time
from dataclasses import dataclass

WAYS = ("ceilings", "generate", "engine", "endpoint")
LOWEST_ID, HIGHEST_ID = 1000, 40_000  # ordinary words in most vocabularies


@dataclass(frozen=True)
class Sizes:
    """The amounts of work."""

    dialogues: int
    lines: int
    tokens: int  # a line
    decode: tuple[tuple[int, int], ...]  # (batch, context)
    steps: int  # timed decoding steps
    facts: int  # asked about
    options: int
    rounds: int  # of questions, one every four lines
    scored: int  # lines
    long: int  # lines of one long dialogue
    reread: tuple[int, ...]  # those of them that are also timed with the history read again


SIZES = {
    "full": Sizes(
        32,
        16,
        32,
        tuple((b, c) for b in (1, 8, 64) for c in (64, 512, 1024)),
        16,
        8,
        5,
        4,
        64,
        200,
        (1, 10, 50, 100, 150, 200),
    ),
    "quick": Sizes(4, 4, 16, ((1, 64), (8, 64)), 8, 4, 3, 1, 8, 24, (1, 10, 24)),
}
# tokens of a card, a question with its template, a claim's frame, a value
CARD, QUESTION, CLAIM, OPTION = (120, 14, 5, 3)
WORDS = ("river", "stone", "window", "music", "garden", "letter", "winter", "bread")  # where words are asked for


def measure_way(
    way: str, sizes: Sizes, model: str, dtype: str, device: str, *, endpoint: str = "", endpoint_model: str = ""
) -> dict:
    """The seconds and tokens/s of one of WAYS, as numbers by task. Raises ValueError where the endpoint fails."""
    if way == "endpoint":
        return {"dialogue": _endpoint_dialogue(endpoint, endpoint_model, sizes)}
    from agents.models.loading import load, use_all_cores

    use_all_cores()
    loaded = load(model, dtype, device, packed=way == "engine")
    return {"ceilings": _ceilings, "generate": _notebook, "engine": _engine}[way](loaded, sizes)


def random_ids(rng: random.Random, n: int, vocabulary: int) -> list[int]:
    """n random token ids below `vocabulary`."""
    return [rng.randrange(min(LOWEST_ID, vocabulary // 2), min(HIGHEST_ID, vocabulary)) for _ in range(n)]


def random_words(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def _clock(loaded) -> float:
    import torch

    if loaded.info.device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_bytes(loaded) -> int:
    import torch

    if loaded.info.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# -- what the machine could do


def _ceilings(loaded, sizes: Sizes) -> dict:
    """Rates of matrix products (FLOP/s) and memory reads (bytes/s), and a decoding step's seconds for the weights by
    batch.
    """
    import torch

    device, dtype = loaded.model.device, loaded.model.dtype
    a, b = (torch.randn(2048, 2048, device=device).to(dtype) for _ in range(2))
    flops = 2 * 2048**3 / _best(loaded, lambda: a @ b)
    block = torch.ones(64 * 2**20, dtype=torch.float32, device=device)
    read = block.nbytes / _best(loaded, block.sum)
    weights = sum(p.numel() for name, p in loaded.model.named_parameters() if p.dim() == 2)
    size = a.element_size()
    fixed = {str(batch): max(2 * weights * batch / flops, weights * size / read) for batch, _ in sizes.decode}
    return {"flop_per_s": flops, "read_bytes_per_s": read, "fixed_s": fixed}


def _best(loaded, work, repeats: int = 10) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = _clock(loaded)
        work()
        times.append(_clock(loaded) - start)
    return min(times)


# -- the engine


def _engine(loaded, sizes: Sizes) -> dict:
    import torch

    from agents.engine.local import LocalEngine

    _warm_up(LocalEngine(loaded), loaded)
    figures: dict = {
        "machine": {
            "model": loaded.info.model,
            "device": loaded.info.device,
            "dtype": loaded.info.dtype,
            "threads": torch.get_num_threads(),
        }
    }
    for name, work in (
        ("dialogue", _engine_dialogue),
        ("questions", _engine_questions),
        ("scoring", _engine_scoring),
        ("long", _engine_long),
    ):
        figures[name] = work(LocalEngine(loaded), loaded, sizes)
    figures["peak_bytes"] = _peak_bytes(loaded)
    figures["decode"] = [
        _engine_decode(LocalEngine(loaded), loaded, sizes, batch, context) for batch, context in sizes.decode
    ]
    return figures


def _warm_up(engine, loaded) -> None:
    """Runs everything once, so that compilation is done before anything is timed; compiled code is cached on disk."""
    engine.generate(engine.open([random_ids(random.Random(0), 8, loaded.model.config.vocab_size)]), [_sampling(0, 2)])


def _sampling(seed: int, tokens: int):
    from agents.engine.protocol import Sampling

    return Sampling(seed=seed, max_tokens=tokens, min_tokens=tokens, temperature=0.8, top_k=50)


def _engine_dialogue(engine, loaded, sizes: Sizes) -> dict:
    rng, vocabulary = random.Random(0), loaded.model.config.vocab_size
    seats = [engine.open([random_ids(rng, CARD, vocabulary) for _ in range(sizes.dialogues)]) for _ in range(2)]
    start = _clock(loaded)
    play_lines(engine, seats, sizes)
    seconds = _clock(loaded) - start
    usage = engine.usage()
    return {
        "tokens_per_s": usage.generated / seconds,
        "seconds": seconds,
        "computed_over_new": usage.tokens_computed / usage.tokens_new,
    }


def play_lines(engine, seats: list[list[int]], sizes: Sizes) -> None:
    """Plays dialogues whose views are open in both seats: one seat generates a line, the other reads it."""
    for line in range(sizes.lines):
        speaker, listener = seats[line % 2], seats[1 - line % 2]
        samples = engine.generate(speaker, [_sampling(line * 1000 + i, sizes.tokens) for i in range(sizes.dialogues)])
        engine.extend(listener, [sample.token_ids for sample in samples])


def _engine_decode(engine, loaded, sizes: Sizes, batch: int, context: int) -> dict:
    rng, vocabulary = random.Random(0), loaded.model.config.vocab_size
    branches = engine.open([random_ids(rng, context, vocabulary) for _ in range(batch)])
    engine.generate(branches, [_sampling(i, 2) for i in range(batch)])
    start = _clock(loaded)
    engine.generate(branches, [_sampling(i, sizes.steps) for i in range(batch)])
    seconds = _clock(loaded) - start
    cache = loaded.info.token_bytes * batch * (context + sizes.steps // 2)
    return {"batch": batch, "context": context, "tokens_per_s": batch * sizes.steps / seconds, "cache_bytes": cache}


def _probes(rng: random.Random, sizes: Sizes, vocabulary: int) -> list[tuple[list[int], list[int]]]:
    out = []
    for _ in range(sizes.facts):
        question, claim = random_ids(rng, QUESTION, vocabulary), random_ids(rng, CLAIM, vocabulary)
        out += [(question, claim + random_ids(rng, OPTION, vocabulary)) for _ in range(sizes.options)]
    return out


def _engine_questions(engine, loaded, sizes: Sizes) -> dict:
    rng, vocabulary = random.Random(1), loaded.model.config.vocab_size
    branches = engine.open([random_ids(rng, CARD, vocabulary) for _ in range(2)])
    seconds, check = 0.0, []
    for _ in range(sizes.rounds):
        engine.extend(branches, [random_ids(rng, 4 * sizes.tokens, vocabulary) for _ in branches])
        probes = [_probes(rng, sizes, vocabulary) for _ in branches]
        start = _clock(loaded)
        scores = engine.score(branches, probes)
        seconds += _clock(loaded) - start
        check += [sum(option) for by_option in scores for option in by_option]
    usage = engine.usage()
    return {"seconds": seconds, "computed_over_new": usage.tokens_computed / usage.tokens_new, "check": check}


def _lines(rng: random.Random, sizes: Sizes, vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
    return [random_ids(rng, CARD, vocabulary) for _ in range(4)], [
        random_ids(rng, sizes.tokens, vocabulary) for _ in range(sizes.scored)
    ]


def _engine_scoring(engine, loaded, sizes: Sizes) -> dict:
    """Scores every line under its card, as the likelihood judge does."""
    cards, lines = _lines(random.Random(2), sizes, loaded.model.config.vocab_size)
    start = _clock(loaded)
    scores = engine.score(
        engine.open(cards), [[((), line) for line in lines[i :: len(cards)]] for i in range(len(cards))]
    )
    seconds = _clock(loaded) - start
    usage = engine.usage()
    return {
        "seconds": seconds,
        "computed_over_new": usage.tokens_computed / usage.tokens_new,
        "check": [sum(line) for by_line in scores for line in by_line],
    }


def _engine_long(engine, loaded, sizes: Sizes) -> dict:
    rng, vocabulary = random.Random(3), loaded.model.config.vocab_size
    [branch] = engine.open([random_ids(rng, CARD, vocabulary)])
    seconds = []
    for line in range(sizes.long):
        start = _clock(loaded)
        engine.extend([branch], [random_ids(rng, sizes.tokens // 2, vocabulary)])
        engine.generate([branch], [_sampling(line, sizes.tokens // 2)])
        seconds.append(_clock(loaded) - start)
    middle = statistics.median(seconds[5:15])
    return {"seconds": seconds, "last_over_tenth": statistics.median(seconds[-10:]) / middle}


# -- the notebook way


def _notebook(loaded, sizes: Sizes) -> dict:
    loaded.model.set_attn_implementation("sdpa")
    figures: dict = {
        name: work(loaded, sizes)
        for name, work in (
            ("dialogue", _notebook_dialogue),
            ("questions", _notebook_questions),
            ("scoring", _notebook_scoring),
            ("long", _notebook_long),
        )
    }
    figures["peak_bytes"] = _peak_bytes(loaded)
    figures["decode"] = [_notebook_decode(loaded, sizes, batch, context) for batch, context in sizes.decode]
    return figures


def _continue(loaded, prompts: list[list[int]], tokens: int, **rest) -> list[list[int]]:
    import torch

    batch = torch.tensor(prompts, device=loaded.model.device)
    out = loaded.model.generate(
        batch,
        attention_mask=torch.ones_like(batch),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=True,
        temperature=0.8,
        top_k=50,
        pad_token_id=0,
        **rest,
    )
    return out[:, batch.shape[1] :].tolist()


def _notebook_dialogue(loaded, sizes: Sizes) -> dict:
    rng, vocabulary = random.Random(0), loaded.model.config.vocab_size
    views = [[random_ids(rng, CARD, vocabulary) for _ in range(sizes.dialogues)] for _ in range(2)]
    computed, new = 0, 2 * CARD * sizes.dialogues
    start = _clock(loaded)
    for line in range(sizes.lines):
        speaker = views[line % 2]
        said = _continue(loaded, speaker, sizes.tokens)
        computed += sum(len(view) + sizes.tokens - 1 for view in speaker)
        new += 2 * sizes.tokens * sizes.dialogues
        for view in views:
            for tokens, words in zip(view, said, strict=True):
                tokens.extend(words)
    seconds = _clock(loaded) - start
    return {
        "tokens_per_s": sizes.dialogues * sizes.lines * sizes.tokens / seconds,
        "seconds": seconds,
        "computed_over_new": computed / new,
    }


def _notebook_decode(loaded, sizes: Sizes, batch: int, context: int) -> dict:
    """Decoding alone: from the first generated token, which includes the reading, to the last."""
    import torch

    rng, vocabulary, times = random.Random(0), loaded.model.config.vocab_size, []

    def stamp(sequences, scores, **_):
        times.append(_clock(loaded))
        return torch.zeros(len(sequences), dtype=torch.bool, device=sequences.device)

    _continue(
        loaded, [random_ids(rng, context, vocabulary) for _ in range(batch)], 1 + sizes.steps, stopping_criteria=[stamp]
    )
    return {"batch": batch, "context": context, "tokens_per_s": batch * sizes.steps / (times[-1] - times[0])}


def _notebook_long(loaded, sizes: Sizes) -> dict:
    """Times some lines of the long dialogue, each of which reads the whole history again."""
    rng, vocabulary, seconds = random.Random(3), loaded.model.config.vocab_size, []
    for line in sizes.reread:
        prompt = random_ids(rng, CARD + (line - 1) * sizes.tokens + sizes.tokens // 2, vocabulary)
        start = _clock(loaded)
        _continue(loaded, [prompt], sizes.tokens // 2)
        seconds.append(_clock(loaded) - start)
    return {"lines": list(sizes.reread), "seconds": seconds}


def _logprob(loaded, given: list[int], target: list[int]) -> float:
    import torch

    with torch.inference_mode():
        sequence = torch.tensor([given + target], device=loaded.model.device)
        logits = loaded.model(sequence, logits_to_keep=len(target) + 1).logits[0, :-1].float()
        return logits.log_softmax(-1).gather(1, sequence[0, -len(target) :, None]).sum().item()


def _notebook_questions(loaded, sizes: Sizes) -> dict:
    rng, vocabulary = random.Random(1), loaded.model.config.vocab_size
    views = [random_ids(rng, CARD, vocabulary) for _ in range(2)]
    seconds, check = 0.0, []
    for _ in range(sizes.rounds):
        heard = [random_ids(rng, 4 * sizes.tokens, vocabulary) for _ in views]
        views = [view + given_tokens for view, given_tokens in zip(views, heard, strict=True)]
        probes = [_probes(rng, sizes, vocabulary) for _ in views]
        start = _clock(loaded)
        check += [
            _logprob(loaded, view + given, target)
            for view, view_probes in zip(views, probes, strict=True)
            for given, target in view_probes
        ]
        seconds += _clock(loaded) - start
    return {"seconds": seconds, "check": check}


def _notebook_scoring(loaded, sizes: Sizes) -> dict:
    cards, lines = _lines(random.Random(2), sizes, loaded.model.config.vocab_size)
    start = _clock(loaded)
    check = [_logprob(loaded, cards[i], line) for i in range(len(cards)) for line in lines[i :: len(cards)]]
    return {"seconds": _clock(loaded) - start, "check": check}


# -- a server


def _endpoint_dialogue(endpoint: str, model: str, sizes: Sizes) -> dict:
    """The same dialogues over chat completions, where the whole history is sent for every line."""
    from agents.engine.protocol import Sampling
    from agents.seats.base import Cue, Utterance
    from agents.seats.chat import EndpointSeat
    from agents.servers.client import check

    check(endpoint, model)
    rng = random.Random(0)
    seats = [EndpointSeat(endpoint, model, Sampling(seed=0, max_tokens=sizes.tokens)) for _ in range(2)]
    for seat in seats:
        seat.open({c: random_words(rng, CARD) for c in range(sizes.dialogues)})
    generated, start = 0, time.perf_counter()
    for line in range(sizes.lines):
        said = seats[line % 2].speak({c: Cue("", line * 1000 + c) for c in range(sizes.dialogues)})
        spoken = {c: utterance for c, utterance in said.items() if isinstance(utterance, Utterance)}
        if len(spoken) < len(said):
            raise ValueError(
                next(utterance.reason for utterance in said.values() if not isinstance(utterance, Utterance))
            )
        generated += sum(utterance.tokens for utterance in spoken.values())
        seats[1 - line % 2].hear({c: utterance.text for c, utterance in spoken.items()})
    return {"tokens_per_s": generated / (time.perf_counter() - start)}
