"""Greedy samples, their speed and their sanity."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from vocabalign.evaluation.generation import default_prompt, repetition_share, write_sample
from vocabalign.text.tokenizers import load_vocabulary


@pytest.fixture(scope="module")
def model(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def vocabulary(tiny_llama):
    return load_vocabulary(tiny_llama)


def test_equals_reading_everything_again(model, vocabulary):
    prompt = "The cat sat"
    ids = [0, *vocabulary.encode(prompt)]
    written: list[int] = []
    while len(written) < 12:
        with torch.no_grad():
            written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    sample = write_sample(model, vocabulary, prompt, 12)
    if 0 not in written:
        assert sample.tokens == 12
    data = b"".join(vocabulary.token_bytes[i] for i in written[: sample.tokens])
    assert sample.text == data.decode(errors="replace")
    assert sample.bytes == len(data)
    assert sample.bytes_per_second > 0


def test_stops_at_the_end_token_and_counts_ids_without_text(tiny_llama, vocabulary):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    model.lm_head.weight.data.zero_()
    sample = write_sample(model, vocabulary, "x", 5)
    assert (sample.tokens, sample.text, sample.bytes_per_second) == (0, "", 0)


def test_a_prompt_longer_than_the_context_is_cut(model, vocabulary):
    assert write_sample(model, vocabulary, "The cat sat on the mat. " * 200, 500).tokens <= 64


def test_default_prompt():
    assert default_prompt("short") == "short"
    assert default_prompt("Once upon a time there was a fox", 20) == "Once upon a time"
    assert default_prompt("first line of it\nsecond line", 20) == "first line of it"
    assert default_prompt("x" * 100, 10) == "x" * 10
    assert default_prompt("\n\n  def f():\n    return 1\n", 80) == "def f():\n    return 1"


def test_repetition():
    assert repetition_share(b"") == 0
    assert repetition_share(bytes(range(200))) == 0
    assert repetition_share(b"again and " * 30) > 0.9
