"""Text that a model writes: from its own distribution, the same with the same seed, and read back."""

from dataclasses import replace

import pytest
import torch

from vocabalign.models import load_model
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.head import read_head
from vocabalign.train.writing import text_of, write_tokens


@pytest.fixture(scope="module")
def model(tiny_llama):
    return load_model(tiny_llama, dtype=torch.float32, device=torch.device("cpu"))


def written(model, prompts, count, seed=0, temperature=1.0, num_tokens=400, ends=()):
    generator = torch.Generator().manual_seed(seed)
    return write_tokens(
        model, prompts, count, temperature=temperature, generator=generator, num_tokens=num_tokens, ends=ends
    )


def test_cold_text_is_the_likeliest_token_each_time(model):
    prompts = torch.tensor([[0, 50, 60], [0, 70, 80]])
    ids = written(model, prompts, 6, temperature=1e-4)
    for length in range(3, 9):
        with torch.no_grad():
            expected = model(ids[:, :length]).logits[:, -1].argmax(-1)
        assert torch.equal(ids[:, length], expected)
    assert torch.equal(ids, model.generate(prompts, max_new_tokens=6, do_sample=False, eos_token_id=None))


def test_rows_that_ended_leave_and_the_others_are_written_as_if_they_had_not(model):
    prompts = torch.tensor([[0, 10 * i, 7 * i] for i in range(1, 9)])
    free = written(model, prompts, 40, temperature=1e-4)
    ends = set(free[:, 6:].flatten().tolist()[::25])
    ids = written(model, prompts, 40, temperature=1e-4, ends=ends)
    lengths = []
    for row, whole in zip(ids.tolist(), free.tolist()):
        stop = next((i for i in range(3, len(whole)) if whole[i] in ends), len(whole) - 1)
        assert row[: stop + 1] == whole[: stop + 1]
        assert set(row[stop:]) == {whole[stop]}
        lengths.append(stop)
    assert len(set(lengths)) > 2 and min(lengths) < 20  # some left early, at several times


def test_another_head_writes_in_place_of_the_models_own(model):
    own = read_head(model)
    bias = torch.zeros(own.num_rows)
    bias[17] = 1e4
    ids = write_tokens(
        model, torch.zeros(2, 2, dtype=torch.int64), 5, temperature=1.0, generator=torch.Generator(), num_tokens=400,
        head=replace(own, bias=bias),
    )  # fmt: skip
    assert (ids[:, 2:] == 17).all()


def test_seeds_decide_and_rows_that_pad_are_never_drawn(model):
    prompts = torch.zeros(4, 2, dtype=torch.int64)
    assert torch.equal(written(model, prompts, 9), written(model, prompts, 9))
    assert not torch.equal(written(model, prompts, 9), written(model, prompts, 9, seed=1))
    assert int(written(model, prompts, 30, num_tokens=7)[:, 2:].max()) < 7
    model.train()
    written(model, prompts, 1)
    assert model.training
    model.eval()


def test_text_ends_where_a_document_does(tiny_llama, metaspace_folder):
    for folder in (tiny_llama, metaspace_folder):
        vocabulary = load_vocabulary(folder)
        ids = vocabulary.encode("The cat sat on the mat.")
        assert text_of(ids, vocabulary) == "The cat sat on the mat."
        assert text_of([*ids, vocabulary.roles["eos"], *ids], vocabulary) == "The cat sat on the mat."
        assert text_of([vocabulary.roles["eos"]], vocabulary) is None
