"""Character cards, versions 1 to 3, as JSON or in a PNG file: their text, and nothing else.

Greetings, example dialogues, lorebooks, scripts, images and extensions are left out. Of a PNG file, only the text
chunks `ccv3` and `chara` are read (base64 of JSON).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from lab.persona_files.rows import LONGEST_ROW, PERSONAS, PNG
from scenarios.input_files import opened

MOST_TEXT = 16 * 2**20  # bytes of a PNG's text chunk
MOST_CHUNKS = 10_000
KEYWORDS = (b"ccv3", b"chara")  # in the order in which they are preferred
PARTS = (  # of the card: keys, and what is written before the text
    (("description", "char_persona"), ""),
    (("personality",), "Personality: "),
    (("scenario", "world_scenario"), "Scenario: "),
)
DROPPED = (  # keys, and what they are
    (("first_mes", "char_greeting", "alternate_greetings", "group_only_greetings"), "greetings"),
    (("mes_example", "example_dialogue"), "example dialogue"),
    (("character_book",), "lorebook"),
    (("assets", "avatar"), "images"),
    (("extensions",), "extensions"),
    (("system_prompt", "post_history_instructions"), "instructions to the model"),
)
_IMAGE = re.compile(r"!\[[^\[\]\n]*+\]\([^()\n]*+\)")
_TAG = re.compile(r"<(?!(?:user|bot|char)>)/?[a-zA-Z!][^<>]*+>", re.IGNORECASE)
_MACROS = (
    (re.compile(r"<(?:bot|char)>", re.IGNORECASE), "{{char}}"),
    (re.compile("<user>", re.IGNORECASE), "{{user}}"),
)
_HIDDEN = ("script", "style")  # elements whose content is no text


def is_card(record: Mapping) -> bool:
    """Whether a record is a character card of any version."""
    if str(record.get("spec", "")).startswith("chara_card") or isinstance(record.get("data"), Mapping):
        return True
    return "char_persona" in record or ("description" in record and bool({"first_mes", "mes_example"} & record.keys()))


def card_text(record: Mapping) -> tuple[str, str, set[str]]:
    """(name, card, kinds of content that were left out) of a character card.

    Raises ValueError where it has no text of the character.
    """
    inner = record.get("data")
    data = inner if isinstance(inner, Mapping) else record
    name = next((data[key] for key in ("name", "char_name") if isinstance(data.get(key), str)), "")
    texts, dropped = [], set()
    for keys, before in PARTS:
        text = next((data[key] for key in keys if isinstance(data.get(key), str) and data[key].strip()), "")
        if len(text) > LONGEST_ROW:
            raise ValueError(f"has a {keys[0]} of {len(text):,} characters; expected at most {LONGEST_ROW:,}")
        plain = without_markup(text)
        dropped |= {"scripts, images and markup"} if plain != text.strip() and _marked(text) else set()
        texts += [before + plain] if plain else []
    if not texts:
        raise ValueError("is a character card without a description, personality or scenario")
    dropped |= {kind for keys, kind in DROPPED if any(data.get(key) for key in keys)}
    return name, "\n".join(texts), dropped


def without_markup(text: str) -> str:
    """The text without scripts, tags and images; <BOT> and <USER> become {{char}} and {{user}}."""
    for element in _HIDDEN:
        text = _without_element(text, element)
    text = _TAG.sub("", _IMAGE.sub("", text))
    for macro, name in _MACROS:
        text = macro.sub(name, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _marked(text: str) -> bool:
    return bool(_TAG.search(text) or _IMAGE.search(text))


def _without_element(text: str, element: str) -> str:
    """The text without the elements of that name; what is not closed ends with the text."""
    parts, here, lower = [], 0, text.lower()
    while (start := lower.find(f"<{element}", here)) >= 0:
        parts.append(text[here:start])
        end = lower.find(f"</{element}", start)
        close = lower.find(">", end) if end >= 0 else -1
        here = close + 1 if close >= 0 else len(text)
    return "".join([*parts, text[here:]])


def png_card(path: Path) -> Mapping:
    """The character card in a PNG file. Raises ValueError where it has none."""
    with opened(path, PERSONAS) as file:
        chunks = _text_chunks(path, file)
    for keyword in KEYWORDS:
        if keyword in chunks:
            try:
                card = json.loads(base64.b64decode(chunks[keyword], validate=False).decode("utf-8"))
            except (binascii.Error, ValueError, RecursionError):
                raise ValueError(
                    f"{path}: its text {keyword.decode()!r} is no base64 of JSON; expected a character card"
                ) from None
            if isinstance(card, Mapping):
                return card
    raise ValueError(f"{path} is an image without a character card (a text chunk 'chara' or 'ccv3'); expected one")


def _text_chunks(path: Path, file: IO[bytes]) -> dict[bytes, bytes]:
    """The text chunks with one of KEYWORDS, by keyword; the others are passed over unread."""
    chunks: dict[bytes, bytes] = {}
    file.seek(len(PNG))
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        size = int.from_bytes(head[:4], "big")
        if head[4:] != b"tEXt":
            file.seek(size + 4, 1)
            continue
        if size > MOST_TEXT:
            raise ValueError(f"{path} holds a text of {size:,} bytes; expected at most {MOST_TEXT:,}")
        keyword, _, text = file.read(size).partition(b"\0")
        if keyword in KEYWORDS:
            chunks[keyword] = text
        file.seek(4, 1)
    return chunks
