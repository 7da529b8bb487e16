"""A chat template taken apart gives what the template itself gives."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from agents.models.chat_template import ChatFormat, from_tokenizer

SYSTEM, HEARD, SAID, SECOND = (
    "You are Ada.\nYou bake bread.",
    "Hello! Who is there?",
    "It is Ada, who else?",
    "What's new?",
)
NO_SYSTEM_ROLE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SYSTEM_LAST = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{% if loop.last and messages[0].role == 'system' "
    "%}{{ messages[0].content }} {% endif %}{{ m.content }}</{{ m.role }}>{% endif %}{% endfor %}{% if "
    "add_generation_prompt %}<assistant>{% endif %}"
)
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)
TELLS_THE_DAY = (
    "Today is {{ strftime_now('%d %B %Y') }}, {{ date_string }}, {{ strftime_now('%Y-%m-%d %H:%M') }}. "
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SHOUTING = "{% for m in messages %}<{{ m.role }}>{{ m.content | upper }}{% endfor %}"
ALTERNATING_ONLY = "{{ raise_exception('this model does not chat') }}"


def joined(form: ChatFormat, last: str | None = SECOND) -> str:
    text = form.beginning(SYSTEM) + form.first(HEARD) + form.before_said + form.line(SAID) + form.after_said
    return text if last is None else text + last + form.before_said


def messages(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def under(embedded, template: str | None):
    tokenizer = copy.deepcopy(embedded.tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def test_joined_pieces_equal_the_models_own_template(embedded):
    wanted = embedded.tokenizer.apply_chat_template(
        messages(("system", SYSTEM), ("user", HEARD), ("assistant", SAID), ("user", SECOND)),
        tokenize=False,
        add_generation_prompt=True,
    )
    assert joined(from_tokenizer(embedded.tokenizer)) == wanted == joined(embedded.info().format)


def test_pieces_encoded_one_by_one_equal_the_template_encoded_at_once(embedded):
    form = embedded.info().format
    pieces = [
        form.opening + SYSTEM + form.after_system,
        HEARD,
        form.before_said,
        SAID,
        form.after_said + SECOND,
        form.before_said,
    ]
    wanted = embedded.tokenizer.apply_chat_template(
        messages(("system", SYSTEM), ("user", HEARD), ("assistant", SAID), ("user", SECOND)), add_generation_prompt=True
    )
    assert [token for ids in embedded.encode(pieces) for token in ids] == list(wanted["input_ids"])


@pytest.mark.parametrize("template", [NO_SYSTEM_ROLE, SYSTEM_LAST], ids=["refused", "moved to the newest message"])
def test_without_a_system_role_its_text_heads_the_first_heard_message(embedded, template):
    tokenizer = under(embedded, template)
    wanted = tokenizer.apply_chat_template(
        messages(("user", f"{SYSTEM}\n\n{HEARD}"), ("assistant", SAID), ("user", SECOND)),
        tokenize=False,
        add_generation_prompt=True,
    )
    assert joined(from_tokenizer(tokenizer)) == wanted


def test_a_cue_that_the_history_does_not_keep_is_given_when_it_is_time_to_speak(embedded):
    assert from_tokenizer(under(embedded, THINKING)).before_said == "</user><assistant><think></think>"


def test_a_template_that_tells_the_day_tells_the_same_on_every_day(embedded):
    opening = from_tokenizer(under(embedded, TELLS_THE_DAY)).opening
    assert opening == "Today is 26 July 2024, 26 Jul 2024, 2024-07-26 00:00. [system]"


def test_without_a_template_a_dialogue_is_a_plain_transcript(embedded):
    form = from_tokenizer(under(embedded, None))
    assert replace(form, specials=()) == ChatFormat.plain()
    assert joined(form, None) == f"{SYSTEM}\n\nThem: {HEARD}\nMe: {SAID}\nThem: "


@pytest.mark.parametrize("template", [SHOUTING, ALTERNATING_ONLY])
def test_a_template_that_mangles_what_is_said_is_refused(embedded, template):
    with pytest.raises(ValueError, match="does not keep the words"):
        from_tokenizer(under(embedded, template))
