from __future__ import annotations

import pytest

from tests.alignment.toy import make_texts
from vocabalign.alignment.embed_stage import run
from vocabalign.errors import ArtifactError
from vocabalign.manifests import read_manifest
from vocabalign.stages import EmbedConfig, EmbeddingOptions
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.token_embeddings import load_embeddings


def test_the_artefact_is_read_back_for_its_own_tokenizer_only(
    tmp_path, byte_level_folder, metaspace_folder, corpus_file
):
    options = EmbeddingOptions(method="skip-gram", dimensions=8, epochs=1)
    config = EmbedConfig(
        tokenizer=str(byte_level_folder),
        corpus=[str(corpus_file)],
        embeddings=options,
        out=tmp_path / "e",
        device="cpu",
    )
    folder = run(config)
    vocabulary = load_vocabulary(byte_level_folder)
    embeddings = load_embeddings(folder, vocabulary)
    assert embeddings.vectors.shape == (len(vocabulary), 8)
    metrics = read_manifest(folder)["metrics"]
    assert metrics["tokens"] == embeddings.counts.sum() > 0
    assert metrics["covered_share"] == pytest.approx(embeddings.covered.mean())
    with pytest.raises(ArtifactError, match="made with another tokenizer"):
        load_embeddings(folder, load_vocabulary(metaspace_folder))
    with pytest.raises(ArtifactError, match="exists already"):
        run(config)


def test_temporary_files_lie_beside_the_artefact_and_go(tmp_path, byte_level_folder, monkeypatch):
    from vocabalign.alignment import embed_stage

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(make_texts(20)))
    stale = tmp_path / ".out.work" / "vocabalign-killed"
    stale.mkdir(parents=True)
    seen = []

    def learn(vocabulary, texts, options, seed, folder=None, cooccurrence=None):
        seen.append(folder)
        assert folder.is_dir() and not stale.exists()
        raise RuntimeError("stopped")

    monkeypatch.setattr(embed_stage, "learn_token_embeddings", learn)
    with pytest.raises(RuntimeError, match="stopped"):
        embed_stage.run(EmbedConfig(tokenizer=str(byte_level_folder), corpus=[str(corpus)], out=tmp_path / "out"))
    assert [path.parent for path in seen] == [tmp_path]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]
