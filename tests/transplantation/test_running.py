import numpy as np
import pytest
import torch

from tests.conftest import TEXT as LINES
from tests.transplantation.builders import build, target_tokenizer
from vocabalign.models import load_model
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.running import Body, _windows, cut_documents

CPU = torch.device("cpu")
TEXT = " ".join(LINES)


@pytest.mark.parametrize("kind", ["metaspace", "byte-level"])
def test_documents_end_together_at_the_same_bytes(tmp_path, kind):
    source = load_vocabulary(build("llama", tmp_path / "m"))
    target = load_vocabulary(target_tokenizer(kind, tmp_path / "t"))
    (document,) = cut_documents(source, target, [TEXT], 400)
    assert len(document.source_ends) > 10 and document.num_bytes == len(TEXT.encode())
    for of_source, of_target in zip(document.source_ends, document.target_ends):
        read = [
            b"".join(voc.token_bytes[i] for i in ids[1 : end + 1])
            for voc, ids, end in ((source, document.source, of_source), (target, document.target, of_target))
        ]
        assert read[0].lstrip(b" ") == read[1].lstrip(b" ")
    assert cut_documents(source, target, [TEXT], 3) == []


def test_the_same_tokenizer_cuts_one_to_one(tmp_path):
    source = load_vocabulary(build("llama", tmp_path / "m"))
    target = load_vocabulary(target_tokenizer("metaspace", tmp_path / "t"))
    assert all(d.one_to_one for d in cut_documents(source, source, [TEXT, TEXT[:50]], 400))
    assert not any(d.one_to_one for d in cut_documents(source, target, [TEXT], 400))


@pytest.mark.parametrize("length", [1, 5, 8, 9, 12, 100])
def test_windows_read_every_token_once_and_with_half_a_window_before_it(length):
    read = [place for begin, first, end in _windows(length, 8) for place in range(first, end)]
    assert read == list(range(length))
    assert all(end - begin <= 8 and (begin == 0 or first - begin == 4) for begin, first, end in _windows(length, 8))


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "gpt_neox", "gemma2", "phi"])
def test_states_are_those_that_give_the_models_logits(tmp_path, name):
    folder = build(name, tmp_path / "m")
    model = load_model(folder, dtype=torch.float32, device=CPU)
    documents = [np.array([0, 5, 9, 77]), np.array([3, 1]), np.arange(20)]
    for rows in (None, torch.randn(400, 32)):
        body = Body(folder, dtype=torch.float32, device=CPU)
        states = body.read(documents, rows)
        body_embedding = body.model.get_input_embeddings().weight
        assert torch.equal(body_embedding, model.get_input_embeddings().weight)  # back in place
        old = model.get_input_embeddings().weight.data.clone()
        head = model.get_output_embeddings().weight.data.clone()
        if rows is not None:
            model.get_input_embeddings().weight = torch.nn.Parameter(rows)
        for ids, found in zip(documents, states, strict=True):
            hidden = model(input_ids=torch.tensor([ids.tolist()]), output_hidden_states=True).hidden_states
            torch.testing.assert_close(found.final, hidden[-1][0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.entry, hidden[0][0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.middle, hidden[1][0], rtol=1e-4, atol=1e-5)
        model.get_input_embeddings().weight = torch.nn.Parameter(old)
        assert torch.equal(head, model.get_output_embeddings().weight)
