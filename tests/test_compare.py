"""Row methods side by side."""

import json
import math

import pytest

from vocabalign import comparison_cells
from vocabalign.cli import run
from vocabalign.compare import ROW_METHODS, compare_rows, format_comparison
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.manifests import read_manifest
from vocabalign.transplantation.row_plans import NEEDS


def test_every_method_is_scored_on_the_same_text_and_the_table_is_sorted(tiny_llama, metaspace_folder, corpus_file):
    methods = [name for name in ROW_METHODS if not NEEDS.get(name)]
    result = compare_rows(str(tiny_llama), str(metaspace_folder), [str(corpus_file)], [str(corpus_file)], methods="all")
    scores = [row["bits_per_byte"] for row in result["methods"]]
    assert {row["method"] for row in result["methods"]} == set(methods) and scores == sorted(scores)
    for row in result["methods"]:
        assert row["gap"] == pytest.approx(row["bits_per_byte"] - result["source"]["bits_per_byte"])
        assert row["behind"] == pytest.approx(row["bits_per_byte"] - scores[0])
        assert row["bits_per_byte_low"] <= row["bits_per_byte"] <= row["bits_per_byte_high"]
    assert len(result["pairs"]) == math.comb(len(methods), 2)
    for pair in result["pairs"]:
        values = [
            next(row for row in result["methods"] if row["method"] == pair[side]) for side in ("method", "against")
        ]
        assert pair["difference"] == pytest.approx(values[0]["bits_per_byte"] - values[1]["bits_per_byte"])
        assert pair["difference_low"] <= pair["difference"] <= pair["difference_high"]
    lines = format_comparison(result).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["source", *(row["method"] for row in result["methods"])]


def test_a_transplant_alone_gives_the_same_score(tmp_path, tiny_llama, metaspace_folder, corpus_file):
    from vocabalign.config import make_config
    from vocabalign.evaluation.measuring import measure
    from vocabalign.stages import STAGES, TransplantConfig
    from vocabalign.text.corpus import read_texts

    files = [str(corpus_file)]
    result = compare_rows(str(tiny_llama), str(metaspace_folder), files, files, "last/decay", calibrate_head=False)
    values = {"source": str(tiny_llama), "target": str(metaspace_folder), "corpus": files, "calibrate_head": False}
    values |= {"input_rows": "last", "head_rows": "decay", "out": tmp_path / "alone"}
    alone = str(STAGES["transplant"].run(make_config(TransplantConfig, values)))
    score = measure({"m": alone}, list(read_texts(files)), sample_tokens=0).scores["m"].bits_per_byte
    assert [row["bits_per_byte"] for row in result["methods"]] == [pytest.approx(score, abs=1e-9)]
    assert result["methods"][0]["input_rows"] == "last" and not result["methods"][0]["head_calibrated"]


def test_with_training_both_scores_are_told_also_of_the_source(
    tmp_path, tiny_llama, metaspace_folder, corpus_file, capsys
):
    arguments = ["compare", "--source", tiny_llama, "--target", metaspace_folder, "--heldout", corpus_file]
    arguments += ["--corpus", corpus_file, "--methods", "mean,first", "--finetune-steps", "2", "--json"]
    arguments += ["--out", tmp_path / "made"]
    assert run([str(argument) for argument in arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    for row in (result["source"], *result["methods"]):
        assert row["finetuned"]["bits_per_byte"] != row["bits_per_byte"]
    assert {pair["finetuned"] for pair in result["pairs"]} == {True, False}
    names = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"comparison.json", "comparison.html", "manifest.json", "comparison.svg", "comparison.png"} <= names
    assert json.loads((tmp_path / "made" / "comparison.json").read_text()) == result
    assert set(read_manifest(tmp_path / "made")["metrics"]) == {"mean", "first"}
    assert "<text" in (tmp_path / "made" / "comparison.svg").read_text()
    assert (tmp_path / "made" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert run([str(argument) for argument in arguments]) == 1  # it exists
    assert "exists already" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, tiny_llama, metaspace_folder, corpus_file, monkeypatch):
    files = [str(corpus_file)]
    arguments = (str(tiny_llama), str(metaspace_folder), files, files, "fvt,first,mean")
    whole = compare_rows(*arguments)
    scored, real = [], comparison_cells._score

    def counting(name, *rest):
        if name == "mean" and "mean" not in scored:
            scored.append(name)
            raise KeyboardInterrupt
        scored.append(name)
        return real(name, *rest)

    monkeypatch.setattr(comparison_cells, "_score", counting)
    with pytest.raises(KeyboardInterrupt):
        compare_rows(*arguments, out=tmp_path / "out")
    assert not (tmp_path / "out").exists() and scored == ["source", "fvt", "first", "mean"]
    result = compare_rows(*arguments, out=tmp_path / "out")
    assert scored[4:] == ["mean"]
    seconds = {"seconds": 0}
    assert [row | seconds for row in result["methods"]] == [row | seconds for row in whole["methods"]]
    with pytest.raises(ArtifactError, match="exists already"):
        compare_rows(*arguments, out=tmp_path / "out")
    # Other methods are another comparison: nothing of the old one is taken for it.
    with pytest.raises(KeyboardInterrupt):
        scored.clear()
        compare_rows(*arguments[:-1], "mean", out=tmp_path / "other")


def test_a_tied_source_may_be_untied(tmp_path, metaspace_folder, corpus_file):
    from tests.transplantation.builders import build

    source = str(build("llama-tied", tmp_path / "tied"))
    files = [str(corpus_file)]
    tied, untied = (
        compare_rows(source, str(metaspace_folder), files, methods="last/first", untie=untie) for untie in (False, True)
    )
    assert tied["tied"] and not untied["tied"] and tied["methods"][0]["tied"] and not untied["methods"][0]["tied"]
    assert tied["methods"][0]["bits_per_byte"] != untied["methods"][0]["bits_per_byte"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "nonsense"}, "unknown: nonsense"),
        ({"methods": "last/first/mean"}, "unknown: last/first/mean"),
        ({"methods": "last/nonsense"}, "unknown: last/nonsense"),
        ({"methods": ","}, "unknown: all"),
        ({"methods": "lexicon"}, "need --lexicon"),
        ({"methods": "last/wechsel"}, "need --source-embeddings and --target-embeddings"),
        ({"methods": "auto,omp"}, "need --target-model"),
        ({"methods": "mean", "finetune_steps": 3}, "needs --corpus"),
        ({"methods": "mean", "finetune_steps": -3}, "expected 0 or more"),
        ({"methods": "mean", "untie": True}, "leave out --untie"),
    ],
)
def test_wrong_options_are_told(tmp_path, tiny_llama, metaspace_folder, corpus_file, options, said):
    with pytest.raises(ConfigError, match=said):
        compare_rows(str(tiny_llama), str(metaspace_folder), [str(corpus_file)], out=tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())
