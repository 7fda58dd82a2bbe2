"""A batch that does not fit is refused with one that would."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.train.runs import finetuned
from vocabalign.errors import ConfigError, CorpusError
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import memory_check
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.memory_check import MARGIN, StepMemory, measure_step, switch_checkpointing_on
from vocabalign.train.objectives import cross_entropy

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path, tiny_llama, corpus_file):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    documents = tokenize(read_texts([str(corpus_file)]), load_vocabulary(tiny_llama), tmp_path, "text")
    return model, lambda context: Blocks(documents, context, seed=0)


def test_what_is_kept_of_one_sequence_is_its_part_of_a_batch(run):
    model, blocks = run
    one = measure_step(model, cross_entropy, blocks(64), CPU)
    assert one.state == 12 * sum(parameter.numel() for parameter in model.parameters())
    batch = blocks(64).__getitems__(range(8))
    model.train()
    kept = memory_check._kept_by(model, lambda: cross_entropy(model, batch, 100)["loss"], CPU, False)
    assert kept == pytest.approx(8 * one.sequence, rel=0.15)
    assert 1.8 < measure_step(model, cross_entropy, blocks(128), CPU).sequence / one.sequence < 3
    for parameter in model.model.layers.parameters():
        parameter.requires_grad_(False)
    assert measure_step(model, cross_entropy, blocks(64), CPU).state < one.state
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    measure_step(model, cross_entropy, blocks(64), CPU)
    assert torch.equal(torch.rand(1), expected)


def test_checkpointing_needs_less(run):
    model, blocks = run
    plain = measure_step(model, cross_entropy, blocks(64), CPU).sequence
    switch_checkpointing_on(model)
    assert measure_step(model, cross_entropy, blocks(64), CPU).sequence < plain


def test_the_largest_batch_that_fits_fits():
    step = StepMemory(1000, 70)
    for free in range(0, 5000, 37):
        fits = step.largest(free)
        assert fits == 0 or step.needed(fits) <= free
        assert step.needed(fits + 1) > free - MARGIN


def test_a_batch_beyond_the_memory_is_refused_with_advice(tmp_path, tiny_llama, corpus_file, monkeypatch):
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 1_500_000)
    with pytest.raises(ConfigError, match=r"training.batch_size=\d+ would fit .*gradient_checkpointing=true") as told:
        finetuned(tiny_llama, corpus_file, tmp_path / "out", {"batch_size": 64})
    fits = int(str(told.value).split("batch_size=")[1].split()[0])
    finetuned(tiny_llama, corpus_file, tmp_path / "out", {"batch_size": fits}, rows_share=1.0)
    monkeypatch.setattr(memory_check, "free_bytes", lambda _: 1000)
    with pytest.raises(ConfigError, match="not even one sequence fits"):
        finetuned(tiny_llama, corpus_file, tmp_path / "b")


def test_a_container_has_a_limit_of_its_own(tmp_path):
    assert memory_check._group_bytes(tmp_path) == []
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory_check._group_bytes(tmp_path) == [500]
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_check._group_bytes(tmp_path) == []
    assert memory_check.free_bytes(CPU) > 0


def test_too_little_text_for_the_steps(tmp_path, tiny_llama, corpus_file):
    with pytest.raises(CorpusError, match=r"has [\d,]+ tokens and the steps take 76,800: 13\.\d epochs"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", {"steps": 600, "max_epochs": 3})
