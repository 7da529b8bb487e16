"""The NLI judge with a hand-made `entail`, with a tiny cross-encoder from a folder, and with the embedded head."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.judges import Pair
from metrics.judges.nli import Nli
from scenarios.records import Fact, Persona, Slot

HOME = Slot(
    "home", "I live in {value}.", "You live in {value}.", ("Where?",), ("I live in {value}",), ("Osaka", "Lisbon")
)
PET = Slot("pet", "My pet is a {value}.", "Your pet is a {value}.", ("Pet?",), ("my pet is a {value}",), ("cat", "dog"))
GRACE = Persona(
    "grace", "Grace", "You live in Osaka. Your pet is a cat.", (Fact(HOME, "Osaka", ()), Fact(PET, "cat", ()))
)
STRANGER = Persona("p", "", "You live in Osaka. You are a nurse.", ())
TABLE = {  # (statement, sentence) -> contradiction, neutral, entailment
    ("I live in Osaka.", "I live in Lisbon."): (0.9, 0.1, 0.0),
    ("I live in Lisbon.", "I live in Osaka."): (0.7, 0.3, 0.0),
    ("My pet is a cat.", "I have a cat."): (0.0, 0.2, 0.8),
    ("I have a cat.", "My pet is a cat."): (0.0, 0.2, 0.8),
}


def by_table(premises, hypotheses):
    return np.array([TABLE.get(pair, (0.05, 0.9, 0.05)) for pair in zip(premises, hypotheses, strict=True)])


def pair(line, other=None, persona=GRACE, metric=None):
    metric = metric or ("prompt_to_line" if other is None else "line_to_line")
    return Pair(0, 5, "user", metric, line, "persona" if other is None else "3", persona, other)


def test_p_is_the_most_over_statements_and_sentences_of_the_mean_of_both_directions():
    line = "Hello! I live in Lisbon. I have a cat."
    row, *facts = Nli(by_table).judge([pair(line)])
    assert row.p_inconsistent == pytest.approx((0.9 + 0.7) / 2) and row.verdict is True
    assert (
        line[slice(*row.span)] == "I live in Lisbon." and row.claim == "I live in Osaka." and row.against == "persona"
    )
    assert [(fact.against, fact.verdict) for fact in facts] == [("home", True), ("pet", False)]
    # its worst sentence is the neutral one
    assert facts[1].p_inconsistent == pytest.approx(0.05) and facts[1].span is None


def test_a_line_that_speaks_of_no_fact_has_one_row():
    (row,) = Nli(by_table).judge([pair("What a day!")])
    assert row.verdict is False and row.p_inconsistent == pytest.approx(0.05) and (row.span, row.claim) == (None, None)


def test_a_card_without_facts_is_judged_by_its_sentences_and_the_claim_is_named():
    (row,) = Nli(by_table).judge([pair("I live in Lisbon.", persona=STRANGER)])
    assert row.verdict is True and row.claim == "I live in Osaka."


def test_a_speakers_name_before_a_line_is_no_part_of_it():
    line = "Ann Lee: I live in Lisbon."
    row, between = Nli(by_table).judge([pair(line, persona=STRANGER), pair(line, "Ann Lee: I live in Osaka.")])
    assert (
        row.verdict and between.verdict and line[slice(*row.span)] == line[slice(*between.span)] == "I live in Lisbon."
    )
    assert between.claim == "I live in Osaka."
    assert Nli(by_table).judge([pair("Ann Lee: ...")])[0].unscored == "empty line"


def test_two_lines_are_judged_sentence_by_sentence():
    (row,) = Nli(by_table).judge([pair("Well. I live in Lisbon.", "I have a cat. I live in Osaka.")])
    assert row.verdict is True and row.against == "3" and row.claim == "I live in Osaka."


def test_every_question_is_asked_once_and_all_in_one_call():
    calls = []

    def entail(premises, hypotheses):
        calls.append(list(zip(premises, hypotheses, strict=True)))
        return by_table(premises, hypotheses)

    Nli(entail).judge(
        [pair("I live in Lisbon."), pair("I live in Lisbon."), pair("I live in Lisbon.", "I live in Osaka.")]
    )
    assert len(calls) == 1 and len(calls[0]) == 2 * 2  # two statements, one sentence, both directions


def test_of_many_statements_the_nearest_are_asked_about():
    persona = Persona("p", "", " ".join(f"You own {n} cats." for n in range(30)), ())
    asked = set()

    def entail(premises, hypotheses):
        asked.update(premises)
        return by_table(premises, hypotheses)

    def embed(texts):  # one axis a number
        return np.array([[float(f" {n} " in text) for n in range(30)] for text in texts])

    Nli(entail, embed, top=3).judge([pair("I own 7 cats, not 9 cats or 11 cats.", persona=persona)])
    assert asked == {"I own 7 cats.", "I own 9 cats.", "I own 11 cats.", "I own 7 cats, not 9 cats or 11 cats."}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (pair("..."), "empty line"),
        (pair("Hi.", " "), "empty line"),
        (pair("Hi.", metric="manner"), "manner"),
        (pair("Hi.", persona=Persona("p", "", "", ())), "states nothing"),
    ],
)
def test_what_cannot_be_asked_is_unscored(asked, reason):
    (row,) = Nli(by_table).judge([asked])
    assert (row.p_inconsistent, row.verdict) == (None, None) and reason in row.unscored


RUSSIAN = Persona("p", "", "Ты живёшь в Осаке.", ())


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (pair("Я живу в Лиссабоне, in Lisbon."), "the line"),
        (pair("I live in Lisbon.", "Я живу в Осаке."), "the earlier line"),
        (pair("I live in Lisbon.", persona=RUSSIAN), "the persona"),
    ],
)
def test_a_model_that_knows_english_alone_leaves_other_scripts_unscored(asked, what):
    (row,) = Nli(by_table, english=True).judge([asked])
    assert (row.p_inconsistent, row.verdict) == (None, None)
    assert row.unscored == f"most letters of {what} are Cyrillic, and this judge reads English"
    (row, *_) = Nli(by_table).judge([asked])
    assert row.unscored is None, "another model may read it"


def test_names_and_signs_of_other_scripts_are_read_within_english():
    row, *_ = Nli(by_table, english=True).judge([pair("I live in Lisbon. Привет!"), pair("42!")])
    assert row.verdict is True


def test_probabilities_that_are_no_numbers_are_unscored():
    (row,) = Nli(lambda premises, _: np.full((len(premises), 3), np.nan)).judge([pair("Hi there.")])
    assert row.verdict is None and row.unscored == "no finite probability"


def test_no_pairs_give_no_rows():
    assert Nli(by_table).judge([]) == []


# -- a cross-encoder from a folder


def folder(path, labels):
    """A tiny classifier with random weights that reads letters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)
    path.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, ".", *(f"##{letter}" for letter in letters)]
    (path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = BertForSequenceClassification(config)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.arange(len(labels)).float()  # says the last label, whatever it reads
    model.save_pretrained(path)
    return str(path)


def test_a_cross_encoders_columns_are_read_from_its_labels(tmp_path):
    from agents.judge_models.cross_encoder import CrossEncoder

    model = CrossEncoder(folder(tmp_path / "m", ["ENTAILMENT", "neutral", "Contradiction"]), "cpu")
    probabilities = model.entail(["i live in osaka."] * 3, ["i live in lisbon.", "a", "word " * 200])
    shares = np.exp([2.0, 1.0, 0.0]) / np.exp([2.0, 1.0, 0.0]).sum()  # biases 0, 1, 2 in the model's order
    assert probabilities == pytest.approx(np.tile(shares, (3, 1)), abs=1e-6)
    assert model.entail([], []).shape == (0, 3)


@pytest.mark.parametrize(
    "labels", [["LABEL_0", "LABEL_1"], ["entailment", "not_entailment"], ["positive", "negative", "neutral"]]
)
def test_a_classifier_without_a_contradiction_is_refused_in_one_sentence(tmp_path, labels):
    from agents.judge_models import cross_encoder

    name = folder(tmp_path / "m", labels)
    with pytest.raises(ValueError, match="expected a sequence classifier with contradiction") as error:
        cross_encoder.check(name)
    # the default names are not saved
    assert "\n" not in str(error.value) and (labels[0] in str(error.value) or "LABEL" in labels[0])


def test_a_damaged_classifier_is_refused_in_one_sentence(tmp_path):
    from agents.judge_models.cross_encoder import CrossEncoder

    name = folder(tmp_path / "m", ["contradiction", "entailment", "neutral"])
    (tmp_path / "m" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="could not be loaded") as error:
        CrossEncoder(name, "cpu")
    assert "\n" not in str(error.value)


# -- the embedded head


@pytest.fixture(scope="module")
def embedded_nli(one_thread):
    from agents.judge_models.nli_head import EmbeddedNli

    return EmbeddedNli("cpu")


CONTRADICT = [
    ("I live in Osaka.", "Well, I live in Lisbon these days."),
    ("I live in Osaka.", "I don't live in Osaka."),
    ("I am 34 years old.", "I just turned 52."),
    ("I work as a nurse.", "I earn my living as a baker."),
    ("My only pet is a tortoise.", "I have a parrot."),
    ("I play the cello.", "I do not play the cello."),
]
DO_NOT = [
    ("I live in Osaka.", "My home is in Osaka, of course."),
    ("I live in Osaka.", "My sister lives in Lisbon."),
    ("I live in Osaka.", "I grew up in Lisbon."),
    ("I am 34 years old.", "What a lovely day!"),
    ("I work as a nurse.", "I am not a baker."),
    ("My only pet is a tortoise.", "That sounds wonderful, tell me more."),
    ("I play the cello.", "My uncle plays the trumpet."),
]


def test_the_embedded_head_tells_contradictions_from_the_rest(embedded_nli):
    pairs = [*CONTRADICT, *DO_NOT]
    probabilities = embedded_nli.entail([a for a, _ in pairs], [b for _, b in pairs])
    assert probabilities.shape == (len(pairs), 3) and probabilities.sum(1) == pytest.approx(np.ones(len(pairs)))
    said = probabilities.argmax(1) == 0
    assert said[: len(CONTRADICT)].tolist() == [True] * len(CONTRADICT)
    assert said[len(CONTRADICT) :].tolist() == [False] * len(DO_NOT)


def test_the_embedded_head_says_the_same_of_a_pair_alone_and_among_others(embedded_nli):
    from agents.judge_models.nli_head import EmbeddedNli

    together = embedded_nli.entail([a for a, _ in CONTRADICT], [b for _, b in CONTRADICT])
    alone = np.concatenate([EmbeddedNli("cpu").entail([a], [b]) for a, b in CONTRADICT])
    assert together == pytest.approx(alone, abs=2e-3)  # float16 states: padding moves the last digit


@pytest.mark.slow
def test_held_out_slots_and_values_are_read_far_better_than_by_chance(embedded_nli):
    """The published figures come from agents.nli_train; here a sample of 200 each: accuracy above .9 and .7 (chance:
    under .45).
    """
    from agents.judge_models.nli_data import corpora, examples

    corpus = corpora()
    for name, least in (("values", 0.9), ("slots", 0.7)):
        sample = examples(corpus[name], 200, seed=3)
        predicted = embedded_nli.entail(
            [example.premise for example in sample], [example.hypothesis for example in sample]
        ).argmax(1)
        assert np.mean(predicted == [example.label for example in sample]) > least, name


def test_training_sees_no_held_out_slot_or_value():
    from agents.judge_models.nli_data import corpora

    corpus = corpora()
    train, slots, values = corpus["train"], corpus["slots"], corpus["values"]
    assert {slot.id for slot in train.slots}.isdisjoint(slot.id for slot in slots.slots) and slots.slots
    assert train.opposites.keys().isdisjoint(slots.opposites) and slots.opposites
    known = {slot.id: set(slot.values) for slot in train.slots}
    assert all(known[slot.id].isdisjoint(slot.values) for slot in values.slots) and values.slots


def test_examples_are_the_same_for_the_same_seed():
    from agents.judge_models.nli_data import corpora, examples

    train = corpora()["train"]
    assert examples(train, 50, 1) == examples(train, 50, 1) != examples(train, 50, 2)


def test_training_on_a_handful_of_pairs_learns_them_and_the_weights_come_back(one_thread, tmp_path):
    from agents.judge_models.nli_data import corpora, examples
    from agents.judge_models.nli_train import figures, train, wilson

    sample = examples(corpora()["train"], 48, seed=5)
    measured = figures(train(sample, seed=0, epochs=25), sample)
    assert measured["accuracy"][0] > 0.9 and measured["accuracy"][3] == 48
    assert wilson(5, 10)[:3] == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)  # Wilson's published example values
    assert np.isnan(wilson(0, 0)[0])


