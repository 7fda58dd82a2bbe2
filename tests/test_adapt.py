"""The whole way: the pipeline that adapt writes, and what it makes."""

import json

import pytest

from tests.conftest import make_llama, make_metaspace_tokenizer
from tests.test_readme import adapt_overrides
from vocabalign.adapt import adaptation_stages
from vocabalign.cli import run


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return make_llama(make_metaspace_tokenizer(tmp_path_factory.mktemp("target")), 480, seed=1)


def test_adapt_writes_its_pipeline_runs_it_and_does_nothing_twice(tmp_path, tiny_llama, target, corpus_file, capsys):
    arguments = ["adapt", "--source", tiny_llama, "--target", target, "--teacher", target, "--corpus", corpus_file]
    arguments = [*map(str, arguments), "--out", str(tmp_path / "run"), *adapt_overrides(teacher=True), "--json"]
    assert run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    names = [model["name"] for model in result["models"]]
    assert names == ["source", "transplanted", "finetuned", "distilled", "teacher"]
    assert all(stage["ran"] for stage in result["stages"])
    assert (tmp_path / "run" / "report" / "report.html").is_file()
    assert (tmp_path / "run" / "pipeline.yaml").read_text().startswith("# ")
    assert run(arguments) == 0
    assert not any(stage["ran"] for stage in json.loads(capsys.readouterr().out)["stages"])
    assert run(["run", str(tmp_path / "run" / "pipeline.yaml"), "--json"]) == 0
    assert not any(stage["ran"] for stage in json.loads(capsys.readouterr().out)["stages"])


def test_heldout_text_that_is_given_is_used_and_none_is_split_off():
    options = {"source": "s", "target": "t", "corpus": ["c.txt"], "out": "o", "heldout": ["h.txt"]}
    stages = {stage["name"]: stage for stage in adaptation_stages(options)["stages"]}
    assert "text" not in stages and stages["metrics"]["inputs"]["corpus"] == ["h.txt"]
    assert "distilled" not in stages


def test_training_is_scored_often_enough_to_draw_a_curve():
    options = {"source": "s", "target": "t", "corpus": ["c.txt"], "out": "o", "teacher": "t"}
    for steps, every in ((None, 125), (80, 10), (3, 1)):
        stages = {stage["name"]: stage for stage in adaptation_stages({**options, "steps": steps})["stages"]}
        for name in ("finetuned", "distilled"):
            assert stages[name]["config"]["training"]["evaluate_every"] == every


def test_where_special_tokens_come_from_reaches_the_transplant(tmp_path, tiny_llama, target, corpus_file, capsys):
    arguments = ["adapt", "--source", tiny_llama, "--target", target, "--corpus", corpus_file, "--dry-run", "--json"]
    arguments += ["--map-token", "</s>=the,a", "--out", tmp_path / "run"]
    assert run([*map(str, arguments)]) == 0
    options = {"source": "s", "target": "t", "corpus": ["c.txt"], "out": "o", "map_tokens": {"</s>": ["the", "a"]}}
    stages = {stage["name"]: stage for stage in adaptation_stages(options)["stages"]}
    assert stages["transplanted"]["config"] == {"map_tokens": {"</s>": ["the", "a"]}}


def test_a_dry_run_writes_nothing(tmp_path, tiny_llama, target, corpus_file, capsys):
    arguments = ["adapt", "--source", tiny_llama, "--target", target, "--corpus", corpus_file, "--dry-run", "--json"]
    assert run([*map(str, arguments), "--out", str(tmp_path / "run")]) == 0
    assert len(json.loads(capsys.readouterr().out)["stages"]) == 6 and not (tmp_path / "run").exists()


def test_a_folder_with_other_things_in_it_is_refused(tmp_path, tiny_llama, target, corpus_file, capsys):
    (tmp_path / "mine").write_text("x")
    arguments = ["adapt", "--source", tiny_llama, "--target", target, "--corpus", corpus_file, "--out", tmp_path]
    assert run([*map(str, arguments)]) == 1
    assert "holds no run of vocabalign" in capsys.readouterr().err and list(tmp_path.iterdir()) == [tmp_path / "mine"]


@pytest.mark.parametrize(
    ("missing", "said"), [("--corpus", "needs --corpus"), ("--out", "needs --out"), ("--source", "needs --source")]
)
def test_missing_flags_are_told(tmp_path, tiny_llama, target, corpus_file, capsys, missing, said):
    flags = {"--source": tiny_llama, "--target": target, "--corpus": corpus_file, "--out": tmp_path / "o"}
    arguments = [str(part) for flag, value in flags.items() if flag != missing for part in (flag, value)]
    assert run(["adapt", *arguments]) == 2 and said in capsys.readouterr().err


def test_a_wrong_setting_is_told_before_anything_is_written(tmp_path, tiny_llama, target, corpus_file):
    arguments = ["adapt", "--source", tiny_llama, "--target", target, "--corpus", corpus_file]
    arguments = [*map(str, arguments), "--out", str(tmp_path / "run"), "-o", "lexicon.nonsense=1"]
    assert run(arguments) == 2 and not (tmp_path / "run").exists()
