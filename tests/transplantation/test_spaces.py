"""What some ways of making rows need, from files."""

import pytest

from tests.conftest import make_llama, make_metaspace_tokenizer
from tests.transplantation.builders import build
from vocabalign.config import make_config
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.manifests import read_manifest
from vocabalign.stages import EmbedConfig, TransplantConfig
from vocabalign.transplantation.transplant_stage import run


@pytest.fixture(scope="module")
def given(tmp_path_factory, corpus_file) -> dict[str, str]:
    """A source, a target with its owner, and token embeddings of both tokenizers."""
    from vocabalign.alignment.embed_stage import run as embed

    folder = tmp_path_factory.mktemp("spaces")
    source = build("llama", folder / "source")
    owner = make_llama(make_metaspace_tokenizer(folder / "owner"), 480, seed=3, hidden_size=48)
    names = {"source": str(source), "target": str(owner), "target_model": str(owner)}
    for side in ("source", "target"):
        values = {"tokenizer": names[side], "corpus": [str(corpus_file)], "embeddings": {"dimensions": 8, "epochs": 1}}
        names[f"{side}_embeddings"] = str(embed(make_config(EmbedConfig, {**values, "out": folder / f"{side}-v"})))
    return names


@pytest.mark.parametrize("method", ["focus", "wechsel", "omp", "nearest", "barycentric", "landmark", "normal", "zero"])
def test_every_way_gives_a_model_that_verifies(tmp_path, given, method):
    values = {**given, "input_rows": method, "head_rows": method, "out": tmp_path / "out"}
    metrics = read_manifest(run(make_config(TransplantConfig, values)))["metrics"]
    assert metrics["input_rows"] == metrics["head_rows"] == method and not metrics["head_calibrated"]
    assert metrics["classes"]["similarity"] + metrics["classes"]["drawn"] > 50


def test_the_two_sides_may_differ(tmp_path, given, corpus_file):
    values = {**given, "input_rows": "omp", "head_rows": "first", "corpus": [str(corpus_file)], "out": tmp_path / "out"}
    metrics = read_manifest(run(make_config(TransplantConfig, values)))["metrics"]
    assert (metrics["input_rows"], metrics["head_rows"], metrics["head_calibrated"]) == ("omp", "first", True)


def test_a_tied_source_gets_one_row_for_both_uses_from_the_owners_embedding(tmp_path, given):
    import torch

    from vocabalign.text.tokenizers import load_vocabulary
    from vocabalign.transplantation.checkpoint import open_checkpoint
    from vocabalign.transplantation.spaces import open_spaces

    values = {**given, "source": str(build("llama-tied", tmp_path / "tied")), "input_rows": "omp", "head_rows": "omp"}
    del values["source_embeddings"]
    config = make_config(TransplantConfig, {**values, "out": tmp_path / "out"})
    owner = open_checkpoint(given["target_model"])
    spaces = open_spaces(config, load_vocabulary(given["target"]))
    assert spaces.owner is not None and owner.head is not None
    assert all(torch.equal(spaces.owner(side), owner.read(owner.embedding)) for side in ("input", "head"))
    assert not torch.equal(owner.read(owner.embedding), owner.read(owner.head))
    run(config)
    read = open_checkpoint(tmp_path / "out")
    assert read.tied


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"input_rows": "omp", "target_model": None}, ConfigError, "need --target-model"),
        ({"head_rows": "wechsel", "source_embeddings": None}, ConfigError, "need --source-embeddings"),
        ({"input_rows": "lexicon"}, ConfigError, "need --lexicon"),
        ({"input_rows": "omp", "target_model": "SOURCE"}, ConfigError, "another vocabulary"),
        ({"input_rows": "focus", "target_embeddings": "SOURCE_VECTORS"}, ArtifactError, "another tokenizer"),
    ],
)
def test_what_is_missing_or_wrong_is_told_and_nothing_written(tmp_path, given, changes, error, said):
    places = {"SOURCE": given["source"], "SOURCE_VECTORS": given["source_embeddings"]}
    values = {**given, **{key: places.get(value, value) for key, value in changes.items()}, "out": tmp_path / "out"}
    with pytest.raises(error, match=said):
        run(make_config(TransplantConfig, values))
    assert not list(tmp_path.iterdir())