@pytest.mark.parametrize("name", ["WEIGHTS", "CARD_WEIGHTS"])
def test_the_weights_are_small_and_hold_what_the_head_has(name):
    from safetensors import safe_open

    from agents.judge_models import nli_head

    path = getattr(nli_head, name)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(nli_head.Head(768).state_dict())
    assert path.stat().st_size < 1_000_000


def test_the_closest_statements_are_read_again_and_the_others_count_as_neutral():
    asked = []

    def free(statements, lines):
        """The statements are numbered; the later, the less neutral."""
        neutral = [1 - 0.1 * int(text.split()[-1].strip(".")) for text in statements]
        return np.array([[(1 - p) / 2, p, (1 - p) / 2] for p in neutral])

    def reread(statements, lines):
        asked.extend(statements)
        return np.tile([0.7, 0.3, 0.0], (len(statements), 1))

    persona = Persona("x", "Ada", " ".join(f"I have rule {number}." for number in range(1, 7)), ())
    (row,) = Nli(by_table, entail_free=free, reread=reread).judge([pair("What a day!", persona=persona)])
    assert sorted(asked) == [f"I have rule {number}." for number in (4, 5, 6)]
    assert row.p_inconsistent == pytest.approx(0.7) and row.claim in asked
    (none,) = Nli(by_table, entail_free=free, reread=lambda a, b: np.tile([0.0, 1.0, 0.0], (len(a), 1))).judge(
        [pair("What a day!", persona=persona)]
    )
    assert none.p_inconsistent == pytest.approx(0.0, abs=1e-9), "what the first reader said counts no longer"


