"""Alignment scores of lexicons whose worth is known."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from vocabalign.alignment.scores import bleu1_both_ways, one_best
from vocabalign.errors import ArtifactError
from vocabalign.evaluation.alignment import carry_over, score_alignment
from vocabalign.evaluation.options import Place, Text
from vocabalign.lexicon import Lexicon
from vocabalign.manifests import write_json
from vocabalign.text.tokenizers import load_vocabulary

PLACE = Place(torch.device("cpu"), torch.float32)


def identity(vocabulary) -> Lexicon:
    size = len(vocabulary)
    return Lexicon(
        np.arange(size, dtype=np.int32)[:, None],
        np.ones((size, 1), np.float32),
        np.ones(size, np.uint8),
        np.ones(size, np.float32),
        vocabulary.fingerprint,
        vocabulary.fingerprint,
    )


def save(lexicon: Lexicon, folder, **config: str):
    folder.mkdir()
    lexicon.save(folder)
    write_json(folder / "manifest.json", {"stage": "align", "config": config})
    return folder


@pytest.fixture
def vocabulary(tiny_llama):
    return load_vocabulary(tiny_llama)


@pytest.fixture
def encoder(tmp_path, tiny_llama):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_llama, folder)
    return str(folder)


def test_a_vocabulary_and_itself(tmp_path, vocabulary, texts, encoder):
    folder = save(identity(vocabulary), tmp_path / "lexicon")
    labels = {"domain": ["a", "b"] * 4, "language": [None] * 8}
    record = score_alignment(folder, [vocabulary], Text(texts, labels), encoder, PLACE)
    for direction in ("target_to_source", "source_to_target"):
        assert record[f"bleu1_{direction}"] == 1
        assert record[f"bleu1_{direction}_domain_mean"] == 1
        assert record[f"semantic_similarity_{direction}"] == pytest.approx(1)
    assert set(record["domains"]) == {"a", "b"}


def test_shuffled_tokens_are_worth_less_to_both_measures(tmp_path, vocabulary, texts, encoder):
    good = identity(vocabulary)
    shuffled = np.random.default_rng(0).permutation(len(vocabulary)).astype(np.int32)[:, None]
    folder = save(dataclasses.replace(good, source_ids=shuffled), tmp_path / "lexicon")
    record = score_alignment(folder, [vocabulary], Text(texts, {}), encoder, PLACE)
    assert record["bleu1_target_to_source"] < 0.6
    assert record["semantic_similarity_target_to_source"] < 0.99


def test_scores_are_those_of_the_library(tmp_path, byte_level_folder, metaspace_folder, texts):
    source, target = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    size = len(target)
    by_bytes = source.ids_by_bytes()
    ids = np.array([[by_bytes.get(token or b"?", -1)] for token in target.token_bytes], np.int32)
    weights = (ids >= 0).astype(np.float32)
    lexicon = Lexicon(ids, weights, np.ones(size, np.uint8), weights[:, 0], source.fingerprint, target.fingerprint)
    paths = {"source": str(byte_level_folder), "target": str(metaspace_folder)}
    record = score_alignment(save(lexicon, tmp_path / "lexicon", **paths), [], Text(texts, {}), None, PLACE)
    assert record | bleu1_both_ways(lexicon, source, target, texts) == record
    assert 0 < record["bleu1_target_to_source"] < 1


def test_identity_carries_text_over_unchanged(vocabulary, texts):
    table = one_best(identity(vocabulary))
    assert carry_over([vocabulary.encode(text) for text in texts], table, vocabulary) == texts
    assert carry_over([[5]], np.full(len(vocabulary), -1), vocabulary) == [""]


def test_another_tokenizer_than_the_lexicons_is_told(tmp_path, vocabulary, metaspace_folder, texts):
    lexicon = identity(vocabulary)
    paths = {"source": str(metaspace_folder), "target": str(metaspace_folder)}
    with pytest.raises(ArtifactError, match="not the source tokenizer"):
        score_alignment(save(lexicon, tmp_path / "a", **paths), [], Text(texts, {}), None, PLACE)
    with pytest.raises(ArtifactError, match="does not say which source tokenizer"):
        score_alignment(save(lexicon, tmp_path / "b"), [], Text(texts, {}), None, PLACE)
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        score_alignment(save(lexicon, tmp_path / "c", source="/nowhere"), [], Text(texts, {}), None, PLACE)
