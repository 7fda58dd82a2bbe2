import json

import numpy as np
import pytest
import torch

from tests.transplantation.builders import build, stories, target_tokenizer
from vocabalign.stages import TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.fitting import Fitter, Made, _gain
from vocabalign.transplantation.running import cut_documents
from vocabalign.transplantation.transplant_stage import run


def own_rows(folder):
    checkpoint = open_checkpoint(folder)
    embedding, head = checkpoint.read(checkpoint.embedding), checkpoint.read(checkpoint.head)

    def make(inputs, shift, heads):
        bias = None if shift is None else torch.from_numpy(shift)
        rows = head
        if heads is not None:
            rows, bias = heads.apply(head, bias)
        return Made(embedding if inputs is None else embedding + inputs, rows, bias)

    return make


def fitter(body, model, target=None):
    source = load_vocabulary(model)
    documents = cut_documents(source, target or source, stories(12), 400)
    return Fitter(body, documents[3:], documents[:3], 1.0)


def test_nothing_is_lacking_where_both_cut_and_embed_alike(body, model):
    wanted = np.ones(400, bool)
    corrections = fitter(body, model).input_corrections(own_rows(model), wanted)
    assert torch.equal(corrections, torch.zeros(400, 32))


def test_a_row_that_was_spoiled_is_found_again(body, model):
    """Most of what a row lacks comes back, its neighbours stay, and copies are never touched."""
    used = fitter(body, model).learned[0].target
    spoiled = int(np.bincount(used[1:]).argmax())
    make = own_rows(model)
    noise = torch.zeros(400, 32)
    noise[spoiled] = torch.randn(32, generator=torch.Generator().manual_seed(1)) * 0.5

    def make_spoiled(inputs, shift, heads):
        return make(noise if inputs is None else noise + inputs, shift, heads)

    wanted = np.arange(400) == spoiled
    corrections = fitter(body, model).input_corrections(make_spoiled, wanted)
    assert (corrections[spoiled] + noise[spoiled]).norm() < 0.6 * noise[spoiled].norm()
    assert not corrections[~torch.from_numpy(wanted)].any()


def test_after_the_shift_tokens_are_expected_about_as_often_as_used(body, model):
    fit, make = fitter(body, model), own_rows(model)
    shift = fit.expectation_shift(make(None, None, None))

    def distance(made):
        states, followers = fit._places(fit.learned, made)
        expected = fit._head(made).expect(states)
        return float((torch.bincount(followers, minlength=400) - expected).abs().sum())

    assert distance(make(None, shift, None)) < 0.75 * distance(make(None, None, None))


def test_what_does_not_help_is_not_kept(body, model):
    fit, make = fitter(body, model), own_rows(model)
    found = fit.fit(make, np.ones(400, bool))
    best = min(found.bits_per_byte.values())
    taken = make(found.inputs, found.shift, found.heads)
    assert fit.score(taken) == pytest.approx(best, abs=1e-4)
    assert found.inputs is None  # nothing was lacking
    assert fit.fit(make, np.zeros(400, bool), shifts=False).bits_per_byte.keys() == {"plain"}


def test_the_gain_before_the_first_block_is_found():
    embedding = torch.randn(20, 8)
    ids = [np.array([1, 2, 3]), np.array([4, 4])]
    assert _gain([embedding[row] * 3.5 for row in ids], embedding, ids) == pytest.approx(3.5)


@pytest.mark.parametrize("name", ["llama", "llama-tied", "phi"])
def test_fitted_transplants_verify_and_say_so(tmp_path, name):
    folder, target = build(name, tmp_path / "m"), target_tokenizer("metaspace", tmp_path / "t")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in stories(80)))
    values = {"source": str(folder), "target": str(target), "corpus": [str(corpus)]}
    out = run(TransplantConfig(**values, out=tmp_path / "out"))
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    scores = metrics["fitted"]["held_out_bits_per_byte"]
    assert scores["plain"] >= min(scores.values())
    assert metrics["fitted"]["inputs"] is (scores.get("inputs", 99) < scores["plain"])
    one_matrix = name == "llama-tied" and metrics["fitted"]["head_rows"] > 0
    assert (metrics["classes"]["fitted"] > 0) is (metrics["fitted"]["inputs"] or one_matrix)
    lowest = min(value for key, value in scores.items() if key != "heads")
    assert (metrics["fitted"]["head_rows"] > 0) is (scores.get("heads", 99) < lowest)
    assert (metrics["fitted"]["tying_cost_bits_per_byte"] is None) is (name != "llama-tied")
    unfitted = run(TransplantConfig(**values, fit_rows=False, out=tmp_path / "unfitted"))
    assert "fitted" not in json.loads((unfitted / "manifest.json").read_text())["metrics"]