def test_the_joint_layers_are_stored_as_small_changes_of_the_encoders():
    from safetensors.torch import load_file

    from agents.judge_models import nli_joint

    stored, untrained = load_file(nli_joint.WEIGHTS), nli_joint.JointLayers()
    assert nli_joint.WEIGHTS.stat().st_size < 4_000_000
    packed = nli_joint.packed(nli_joint.load_joint())
    assert packed.keys() == stored.keys()
    matrix = "layers.0.intermediate.dense.weight"
    change = stored[f"{matrix}.left"].float() @ stored[f"{matrix}.right"].float()
    assert np.allclose(nli_joint.load_joint().state_dict()[matrix], untrained.state_dict()[matrix] + change, atol=1e-6)
    assert 0 < np.abs(change.numpy()).max() < 0.5


def test_an_epoch_of_training_changes_the_joint_layers_and_nothing_of_the_encoder():
    from agents.judge_models.nli_cards import cards
    from agents.judge_models.nli_joint import JointLayers
    from agents.judge_models.nli_joint_train import entailing, train

    before = JointLayers().state_dict()
    [(trained)] = train(cards()[0][:1], [], seed=1, epochs=1)
    assert not np.allclose(trained.state_dict()["which"], before["which"])
    assert all(
        np.array_equal(before[name], weight)
        for name, weight in JointLayers().state_dict().items()
        if name.startswith("layers")
    )
    p = entailing(trained.eval())(["I have a cat."], ["My cat is asleep."])
    assert p.shape == (1, 3) and p.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_the_head_for_free_text_compares_and_the_other_does_not(embedded_nli):
    """Training prints .81 and .52 of the 1,008 lines of the held-out cards; the joint layers do better. Here 16
    of the 80 cards are read.
    """
    from agents.judge_models.nli_cards import cards, within_lines

    sample = cards()[1][:16]
    wins, lines = within_lines(embedded_nli.entail_free, sample)
    assert wins / lines > 0.7 and within_lines(embedded_nli.reread, sample)[0] / lines > 0.8
    assert within_lines(embedded_nli.entail, sample)[0] / lines < 0.65


