"""Self-distillation across tokenizers: which places are matched, and that the successor comes nearer."""

import json

import numpy as np
import pytest
import torch

from tests.conftest import TEXT, make_llama, make_metaspace_tokenizer
from vocabalign.errors import ModelError
from vocabalign.stages import FinetuneConfig, TrainingOptions
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import finetune
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.self_distillation import SourceSide


@pytest.mark.parametrize("turned", [False, True])
def test_pairs_have_read_the_same_bytes(tmp_path, byte_level_folder, metaspace_folder, turned):
    a, b = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    a, b = (b, a) if turned else (a, b)
    mine, theirs = tokenize(TEXT, a, tmp_path, "a"), tokenize(TEXT, b, tmp_path, "b")
    blocks = Blocks(mine, 24, 0, extend=SourceSide(mine, a, theirs, b, 24, 16))
    found = 0
    for number in range(0, blocks.blocks_per_epoch, 2):
        batch = blocks.__getitems__([number, number + 1])
        assert batch["source_positions"].max() < 16
        for place, source_place in batch["pairs"].tolist():
            row, column = divmod(place, 24)
            source_row, source_column = divmod(source_place, batch["source_ids"].shape[1])
            assert row == source_row
            first = column - int(batch["position_ids"][row, column])
            source_first = source_column - int(batch["source_positions"][row, source_column])
            text = b"".join(a.token_bytes[i] or b"" for i in batch["input_ids"][row, first : column + 1].tolist())
            ids = batch["source_ids"][row, source_first : source_column + 1].tolist()
            source_text = b"".join(b.token_bytes[i] or b"" for i in ids)
            assert text.endswith(source_text) or source_text.strip() == text.strip()
            found += 1
    assert found > 50


def test_the_successor_comes_nearer_to_its_source(tmp_path, tiny_llama, corpus_file):
    model = tmp_path / "model"
    make_metaspace_tokenizer(model)
    make_llama(model, len(load_vocabulary(model)))
    config = FinetuneConfig(
        model=str(model),
        source=str(tiny_llama),
        corpus=[str(corpus_file)],
        out=tmp_path / "out",
        rows_learning_rate=1e-2,
        training=TrainingOptions(steps=20, batch_size=4, context=32),
        learning_rate=1e-2,
    )
    finetune.run(config)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["hidden_distance"] < 0.8 * lines[0]["hidden_distance"]
    assert lines[-1]["cross_entropy"] < lines[0]["cross_entropy"]


def test_another_body_is_refused(tmp_path, tiny_llama, byte_level_folder, corpus_file):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(byte_level_folder, other)
    make_llama(other, 400, hidden_size=48)
    with pytest.raises(ModelError, match="hidden_size"):
        finetune.run(
            FinetuneConfig(model=str(tiny_llama), source=str(other), corpus=[str(corpus_file)], out=tmp_path / "out")
        )


def test_the_same_tokenizer_matches_every_place(tmp_path, byte_level_folder):
    vocabulary = load_vocabulary(byte_level_folder)
    documents = tokenize(TEXT, vocabulary, tmp_path, "a")
    side = SourceSide(documents, vocabulary, documents, vocabulary, 24, None)
    batch = Blocks(documents, 24, 0, extend=side).__getitems__([0, 1, 2])
    text = batch["input_ids"] != vocabulary.roles["bos"]
    assert len(batch["pairs"]) == int(text.sum())
    assert torch.equal(
        batch["source_ids"].flatten()[batch["pairs"][:, 1]], batch["input_ids"].flatten()[batch["pairs"][:, 0]]
    )
    assert np.all(np.diff(batch["pairs"][:, 0].numpy()) > 0)
