"""Row methods side by side."""

import json

import pytest

from vocabalign.cli import run
from vocabalign.compare import ROW_METHODS, compare_rows, format_comparison
from vocabalign.errors import ConfigError
from vocabalign.transplantation.row_plans import NEEDS


def test_every_method_is_scored_on_the_same_text_and_the_table_is_sorted(tiny_llama, metaspace_folder, corpus_file):
    methods = [name for name in ROW_METHODS if not NEEDS.get(name)]
    result = compare_rows(str(tiny_llama), str(metaspace_folder), [str(corpus_file)], [str(corpus_file)], methods="all")
    scores = [row["bits_per_byte"] for row in result["methods"]]
    assert {row["method"] for row in result["methods"]} == set(methods) and scores == sorted(scores)
    assert all(row["gap"] == pytest.approx(row["bits_per_byte"] - result["source"]) for row in result["methods"])
    assert all(row["method"] in format_comparison(result) for row in result["methods"])


def test_with_training_both_scores_are_told(tiny_llama, metaspace_folder, corpus_file, capsys):
    arguments = ["compare", "--source", tiny_llama, "--target", metaspace_folder, "--heldout", corpus_file]
    arguments += ["--corpus", corpus_file, "--methods", "mean", "--finetune-steps", "2", "--json"]
    assert run([str(argument) for argument in arguments]) == 0
    names = {row["method"] for row in json.loads(capsys.readouterr().out)["methods"]}
    assert names == {"mean", "mean finetuned"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "nonsense"}, "unknown: nonsense"),
        ({"methods": "lexicon"}, "need --lexicon"),
        ({"methods": "wechsel"}, "need --source-embeddings and --target-embeddings"),
        ({"methods": "auto,omp"}, "need --target-model"),
        ({"methods": "mean", "finetune_steps": 3}, "needs --corpus"),
    ],
)
def test_wrong_options_are_told(tiny_llama, metaspace_folder, corpus_file, options, said):
    with pytest.raises(ConfigError, match=said):
        compare_rows(str(tiny_llama), str(metaspace_folder), [str(corpus_file)], **options)