def test_statements_that_are_no_claims_of_slots_go_to_the_model_for_them():
    def free(premises, hypotheses):
        return np.tile([0.8, 0.1, 0.1], (len(premises), 1))

    judge = Nli(by_table, entail_free=free)
    (of_card,) = judge.judge([pair("What a day!", persona=STRANGER)])
    (between,) = judge.judge([pair("What a day!", "Hello.", persona=STRANGER)])
    # odds of 4, times exp(-2 * .1) since it may follow from a statement
    assert of_card.p_inconsistent == pytest.approx(3.2749 / 4.2749, abs=1e-4)
    assert between.p_inconsistent == pytest.approx(0.8)
    (of_facts,) = judge.judge([pair("What a day!")])
    assert of_facts.p_inconsistent == pytest.approx(0.05)
    (fact_lines,) = judge.judge([pair("What a day!", "Hello.", persona=GRACE)])
    assert fact_lines.p_inconsistent == pytest.approx(0.05)


def test_a_head_that_reads_the_line_alone_wins_nothing_within_a_line():
    from agents.judge_models.nli_cards import cards, within_lines

    def by_length(premises, hypotheses):
        return np.array([[len(line), 0, 0] for line in hypotheses])

    assert within_lines(by_length, cards()[1])[0] == 0


def test_cards_are_whole_and_training_sees_none_that_is_held_out():
    from agents.judge_models.nli_cards import card_examples, cards
    from agents.judge_models.nli_data import CONTRADICTION, ENTAILMENT, NEUTRAL

    train, held = cards()
    texts = [{line["text"] for row in rows for line in row["lines"]} for rows in (train, held)]
    assert texts[0].isdisjoint(texts[1]) and len(train) == 4 * len(held) == 320
    for row in (*train, *held):
        for line in row["lines"]:
            assert line["text"].strip() and line["label"] in ("contradicts", "faithful", "other")
            assert line.get("statement", 0) < len(row["statements"])
    pairs = card_examples(held, 1)
    assert pairs == card_examples(held, 1) != card_examples(held, 2)
    assert {pair.label for pair in pairs} == {CONTRADICTION, NEUTRAL, ENTAILMENT}
