"""A seat's view has the ids of the dialogue's whole text, for the families of tokenizers that there are."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agents.engine.protocol import Sampling
from agents.models.info import EngineInfo
from agents.models.pieces import piece_encoder, read_format
from agents.seats.base import Cue, Utterance
from agents.seats.model import ModelSeat
from agents.seats.respondent import text_of

LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system %}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{% endif %}"
    "{{ m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
VICUNA = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + ' ' }}{% elif m.role == 'user' %}"
    "{{ 'USER: ' + m.content + ' ' }}{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<s>' + m.role + '\\n' + m.content + '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
HASHES = (
    "{% for m in messages %}{{ '### ' + m.role + ':\\n' + m.content + '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"
)
ALPACA = HASHES.replace(":\\n'", ":\\n\\n'")
COLON = HASHES.replace(":\\n'", ": '")
GLUED = "{% for m in messages %}{{ 'x' + m.content }}{% endfor %}{% if add_generation_prompt %}x{% endif %}"
CHAT = [("user", "How old are you?"), ("assistant", "I am 25 years old."), ("user", "Sure? é")]
SYSTEM, INSTRUCTION, LAST = "You are Ada.", "Be brief.", "Yes I am"
LLAMA3_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def fast(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def sentencepiece(glued: bool = False, legacy: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a blank before a text (`legacy`: behind every control token too) and knows bytes for other
    characters.
    """
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)] + [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [(chr(code), -10.0) for code in range(33, 127)]
    pieces += [("▁", -3.0), ("▁I", -1.0), ("▁am", -1.0), ("▁How", -1.0)] + [("xI", -1.0)] * glued
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    if legacy:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return fast(backend)


def byte_level(words: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level vocabulary with GPT-2's words, or with those of an expression."""
    backend = Tokenizer(models.BPE())
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
    split = [pre_tokenizers.Split(Regex(words), "isolated")] if words else []
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Sequence([*split, gpt2]), decoders.ByteLevel()
    corpus = ["I am old.\n", "How are you?\n", "How are you?\n\n", "Them: How old\nMe: I am\n[Be brief.]\n"] * 9
    special = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(corpus, trainer)
    return fast(backend)


class Reads:
    """An engine that reads pieces and says nothing."""

    def __init__(self, tokenizer) -> None:
        form = read_format("m", tokenizer)
        self._info, self._encode = (
            EngineInfo("m", "cpu", "float32", 9999, 0, form),
            piece_encoder(tokenizer, form),
        )

    def info(self):
        return self._info

    def encode(self, texts):
        return [self._encode(text) for text in texts]

    def open(self, prompts, adapter=None, steer=None):
        return [*range(len(prompts))]

    def extend(self, branches, ids):
        pass


FAMILIES = {
    "SentencePiece": sentencepiece,
    "legacy SentencePiece": lambda: sentencepiece(legacy=True),
    "GPT-2": byte_level,
    "Llama 3": lambda: byte_level(LLAMA3_WORDS),
}
TEMPLATES = {
    "none": None,
    "Llama 2": LLAMA2,
    "Vicuna": VICUNA,
    "ChatML": CHATML,
    "Zephyr": ZEPHYR,
    "###": HASHES,
    "Alpaca": ALPACA,
    "colon": COLON,
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_view_has_the_ids_of_the_whole_text(family, template):
    tokenizer = family()
    tokenizer.chat_template = template
    engine = Reads(tokenizer)
    seat, form = ModelSeat(engine, Sampling(9)), engine.info().format  # pyright: ignore[reportArgumentType]
    seat.open({0: SYSTEM})
    seat.hear({0: CHAT[0][1]})
    seat.recite({0: Cue(INSTRUCTION, 0)}, {0: Utterance(CHAT[1][1], 0)})
    seat.hear({0: CHAT[2][1]})
    seat.recite({0: Cue("", 0)}, {0: Utterance(LAST, 0)})
    heard = f"{CHAT[0][1]}\n[{INSTRUCTION}]"
    talk = [("system", SYSTEM), ("user", heard), *CHAT[1:], ("assistant", LAST)]
    if template is None:
        wanted = tokenizer.encode(f"{SYSTEM}\n\nThem: {heard}\nMe: {CHAT[1][1]}\nThem: {CHAT[2][1]}\nMe: {LAST}")
    else:
        messages = [{"role": role, "content": content} for role, content in talk]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        wanted = tokenizer.encode(text[: text.rindex(LAST) + len(LAST)], add_special_tokens=False)
    got = seat.ids[0][: len(wanted)]
    assert tokenizer.convert_ids_to_tokens(got) == tokenizer.convert_ids_to_tokens(wanted)
    assert engine.encode([text_of(form, talk)]) == [wanted]


@pytest.mark.parametrize(
    ("tokenizer", "template", "closing", "closers"),
    [
        (sentencepiece, None, "\n", ["<0x0A>"]),
        (sentencepiece, LLAMA2, " </s>", ["</s>"]),
        (byte_level, None, "\n", ["Ċ", "ĊĊ"]),
        (lambda: byte_level(LLAMA3_WORDS), None, "\n", [".]Ċ", ".Ċ", "?Ċ", "?ĊĊ", "Ċ"]),
        (byte_level, CHATML, "</s>", ["</s>"]),
    ],
)
def test_a_line_stops_at_the_first_token_behind_it_that_is_no_blank_and_at_any_newline_of_a_plain_transcript(
    tokenizer, template, closing, closers
):
    tokenizer = tokenizer()
    tokenizer.chat_template = template
    form = read_format("m", tokenizer)
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(form.closers))]
    assert form.closing == closing and sorted(tokens) == closers


def test_what_a_line_already_ended_with_is_not_read_again():
    tokenizer = byte_level(LLAMA3_WORDS)
    seat = ModelSeat(Reads(tokenizer), Sampling(9))  # pyright: ignore[reportArgumentType]
    seat.open({0: SYSTEM})
    seat.hear({0: "How old are you?"})
    ids = tuple(tokenizer.encode(" I am old.\n"))
    seat.recite({0: Cue("", 0)}, {0: Utterance("I am old.", len(ids), ids)})
    seat.hear({0: "Sure?"})
    seat.recite({0: Cue("", 0)}, {0: Utterance("Yes.", 0)})
    text = f"{SYSTEM}\n\nThem: How old are you?\nMe: I am old.\nThem: Sure?\nMe: Yes.\n"
    assert tokenizer.decode(seat.ids[0]) == text


def test_a_template_whose_messages_melt_into_it_is_refused_in_a_sentence():
    tokenizer = sentencepiece(glued=True)
    tokenizer.chat_template = GLUED
    with pytest.raises(ValueError, match="model 'm': its tokenizer reads a dialogue piece by piece"):
        read_format("m", tokenizer)


def test_the_embedded_model_encodes_pieces_as_they_are(embedded):
    form = embedded.info().format
    assert (form.anchor, form.joins, form.closing) == ("", False, "<|im_end|>")
    assert read_format("embedded", embedded.tokenizer) == form
