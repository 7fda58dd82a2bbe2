"""Every stage on real models: stories260K with the tokenizer of stories3M, and stories3M as its teacher."""

import json

import pytest

from vocabalign.cli import run
from vocabalign.manifests import read_manifest

BUDGET = ["-o", "training.batch_size=4", "-o", "training.context=64", "--device", "cpu"]


@pytest.fixture(scope="module")
def heldout(material, tmp_path_factory):
    """The first five held-out stories."""
    lines = (material / "corpora" / "tinystories" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    path = tmp_path_factory.mktemp("stories") / "heldout.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def scores(capsys, heldout, *folders) -> list[float]:
    capsys.readouterr()
    assert run(["evaluate", *map(str, folders), "--corpus", str(heldout), "--json", "-o", "sample_tokens=0"]) == 0
    return [model["bits_per_byte"] for model in json.loads(capsys.readouterr().out)["models"]]


def test_all_stages_run_on_real_models_and_each_one_helps(material, heldout, tmp_path, capsys):
    source, teacher = material / "models" / "stories260K-hf", material / "models" / "stories3M-hf"
    corpus = material / "corpora" / "tinystories" / "train.jsonl"
    made = {name: str(tmp_path / name) for name in ("lexicon", "mean", "transplanted", "finetuned", "distilled")}
    commands = [
        ["align", "--source", source, "--target", teacher, "--corpus", corpus, "--out", made["lexicon"]]
        + ["-o", "embeddings.dimensions=32", "-o", "embeddings.epochs=1"],
        ["transplant", "--source", source, "--target", teacher, "--out", made["mean"]]
        + ["--input-rows", "fvt", "--head-rows", "fvt", "--untie"],
        ["transplant", "--source", source, "--target", teacher, "--lexicon", made["lexicon"], "--corpus", corpus]
        + ["--out", made["transplanted"], "--untie"],
        ["finetune", "--model", made["transplanted"], "--corpus", corpus, "--steps", "120", "--out", made["finetuned"]]
        + [*BUDGET, "-o", "rows_learning_rate=2e-3", "-o", "learning_rate=1e-3"],
        ["distill", "--student", made["finetuned"], "--teacher", teacher, "--corpus", corpus, "--steps", "40"]
        + ["--out", made["distilled"], *BUDGET, "-o", "learning_rate=1e-3"],
        ["verify", made["distilled"]],
    ]
    for command in commands:
        assert run([str(part) for part in command]) == 0, capsys.readouterr().err
    mean, transplanted, finetuned, distilled = scores(capsys, heldout, *list(made.values())[1:])
    assert transplanted < mean - 0.3, "rows by evidence are far better than mean rows"
    assert finetuned < transplanted - 0.1
    assert distilled < finetuned
    metrics = read_manifest(tmp_path / "lexicon")["metrics"]
    assert metrics["evidence_counts"]["identical"] > 400 and metrics["running_token_shares"]["identical"] > 0.3


def test_the_scores_of_the_real_models_are_the_known_ones(material, heldout, capsys):
    """Order and size of the published figures, on five documents."""
    folders = [material / "models" / name for name in ("stories3M-hf", "stories260K-hf", "tlm-833K-hf")]
    large, small, tiny = scores(capsys, heldout, *folders)
    assert 0.3 < large < 0.55 < small < tiny < 1.3
