"""Token ids of the pieces of a growing dialogue, equal to those of its text encoded as a whole.

A view grows piece by piece, and nothing that stands in it is encoded again. Two kinds of tokenizers read a piece
otherwise than the same text within the whole: SentencePiece (Llama 2, Mistral 7B, TinyLlama) puts a blank before every
text, so that a piece is encoded behind an anchor whose ids are left out; and many byte-level vocabularies (Llama 3,
Qwen) join a mark with the newline behind it, so that the end of a message waits for the piece that follows, or split
blank lines by what follows (GPT-2), so that a cue is encoded before a word. Which of this a model needs is tried on a
probe dialogue when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agents.models.chat_template import ChatFormat, from_tokenizer

BLANK, NEWLINES = "▁", ("\n", "Ċ", "<0x0A>")  # as vocabularies write them
ANCHOR = "\n"  # no piece of a vocabulary joins it with words that follow
SYSTEM, HEARD, SAID, SECOND = "You are Ada, 25.", "How old are you?", "I am 25 years old.", "Is it 7 °C там? 😀"
BESIDE = "\n[Be brief.]"  # text of the lab behind a heard message
Encode = Callable[[str], list[int]]


def piece_encoder(tokenizer, form: ChatFormat) -> Encode:
    """A function from a piece of a dialogue to its ids. Special tokens are recognised, and none are added."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    before, cue = encode(form.anchor), form.before_said

    def behind(text: str) -> list[int]:
        ids = encode(form.anchor + text) if text else []
        return ids[len(before) :] if ids[: len(before)] == before else encode(text)

    def before_words(text: str) -> list[int]:
        return behind(f"{text}a")[:-1] if text.endswith(cue) else behind(text)

    return before_words if cue[-2:].isspace() else behind if form.anchor else encode


def read_format(name: str, tokenizer) -> ChatFormat:
    """The format of a model's template, with what its pieces need to have the ids of the whole.

    Raises ValueError where nothing gives them.
    """
    form = from_tokenizer(tokenizer)
    for joins in (False, True):
        for anchor in _anchors(tokenizer, form):
            tried = _closed(tokenizer, _opened(tokenizer, replace(form, anchor=anchor, joins=joins)))
            if _pieces(tokenizer, tried) == _whole(tokenizer, tried):
                return tried
    raise ValueError(
        f"model {name!r}: its tokenizer reads a dialogue piece by piece otherwise than as a whole; expected a chat "
        "template whose messages begin and end at tokens of their own"
    )


def _anchors(tokenizer, form: ChatFormat) -> list[str]:
    """What pieces may be encoded behind: nothing, or for SentencePiece a newline or the end of the cue."""
    if not _prepends(tokenizer):
        return [""]
    return [ANCHOR, *(special for special in form.specials if form.before_said.rstrip().endswith(special))]


def _prepends(tokenizer) -> bool:
    """Whether the tokenizer puts a blank before a text, as SentencePiece's do."""
    ids = tokenizer.encode("a", add_special_tokens=False)
    return bool(ids) and str(tokenizer.convert_ids_to_tokens(ids)[0]).startswith(BLANK)


def _opened(tokenizer, form: ChatFormat) -> ChatFormat:
    """The format with the blank and the token that the tokenizer itself puts before a text."""
    if getattr(tokenizer, "chat_template", None):
        blank = _prepends(tokenizer) and not form.opening.startswith(form.specials)
        return replace(form, opening=f" {form.opening}" if blank else form.opening)
    encode, wanted = piece_encoder(tokenizer, form), _encoded(tokenizer, "a")
    beginnings = [bos + blank for bos in ("", tokenizer.bos_token or "") for blank in ("", " ")]
    return replace(form, opening=next((text for text in beginnings if encode(text + "a") == wanted), ""))


def _closed(tokenizer, form: ChatFormat) -> ChatFormat:
    """The format with what stops a line: the first token behind it that is no blank, or any token with a newline."""
    encode = piece_encoder(tokenizer, form)
    ids = encode(form.after_said)
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    first = next((place for place, token in enumerate(tokens) if token.strip(f"{BLANK} Ġ")), 0)
    lengths = range(1, len(form.after_said) + 1)
    closing = next(
        (form.after_said[:length] for length in lengths if encode(form.after_said[:length]) == ids[: first + 1]), ""
    )
    closers = set(ids[first : first + 1])
    if "\n" in closing and not closing.strip():  # also within a token, such as a full stop and a newline
        closers |= {token for text, token in tokenizer.get_vocab().items() if any(mark in text for mark in NEWLINES)}
    return replace(form, closing=closing, closers=frozenset(closers))


def _pieces(tokenizer, form: ChatFormat) -> list[int]:
    """The ids of the probe dialogue as a seat's view grows."""
    encode, asked = piece_encoder(tokenizer, form), BESIDE + form.before_said
    beginning, heard, said, second = (
        form.beginning(SYSTEM),
        form.first(HEARD),
        form.line(SAID),
        form.after_said + SECOND,
    )
    if form.joins:
        after = encode(second + asked)[len(encode(form.closing)) :]
        return [*encode(beginning), *encode(heard + asked), *encode(said + form.closing), *after, *encode(said)]
    return [token for piece in (beginning, heard, asked, said, second, asked, said) for token in encode(piece)]


def _whole(tokenizer, form: ChatFormat) -> list[int]:
    """The ids of the probe dialogue's text, encoded at once."""
    asked = BESIDE + form.before_said
    said, again = form.line(SAID) + form.after_said, SECOND + asked + form.line(SAID)
    text = form.beginning(SYSTEM) + form.first(HEARD) + asked + said + again
    if not getattr(tokenizer, "chat_template", None):
        return _encoded(tokenizer, text.removeprefix(form.opening))
    blank = _prepends(tokenizer)
    return tokenizer.encode(text.removeprefix(" ") if blank else text, add_special_tokens=False)


def _encoded(tokenizer, text: str) -> list[int]:
    """The ids of a whole text with what the tokenizer puts before it, but not behind."""
    ids = tokenizer.encode(text)
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
