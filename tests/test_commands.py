"""Between the command line and the stages: names, configuration files, results."""

import json
import shutil

import yaml

from vocabalign.artifacts import write_artifact
from vocabalign.cli import run
from vocabalign.commands import name_models, stage_config


def test_models_get_short_names_and_none_is_dropped(tmp_path):
    folders = (
        str(tmp_path / "a" / "model"),
        str(tmp_path / "b" / "model"),
        "demo:source",
        str(tmp_path / "a" / "model/"),
    )
    named = name_models(folders)
    assert list(named.values()) == [folders[0], folders[1], "demo:source"]
    assert list(named) == ["model", "b/model", "source"]


def test_flags_go_before_the_file_and_overrides_before_flags(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("tokenizer: from-file\nseed: 1\nout: o\ncorpus: one.txt\nembeddings: {window: 3, epochs: 2}\n")
    options = {"config_file": str(path), "tokenizer": "from-flag", "seed": None, "corpus": (), "overrides": ["seed=5"]}
    config = stage_config("embed", options)
    assert (config.tokenizer, config.seed, config.corpus) == ("from-flag", 5, ["one.txt"])
    config = stage_config("embed", {**options, "overrides": ["embeddings.window=9"]})
    assert (config.embeddings.window, config.embeddings.epochs, config.seed) == (9, 2, 1)


def test_evaluate_takes_models_and_place_from_its_file(tmp_path, tiny_llama, corpus_file, capsys):
    values = {"models": {"tiny": str(tiny_llama)}, "corpus": [str(corpus_file)], "out": str(tmp_path / "m")}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({**values, "max_bytes": 300, "sample_tokens": 2}))
    assert run(["evaluate", "--config", str(tmp_path / "e.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["name"] == "tiny" and (tmp_path / "m").is_dir()
    assert run(["evaluate", "--corpus", str(corpus_file)]) == 2
    assert "name at least one folder" in capsys.readouterr().err


def test_a_report_may_be_drawn_again(tmp_path, capsys):
    with write_artifact(tmp_path / "run" / "text", "corpus", {}, {}):
        pass
    for _ in range(2):
        assert run(["report", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "report" / "report.html").is_file()
    assert run(["report"]) == 2 and "needs the folder of a run" in capsys.readouterr().err


def test_verify_tells_a_broken_model_also_as_json(tmp_path, tiny_llama, capsys):
    shutil.copytree(tiny_llama, tmp_path / "m")
    assert run(["verify", str(tmp_path / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "eos_token_id": 10**6}))
    assert run(["verify", str(tmp_path / "m"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"] and "eos_token_id" in told["error"]


def test_overrides_of_special_tokens_from_flags_and_a_file(tmp_path, tiny_llama, metaspace_folder, capsys):
    (tmp_path / "map.yaml").write_text('"<unk>": ["<|endoftext|>"]\n')
    arguments = ["transplant", "--source", tiny_llama, "--target", metaspace_folder, "--json"]
    given = ["--map-token", "</s>=<|endoftext|>,Ġ", "--map-file", tmp_path / "map.yaml"]
    assert run([str(part) for part in [*arguments, *given, "--out", tmp_path / "out"]]) == 0
    config = json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]
    assert config["map_tokens"] == {"</s>": "<|endoftext|>,Ġ", "<unk>": ["<|endoftext|>"]}
    capsys.readouterr()
    given[1] = "<unk>=Ġ"
    assert run([str(part) for part in [*arguments, *given, "--out", tmp_path / "other"]]) == 2
    assert "<unk>" in capsys.readouterr().err and not (tmp_path / "other").exists()
