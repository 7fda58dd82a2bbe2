from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from tests.alignment.toy import SINGLE_BYTES, WORDS, make_texts, make_vocabulary, word_vocabulary
from vocabalign.alignment import embed_stage
from vocabalign.alignment.align_stage import align_vocabularies, run
from vocabalign.errors import ArtifactError, ConfigError, CorpusError, TooFewAnchorsError
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.manifests import read_manifest
from vocabalign.stages import AlignConfig, EmbedConfig, EmbeddingOptions

SMALL = EmbeddingOptions(dimensions=12, epochs=3)
METHODS = ["auto", "tokalign", "tokalign++"]


def make_config(**options):
    places = {"source": "-", "target": "-", "corpus": [], "out": "-"}
    return AlignConfig(**{**places, "embeddings": SMALL, "device": "cpu", **options})


def align(source, target, texts=None, **options):
    return align_vocabularies(source, target, make_texts() if texts is None else texts, make_config(**options))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_tokenizer_gives_the_identity(method):
    vocabulary = word_vocabulary()
    lexicon = align(vocabulary, vocabulary, method=method).lexicon
    assert lexicon.source_ids[:, 0].tolist() == list(range(len(vocabulary)))
    assert (lexicon.source_ids[:, 1:] == -1).all() and (lexicon.weights[:, 0] == 1).all()
    assert lexicon.evidence_counts()["identical"] == len(vocabulary) - 1 and lexicon.evidence[0] == Evidence.ROLE


def test_a_permuted_vocabulary_gives_the_permuted_lexicon():
    source, target = word_vocabulary(), word_vocabulary(order_seed=4)
    result = align(source, target)
    expected = [source.token_bytes.index(token) for token in target.token_bytes]
    assert result.lexicon.source_ids[:, 0].tolist() == expected
    assert result.scores["bleu1_target_to_source"] == result.scores["bleu1_source_to_target"] == 1.0
    assert result.scores["running_token_shares"]["identical"] == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_weights_and_confidence_keep_their_promises_and_a_rerun_is_equal(method):
    source = word_vocabulary(words=WORDS[:36])
    target = word_vocabulary(order_seed=1, words=[*WORDS[10:], " never"])
    first, second = (align(source, target, method=method, seed=5) for _ in range(2))
    lexicon = first.lexicon
    has_evidence = lexicon.evidence != Evidence.NONE
    assert np.allclose(lexicon.weights.sum(axis=1), has_evidence)
    assert ((lexicon.source_ids >= 0) == (lexicon.weights > 0)).all()
    assert ((lexicon.confidence > 0) == has_evidence).all() and lexicon.confidence.max() <= 1
    for name in ("source_ids", "weights", "evidence", "confidence"):
        assert np.array_equal(getattr(lexicon, name), getattr(second.lexicon, name))
    never = target.ids_by_bytes()[b" never"]
    expected = Evidence.SEGMENTATION if method == "auto" else Evidence.NONE
    assert lexicon.evidence[never] == expected


def test_counting_finds_what_covers_a_token_in_running_text():
    source = make_vocabulary([*SINGLE_BYTES, *(word[:3].encode() for word in WORDS), *(w[3:].encode() for w in WORDS)])
    target = word_vocabulary()
    lexicon = align(source, target).lexicon
    token = target.ids_by_bytes()[WORDS[0].encode()]
    by_bytes = source.ids_by_bytes()
    assert lexicon.evidence[token] == Evidence.COOCCURRENCE
    assert set(lexicon.source_ids[token, :2]) == {by_bytes[WORDS[0][:3].encode()], by_bytes[WORDS[0][3:].encode()]}


def test_few_shared_tokens_lower_the_dimension_or_leave_the_map_out(caplog):
    source, target = word_vocabulary(), word_vocabulary(order_seed=1)
    with caplog.at_level(logging.WARNING, "vocabalign"):
        result = align(source, target, embeddings=EmbeddingOptions(dimensions=300, epochs=1))
    assert result.scores["dimensions"] == result.scores["anchors"] // 2 and "instead of 300" in caplog.text
    upper = make_vocabulary([None, b".", *(word.upper().encode() for word in WORDS), *SINGLE_BYTES])
    texts = [*make_texts(20), *(text.upper() for text in make_texts(20))]
    lower = make_vocabulary([None, b".", b" ", *(word.encode() for word in WORDS)])
    with caplog.at_level(logging.WARNING, "vocabalign"):
        result = align(lower, upper, texts)
    assert result.mapping is None and "spans and segmentation alone" in caplog.text
    with pytest.raises(TooFewAnchorsError, match="method auto"):
        align(lower, upper, texts, method="tokalign++")


def test_texts_that_end_are_refused():
    vocabulary = word_vocabulary()
    with pytest.raises(ConfigError, match="anew each time"):
        align(vocabulary, vocabulary, iter(make_texts()))
    with pytest.raises(CorpusError):
        align(vocabulary, vocabulary, [])
    again = align(vocabulary, vocabulary, lambda: iter(make_texts()))
    assert again.scores == align(vocabulary, vocabulary).scores


