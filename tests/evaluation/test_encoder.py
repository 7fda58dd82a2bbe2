"""Mean-pooled vectors against one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.conftest import make_llama
from vocabalign.errors import VocabAlignError
from vocabalign.evaluation.encoder import Encoder
from vocabalign.evaluation.options import Place

PLACE = Place(torch.device("cpu"), torch.float32)


def test_equals_one_text_at_a_time_without_padding(tiny_llama, texts):
    model = AutoModel.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    vectors = Encoder(str(tiny_llama), PLACE)(texts)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, (hidden / hidden.norm()).numpy(), atol=1e-5)


def test_long_and_empty_texts(tiny_llama):
    vectors = Encoder(str(tiny_llama), PLACE)(["The cat sat. " * 500, ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0], atol=1e-5)


def test_a_folder_without_tokenizer_is_told(tmp_path):
    with pytest.raises(VocabAlignError, match="tokenizer"):
        Encoder(str(make_llama(tmp_path / "bare", 50)), PLACE)
