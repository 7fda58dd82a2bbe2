"""Greedy samples, their speed and their sanity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from vocabalign.evaluation.generation import (
    default_prompt,
    invalid_bytes,
    pick_prompts,
    repetition_share,
    sample_record,
    write_sample,
)
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


@given(st.binary(max_size=40))
def test_invalid_bytes_are_what_decoding_leaves_out(data):
    count = invalid_bytes(data)
    assert 0 <= count <= len(data)
    kept = data.decode("utf-8", errors="ignore").encode()
    # What is left out is invalid, but for a character that the end cuts in two.
    assert 0 <= len(data) - len(kept) - count <= 3
    assert invalid_bytes(data + b" ") == len(data) - len(kept)


@given(st.text(max_size=20))
def test_whole_text_has_no_invalid_bytes_wherever_it_is_cut(text):
    data = text.encode()
    assert all(invalid_bytes(data[:end]) == 0 for end in range(len(data) + 1))


def test_samples_of_several_prompts_add_up(model, vocabulary):
    prompts = ["The cat sat", "Once upon"]
    samples = [write_sample(model, vocabulary, prompt, 10) for prompt in prompts]
    record = sample_record(samples, prompts)
    assert record["sample"] == samples[0].text
    assert [row["prompt"] for row in record["samples"]] == prompts
    assert [row["text"] for row in record["samples"]] == [sample.text for sample in samples]
    seconds, written = (sum(getattr(sample, name) for sample in samples) for name in ("seconds", "bytes"))
    assert record["generation_bytes_per_second"] == pytest.approx(written / seconds)
    assert record["generation_invalid_bytes"] == sum(sample.invalid_bytes for sample in samples)


def test_prompts_come_from_every_domain_in_turn():
    texts = [f"text {i}" for i in range(6)]
    domains = ["a", "a", "a", "b", "b", None]
    assert pick_prompts(texts, domains, 4) == ["text 0", "text 3", "text 5", "text 1"]
    assert pick_prompts(texts, [], 2) == ["text 0", "text 1"]
    assert len(pick_prompts(texts, domains, 100)) == 6
