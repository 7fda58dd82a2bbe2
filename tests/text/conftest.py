"""Texts that are hard to line up."""

import json

import pytest

from vocabalign.text.tokenizers import load_vocabulary


@pytest.fixture
def russian_and_repetition(material):
    """Two vocabularies and texts of which NeMo-RL's aligner gets 4 % right, and takes a minute for the last."""
    path = material / "corpora/tinystories-ru/heldout.jsonl"
    russian = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()[:20]]
    vocabularies = [load_vocabulary(material / "tokenizers" / name) for name in ("gpt2", "llama2")]
    return vocabularies, [*russian, "the same words again and " * 2000]