def test_the_stage_writes_a_whole_artefact(tmp_path, byte_level_folder, metaspace_folder, corpus_file):
    common = {"corpus": [str(corpus_file)], "device": "cpu", "embeddings": SMALL}
    embeddings = {}
    for side, folder in (("source", byte_level_folder), ("target", metaspace_folder)):
        out = tmp_path / f"{side}-embeddings"
        embeddings[f"{side}_embeddings"] = embed_stage.run(EmbedConfig(tokenizer=str(folder), out=out, **common))
    names = {"source": str(byte_level_folder), "target": str(metaspace_folder)}
    out = run(AlignConfig(**names, **common, out=tmp_path / "lexicon", top_k=4))
    given = run(AlignConfig(**names, **common, **embeddings, out=tmp_path / "given", top_k=4))
    for name in ("lexicon.tsv", "map.json"):
        assert (out / name).read_bytes() == (given / name).read_bytes()
    lexicon, again = Lexicon.load(out), Lexicon.load(given)
    assert np.array_equal(lexicon.weights, again.weights) and np.array_equal(lexicon.confidence, again.confidence)

    metrics = read_manifest(out)["metrics"]
    assert metrics["evidence_counts"] == lexicon.evidence_counts()
    # Only <unk> has no counterpart.
    assert np.flatnonzero(lexicon.evidence == Evidence.NONE).tolist() == [0]
    assert metrics["bleu1_target_to_source"] > 0.5 and metrics["anchors"] >= 16 and metrics["mapping_objectives"]
    points = json.loads((out / "map.json").read_text(encoding="utf-8"))["points"]
    assert 0 < len(points) <= 400 and all(len(point["after"]) == len(point["before"]) == 2 for point in points)
    lines = (out / "lexicon.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == lexicon.num_targets + 1 and all(line.count("\t") == 4 for line in lines)

    swapped = {"source_embeddings": embeddings["target_embeddings"]}
    with pytest.raises(ArtifactError, match="another tokenizer"):
        run(AlignConfig(**names, **common, **swapped, out=tmp_path / "wrong"))
    assert not (tmp_path / "wrong").exists() and not list(tmp_path.glob(".wrong.partial*"))


def test_real_tokenizers_share_most_running_tokens(tmp_path, material):
    from vocabalign.text.corpus import read_texts
    from vocabalign.text.tokenizers import load_vocabulary

    source, target = (load_vocabulary(material / "models" / name) for name in ("stories260K-hf", "stories3M-hf"))
    texts = list(read_texts([material / "corpora" / "tinystories" / "train.jsonl"]))[:250]
    result = align(source, target, texts, embeddings=EmbeddingOptions(dimensions=64, epochs=3))
    shares, lexicon = result.scores["running_token_shares"], result.lexicon
    assert shares["identical"] > 0.4 and shares["none"] == 0
    assert result.scores["evidence_counts"]["none"] <= 1
    assert 0.3 < result.scores["bleu1_target_to_source"] <= 1
    assert result.scores["hub_share_top3"] <= 0.03
    # The mixture is as good as any kind of evidence alone, on documents that it has not seen.
    weighed = result.scores["weighing"]["all"]
    assert weighed["tokens"] > 1_000 and weighed["bits"] < min(weighed["bits_alone"].values()) + 0.02
    # Every identical token really stands for the same bytes.
    for token in np.flatnonzero(lexicon.evidence == Evidence.IDENTICAL):
        assert source.token_bytes[lexicon.source_ids[token, 0]] == target.token_bytes[token]


def test_vectors_of_ones_own_are_taken_with_counts_from_the_text(tmp_path):
    from vocabalign.alignment.embeddings import learn_token_embeddings
    from vocabalign.alignment.vector_files import write_vectors

    source, target = word_vocabulary(words=WORDS[:40]), word_vocabulary(order_seed=1, words=WORDS[8:])
    files = {}
    for side, vocabulary in (("source_embeddings", source), ("target_embeddings", target)):
        files[side] = tmp_path / f"{side}.vec"
        write_vectors(files[side], learn_token_embeddings(vocabulary, make_texts(), SMALL, 0))
    learned, given = align(source, target, seed=0), align(source, target, seed=0, **files)
    for name in ("source_ids", "weights", "confidence"):
        assert np.array_equal(getattr(learned.lexicon, name), getattr(given.lexicon, name))
    assert np.array_equal(given.target_embeddings.counts, learned.target_embeddings.counts)
    shorter = {**files, "target_embeddings": tmp_path / "short.vec"}
    write_vectors(
        shorter["target_embeddings"],
        learn_token_embeddings(target, make_texts(), SMALL.model_copy(update={"dimensions": 5}), 0),
    )
    with pytest.raises(ConfigError, match="12 dimensions and the target's 5"):
        align(source, target, **shorter)


def test_a_tiny_text_names_what_it_lacks(caplog):
    with caplog.at_level(logging.WARNING, "vocabalign"):
        align(word_vocabulary(), word_vocabulary(order_seed=1), make_texts(1))
    assert "The text does not hold" in caplog.text and "they have no vector" in caplog.text


def test_text_that_neither_side_gives_back_is_refused():
    vocabulary = make_vocabulary([b"a", b"b"])
    with pytest.raises(CorpusError, match="nothing that both tokenizers give back .9 bytes"):
        align(vocabulary, vocabulary, ["cccdddeee"])
