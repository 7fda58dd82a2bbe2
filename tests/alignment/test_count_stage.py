from __future__ import annotations

import json

import numpy as np
import pytest

from vocabalign.alignment import align_stage, embed_stage
from vocabalign.alignment.count_stage import run
from vocabalign.alignment.counts import VocabularyCounts
from vocabalign.cli import run as command
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.manifests import read_manifest
from vocabalign.stages import AlignConfig, CountConfig, EmbedConfig, EmbeddingOptions


@pytest.fixture
def names(byte_level_folder, metaspace_folder, tmp_path, texts):
    corpus = tmp_path / "text"
    corpus.mkdir()
    for number in range(3):
        lines = [json.dumps({"text": text}) for text in texts[number::3] for _ in range(3 * number + 1)]
        (corpus / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    return {"source": str(byte_level_folder), "target": str(metaspace_folder), "corpus": [str(corpus)]}


def test_shards_added_on_the_command_line_are_one_run(names, tmp_path, capsys):
    common = ["--source", names["source"], "--target", names["target"], "--corpus", names["corpus"][0], "--quiet"]
    assert command(["count", *common, "--out", str(tmp_path / "whole")]) == 0
    parts = [str(tmp_path / f"part{number}") for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        assert command(["count", *common, "--shard", f"{number}/3", "--out", part]) == 0
    assert command(["count", "--merge", *parts, "--out", str(tmp_path / "sum"), "--quiet"]) == 0, (
        capsys.readouterr().err
    )
    whole, added = (tmp_path / name / "counts.safetensors" for name in ("whole", "sum"))
    assert whole.read_bytes() == added.read_bytes()
    assert read_manifest(tmp_path / "whole")["metrics"] == read_manifest(tmp_path / "sum")["metrics"]
    assert read_manifest(tmp_path / "whole")["metrics"]["target_tokens"] > 100
    assert command(["count", *parts, "--out", str(tmp_path / "x")]) == 2


def test_a_sum_with_a_gap_is_made_and_told(names, tmp_path, caplog):
    parts = [run(CountConfig(**names, shard=f"{number}/3", out=tmp_path / f"p{number}")) for number in (1, 3)]
    out = run(CountConfig(merge=parts, out=tmp_path / "sum"))
    assert "missing from the sum: 2/3" in caplog.text
    assert read_manifest(out)["metrics"]["missing_shards"] == ["2/3"]


@pytest.mark.parametrize("method", ["glove", "ppmi"])
def test_align_and_embed_from_counts_are_those_from_text(names, tmp_path, method):
    counts = run(CountConfig(**names, window=6, out=tmp_path / "counts"))
    options = EmbeddingOptions(method=method, dimensions=12, window=6, epochs=4)
    common = {"embeddings": options, "device": "cpu", "seed": 3}
    made = [
        align_stage.run(AlignConfig(**names, **common, **given, out=tmp_path / name))
        for name, given in (("from-text", {}), ("from-counts", {"counts": counts}))
    ]
    for name in ("lexicon.tsv", "lexicon.safetensors", "map.json"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes()
    single = {"tokenizer": names["target"], "corpus": names["corpus"]}
    made = [
        embed_stage.run(EmbedConfig(**single, **common, **given, out=tmp_path / name))
        for name, given in (("e-text", {}), ("e-counts", {"counts": counts}))
    ]
    assert (made[0] / "embeddings.safetensors").read_bytes() == (made[1] / "embeddings.safetensors").read_bytes()


def test_counts_of_other_tokenizers_are_refused(names, tmp_path):
    counts = run(CountConfig(**names, out=tmp_path / "counts"))
    swapped = {"source": names["target"], "target": names["source"], "corpus": names["corpus"]}
    with pytest.raises(ArtifactError, match="other tokenizers"):
        align_stage.run(AlignConfig(**swapped, counts=counts, out=tmp_path / "x"))
    same = run(CountConfig(**{**names, "target": names["source"]}, window=0, out=tmp_path / "same"))
    with pytest.raises(ArtifactError, match="Neither tokenizer"):
        embed_stage.run(EmbedConfig(tokenizer=names["target"], corpus=names["corpus"], counts=same, out=tmp_path / "x"))
    with pytest.raises(ArtifactError, match="no neighbours"):
        embed_stage.run(EmbedConfig(tokenizer=names["source"], corpus=names["corpus"], counts=same, out=tmp_path / "x"))


def test_what_does_not_go_together_is_told(names, tmp_path):
    out = {"out": tmp_path / "x"}
    with pytest.raises(ConfigError, match="needs --source"):
        run(CountConfig(**out))
    with pytest.raises(ConfigError, match="takes nothing else"):
        run(CountConfig(**names, merge=[tmp_path], **out))
    with pytest.raises(ConfigError, match="such as 2/8"):
        run(CountConfig(**names, shard="9/8", **out))
    with pytest.raises(ConfigError, match="least"):
        run(CountConfig(**names, shard="1/8", least=2, **out))


def test_rare_pairs_go_when_the_parts_are_added(names, tmp_path):
    parts = [run(CountConfig(**names, shard=f"{number}/2", out=tmp_path / f"p{number}")) for number in (1, 2)]
    added = VocabularyCounts.load(run(CountConfig(merge=parts, least=1.5, out=tmp_path / "sum")))
    whole = VocabularyCounts.load(run(CountConfig(**names, least=1.5, out=tmp_path / "whole")))
    assert (added.target.following != whole.target.following).nnz == 0
    assert np.array_equal(added.covers.overlap.data, whole.covers.overlap.data) and added.least == 1.5
