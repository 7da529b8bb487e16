"""The real sentence encoder, out of its package."""

from __future__ import annotations

import numpy as np
import pytest

from agents.judge_models.embedder import BATCH, Embedder, folder

TEXTS = ["I live in Oslo.", "My home is in Oslo.", "The cello is the only instrument I play.", "Yes."]


@pytest.fixture(scope="module")
def embedder(one_thread):
    return Embedder(device="cpu")


def test_vectors_have_unit_length_and_like_meanings_lie_close(embedder):
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.7 and near[0, 2] < 0.4, "the same said twice, and something else"


def test_text_has_the_same_vector_alone_and_in_any_batch(embedder):
    many = embedder.embed(
        [*(f"{text} And {number} more words." for number in range(BATCH // 4 + 1) for text in TEXTS), *TEXTS]
    )
    assert np.allclose(many[-4:], np.concatenate([embedder.embed([text]) for text in TEXTS]), atol=1e-5)


def test_no_text_gives_no_rows(embedder):
    assert embedder.embed([]).shape == (0, 384)


def test_same_model_is_loaded_once_and_may_be_named_by_its_folder(embedder):
    again, by_folder = Embedder(device="cpu"), Embedder(folder("minilm"), device="cpu")
    assert again._model is embedder._model
    assert np.allclose(by_folder.embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)


def test_folder_that_holds_no_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config.json"):
        Embedder(str(tmp_path), device="cpu")
