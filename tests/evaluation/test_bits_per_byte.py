"""Bits per byte against a slow reference, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from vocabalign.errors import ModelError
from vocabalign.evaluation import bits_per_byte as module
from vocabalign.evaluation.bits_per_byte import batch_windows, cut_windows, score_documents, start_token


@pytest.fixture(scope="module")
def model(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def long_texts(texts):
    return [text * repeats for text, repeats in zip(texts, (1, 9, 2, 1, 5, 1, 12, 3))]


@pytest.fixture(scope="module")
def documents(tiny_llama, long_texts):
    return AutoTokenizer.from_pretrained(tiny_llama)(long_texts, add_special_tokens=False).input_ids


@pytest.fixture(scope="module")
def sizes(long_texts):
    return [len(text.encode()) for text in long_texts]


def score_slowly(model, documents, start_id, window) -> list[float]:
    """One window at a time, as the method is written down."""
    result = []
    for document in documents:
        ids, done, nats = [start_id, *document], 1, 0.0
        while done < len(ids):
            start = max(0, done - window // 2) if done > 1 else 0
            end = min(len(ids), start + window)
            x = torch.tensor([ids[start:end]])
            with torch.no_grad():
                logp = model(x).logits[0, done - start - 1 : -1].log_softmax(-1)
            nats -= logp.gather(1, x[0, done - start :, None]).sum().item()
            done = end
        result.append(nats)
    return result


@pytest.mark.parametrize("window", [16, 33, 128])
def test_equals_one_window_at_a_time(model, documents, sizes, window):
    scores = score_documents(model, documents, sizes, start_id=0, window=window, batch_size=5)
    np.testing.assert_allclose(scores.nats, score_slowly(model, documents, 0, window), rtol=1e-5)
    assert scores.num_tokens.tolist() == [len(ids) for ids in documents]
    assert scores.num_bytes.tolist() == sizes


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_batch_size_changes_nothing(model, documents, sizes, batch_size):
    alone = score_documents(model, documents, sizes, start_id=0, window=32, batch_size=7)
    other = score_documents(model, documents, sizes, start_id=0, window=32, batch_size=batch_size)
    np.testing.assert_allclose(other.nats, alone.nats, rtol=2e-6)


def test_order_and_company_of_documents_change_nothing(model, documents, sizes):
    together = score_documents(model, documents, sizes, start_id=0, window=32)
    order = list(reversed(range(len(documents))))
    turned = score_documents(model, [documents[i] for i in order], [sizes[i] for i in order], start_id=0, window=32)
    np.testing.assert_allclose(turned.nats[::-1], together.nats, rtol=2e-6)
    alone = [score_documents(model, [d], [s], start_id=0, window=32).nats[0] for d, s in zip(documents, sizes)]
    np.testing.assert_allclose(alone, together.nats, rtol=2e-6)


def test_little_memory_changes_nothing(model, documents, sizes, monkeypatch):
    usual = score_documents(model, documents, sizes, start_id=0, window=32)
    monkeypatch.setattr(module, "LOGITS_BYTES", 1)
    monkeypatch.setattr(module, "SCORED_POSITIONS", 3)
    frugal = score_documents(model, documents, sizes, start_id=0, window=32)
    np.testing.assert_allclose(frugal.nats, usual.nats, rtol=2e-6)


def test_uniform_logits_cost_exactly_the_vocabulary(tiny_llama, documents, sizes):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    model.lm_head.weight.data.zero_()
    scores = score_documents(model, documents, sizes, start_id=0, window=16)
    rows, tokens = model.lm_head.weight.shape[0], sum(map(len, documents))
    assert scores.bits_per_byte == pytest.approx(math.log2(rows) * tokens / sum(sizes), rel=1e-6)


def test_the_whole_is_the_sum_of_the_documents(model, documents, sizes):
    scores = score_documents(model, documents, sizes, start_id=0)
    assert scores.bits_per_byte == pytest.approx(sum(scores.nats) / math.log(2) / sum(sizes), rel=1e-12)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 12, 100])
@pytest.mark.parametrize("window", [2, 3, 8, 9])
def test_windows_score_each_token_once(length, window):
    windows = list(cut_windows(4, length, window))
    scored = [i for w in windows for i in range(w.first, w.end)]
    assert scored == list(range(1, length))
    assert all(w.end - w.start <= window and (w.start == 0 or w.first - w.start >= window // 2) for w in windows)


def test_batches_keep_every_window_and_their_bounds():
    windows = [w for i, length in enumerate((3, 50, 200, 17, 90)) for w in cut_windows(i, length, 16)]
    batches = list(batch_windows(windows, 4, 40))
    assert sorted(w for batch in batches for w in batch) == sorted(windows)
    assert max(map(len, batches)) <= 4
    for batch in batches:
        kept = max(w.end - w.start for w in batch) - min(w.first - w.start - 1 for w in batch)
        assert len(batch) == 1 or kept * len(batch) <= 40


def test_a_window_is_never_longer_than_the_context(model, sizes, documents):
    whole = score_documents(model, documents, sizes, start_id=0, window=128)
    longer = score_documents(model, documents, sizes, start_id=0, window=10_000)
    np.testing.assert_allclose(longer.nats, whole.nats, rtol=1e-9)


def test_empty_documents_cost_nothing(model):
    scores = score_documents(model, [[], [5]], [0, 3], start_id=0)
    assert scores.nats[0] == 0
    assert scores.nats[1] > 0


def test_ids_beyond_the_rows_are_told(model):
    with pytest.raises(ModelError, match="400 embedding rows"):
        score_documents(model, [[400]], [1], start_id=0)


def test_broken_weights_are_told(tiny_llama):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    model.lm_head.weight.data[3] = math.nan
    with pytest.raises(ModelError, match="nan"):
        score_documents(model, [[1, 2]], [2], start_id=0)


def test_start_token():
    assert start_token({"bos": 3, "eos": 4}) == 3
    assert start_token({"eos": 4, "unk": 0}) == 4
    assert start_token({}) == 0
