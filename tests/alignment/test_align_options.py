from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from vocabalign.alignment.align_options import anchor_limit, choices, embedding_options, match_options, view
from vocabalign.alignment.mapping_options import PRESETS
from vocabalign.cli.stage_commands import align
from vocabalign.errors import ConfigError
from vocabalign.stages import AlignConfig, EmbeddingOptions


def make_config(**options) -> AlignConfig:
    return AlignConfig(**{"source": "-", "target": "-", "corpus": [], "out": "-", "device": "cpu", **options})


def test_the_papers_presets():
    tokalign, plus = (make_config(method=method) for method in ("tokalign", "tokalign++"))
    assert match_options(tokalign).space == "relative" and anchor_limit(tokalign) == 300
    options = match_options(plus)
    assert options.space == "mapped" and options.csls_neighbors == 10 and anchor_limit(plus) is None
    assert options.mapping == PRESETS["tokalign++"] and options.mapping.self_learning
    assert view(tokalign) == view(plus) == "one-best" and view(make_config()) == "top-k"


def test_every_choice_of_a_run_is_listed_and_can_be_written():
    config = make_config(method="tokalign++", seed=3, mapping_options={"reweight": 1.0})
    listed = choices(config, match_options(config))
    assert listed["mapping"]["reweight"] == 1.0 and listed["mapping"]["seed"] == 3
    assert set(listed["mapping"]) == set(PRESETS["auto"].as_dict())
    assert "CSLS, k = 10" in listed["similarity"] and listed["view"] == "one-best"
    assert json.loads(json.dumps(listed)) == listed
    config = make_config(method="tokalign")
    assert choices(config, match_options(config))["similarity"] == "cosine"
    config = make_config(method="tokalign", mapping_options={"scale_relative": False})
    assert "public code" in choices(config, match_options(config))["similarity"]


def test_the_papers_take_glove_unless_told_otherwise():
    assert embedding_options(make_config()).method == EmbeddingOptions().method == "ppmi"
    for method in ("tokalign", "tokalign++"):
        options = embedding_options(make_config(method=method, embeddings={"dimensions": 50}))
        assert (options.method, options.x_max, options.dimensions) == ("glove", 10, 50)
        assert embedding_options(make_config(method=method, embeddings={"x_max": 100})).x_max == 100
        told = make_config(method=method, embeddings={"method": "cbow"})
        assert embedding_options(told).method == "cbow"
        assert choices(told, match_options(told))["embeddings"]["method"] == "cbow"


def test_spaces_that_are_one_already_and_cosine():
    options = match_options(make_config(mapping="none", csls_neighbors=0))
    assert options.space == "given" and not options.needs_anchors
    listed = choices(make_config(mapping="none", csls_neighbors=0), options)
    assert listed["similarity"] == "cosine" and "mapping" not in listed


def test_what_is_left_out_is_as_the_preset_has_it():
    assert match_options(make_config(mapping="muse")).mapping == PRESETS["muse"]
    assert not match_options(make_config()).mapping.self_learning
    assert match_options(make_config(self_learning=True)).mapping.self_learning
    changed = match_options(make_config(mapping="muse", mapping_options={"max_iterations": 2, "centre": True})).mapping
    assert (changed.max_iterations, changed.centre, changed.method) == (2, True, "muse")
    search = match_options(make_config(search_backend="faiss", search_precision="bfloat16", block_mebibytes=9)).search
    assert (search.backend, search.precision, search.block_mebibytes) == ("faiss", "bfloat16", 9)


@pytest.mark.parametrize(
    "options", [{"mapping": m} for m in ("procrustes", "relative", "none")] + [{"self_learning": False}]
)
def test_an_unsupervised_start_must_be_able_to_go_on(options):
    with pytest.raises(ConfigError, match="needs the mapping vecmap with self_learning, or muse"):
        match_options(make_config(start="unsupervised", **options))


@pytest.mark.parametrize("mapping", [None, "vecmap", "muse"])
def test_an_unsupervised_start_keeps_no_seeds_and_needs_no_anchors(mapping):
    options = match_options(make_config(start="unsupervised", mapping=mapping))
    assert not options.needs_anchors and not options.mapping.keep_seeds


def test_the_command_line_passes_the_choices_on(monkeypatch):
    seen = {}
    monkeypatch.setattr("vocabalign.cli.stage_commands.run_stage", lambda stage, options: seen.update(options))
    arguments = ["--mapping", "muse", "--start", "unsupervised", "--no-self-learning", "--view", "one-to-one"]
    result = CliRunner().invoke(align, [*arguments, "--anchors", "strings"], obj={"debug": False, "quiet": False})
    assert result.exit_code == 0, result.output
    expected = {"mapping": "muse", "start": "unsupervised", "self_learning": False, "view": "one-to-one"}
    assert {key: seen[key] for key in expected} == expected and seen["anchors"] == "strings"
