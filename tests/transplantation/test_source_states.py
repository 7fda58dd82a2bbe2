"""What the source model says on the text, and when it is not asked."""

import torch

from tests.conftest import make_metaspace_tokenizer
from tests.transplantation.builders import build
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation import source_states
from vocabalign.transplantation.calibration import count_corpus
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.source_states import find_fitter, find_source_states

CPU = torch.device("cpu")


def test_hidden_states_of_the_corpus_come_before_those_of_the_probes(tmp_path, texts):
    folder = build("llama", tmp_path / "m")
    source, checkpoint = load_vocabulary(folder), open_checkpoint(folder)
    target = load_vocabulary(make_metaspace_tokenizer(tmp_path / "t"))
    counts = count_corpus(source, target, texts)
    found = find_source_states(checkpoint, source, counts, CPU, torch.float32)
    assert len(found.text) < len(found.everything)
    assert torch.equal(found.everything[: len(found.text)], found.text)


def test_a_model_that_does_not_fit_is_not_run_and_that_is_told(tmp_path, texts, monkeypatch, caplog):
    folder = build("llama", tmp_path / "m")
    source = load_vocabulary(folder)
    monkeypatch.setattr(source_states, "_free_memory", lambda: 1.0)
    with caplog.at_level("WARNING", logger="vocabalign"):
        assert find_source_states(open_checkpoint(folder), source, None, CPU, torch.float32) is None
    assert "nothing is calibrated" in caplog.text


def test_there_is_nothing_to_fit_where_both_cut_alike(tmp_path, texts):
    folder = build("llama", tmp_path / "m")
    source = load_vocabulary(folder)
    counts = count_corpus(source, source, texts)
    assert find_fitter(open_checkpoint(folder), source, source, counts, CPU, torch.float32) is None
