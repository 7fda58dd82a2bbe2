"""Rates of single rows: the arithmetic, the run that goes on, and rows that text never uses."""

import numpy as np
import pytest
import torch

from tests.conftest import TEXT
from tests.train.runs import finetuned, interrupted_at, same, weights
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.row_rates import row_factors

ROWS = "model.embed_tokens.weight"


def blocks_of(folder, model):
    return Blocks(tokenize(TEXT, load_vocabulary(model), folder, "text"), 24, 0)


def test_factors_follow_the_uses(tmp_path, tiny_llama):
    blocks = blocks_of(tmp_path, tiny_llama)
    rows = len(load_vocabulary(tiny_llama)) + 5
    ids = np.asarray(blocks.documents.ids)
    expected = [2.0 * min(1.0, (ids == i).sum() * 96 / len(ids)) ** 0.5 for i in range(rows)]
    assert row_factors(blocks, 96, rows, 2.0, 0.5)[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(row_factors(blocks, 96, rows, 3.0, 0.0), torch.full((rows, 1), 3.0))


def test_a_factor_is_another_rate_for_the_rows_alone(tmp_path, tiny_llama, corpus_file):
    """One step of AdamW without decay: rows move the factor times as far, the body as before."""
    start = weights(tiny_llama)
    more = dict(rows_share=0.0, learning_rate=1e-3)
    one = weights(finetuned(tiny_llama, corpus_file, tmp_path / "one", dict(steps=1), **more))
    three = weights(finetuned(tiny_llama, corpus_file, tmp_path / "three", dict(steps=1), rows_rate_factor=3.0, **more))
    for name in start:
        factor = 3.0 if name in (ROWS, "lm_head.weight") else 1.0
        moved = factor * (one[name] - start[name])
        assert torch.allclose(three[name] - start[name], moved, atol=1e-6)
        assert float(moved.abs().max()) > 1e-4


def test_rows_that_text_never_uses_stay(tmp_path, tiny_llama, corpus_file):
    start = weights(tiny_llama)
    out = weights(finetuned(tiny_llama, corpus_file, tmp_path / "out", rare_rows_power=1.0, rows_learning_rate=1e-2))
    moved = (out[ROWS] != start[ROWS]).any(1) | (out["lm_head.weight"] != start["lm_head.weight"]).any(1)
    assert 0 < int(moved.sum()) < len(moved)


def test_an_interrupted_run_goes_on_alike(tmp_path, tiny_llama, corpus_file):
    more = dict(rare_rows_power=0.5, rows_rate_factor=4.0, rows_learning_rate=1e-2, learning_rate=1e-3)
    expected = finetuned(tiny_llama, corpus_file, tmp_path / "whole", **more)
    with interrupted_at(5):
        finetuned(tiny_llama, corpus_file, tmp_path / "stopped", **more)
    assert same(finetuned(tiny_llama, corpus_file, tmp_path / "stopped", **more), expected)
