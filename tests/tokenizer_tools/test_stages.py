"""The three stages: from flags, files, Python and pipelines to a folder that the other stages take."""

import json

import pytest
import yaml
from transformers import AutoTokenizer

from vocabalign.cli import run
from vocabalign.errors import CorpusError
from vocabalign.manifests import read_manifest
from vocabalign.stages import STAGES, TokenizerExtendConfig, TokenizerPruneConfig, TokenizerTrainConfig
from vocabalign.text.tokenizer_loading import read_raw_tokenizer


def make(config):
    stage = next(name for name, stage in STAGES.items() if stage.config_class is type(config))
    return STAGES[stage].run(config)


def test_train_extend_prune_one_after_another(tmp_path, corpus_file):
    corpus = [str(corpus_file)]
    trained = make(TokenizerTrainConfig(out=tmp_path / "a", corpus=corpus, size=400, special_tokens={"eos": "</s>"}))
    extended = make(TokenizerExtendConfig(out=tmp_path / "b", tokenizer=trained, corpus=corpus, num_tokens=50))
    pruned = make(TokenizerPruneConfig(out=tmp_path / "c", tokenizer=extended, corpus=corpus, size=380))
    sizes = []
    for folder in (trained, extended, pruned):
        metrics = read_manifest(folder)["metrics"]
        tokenizer, raw = AutoTokenizer.from_pretrained(folder), read_raw_tokenizer(folder / "tokenizer.json")
        assert len(tokenizer) == metrics["size"] == raw.get_vocab_size() and tokenizer.eos_token == "</s>"
        text = "The cat in Wäldern 123\n\n\tund Шапочка!"
        assert tokenizer(text, add_special_tokens=False).input_ids == raw.encode(text, add_special_tokens=False).ids
        compression = metrics["compression"]
        assert compression["bytes"] == sum(row["bytes"] for row in compression["files"])
        sizes.append((metrics["size"], compression["after"]["tokens"]))
    assert [size for size, _ in sizes] == [400, 450, 380]
    assert sizes[1][1] < sizes[0][1] and sizes[1][1] < sizes[2][1]
    counts = [int(line.split("\t")[-1]) for line in (extended / "added.tsv").read_text().splitlines()[1:]]
    assert counts.count(0) == read_manifest(extended)["metrics"]["added_but_not_in_corpus"] < 25
    lines = (extended / "added.tsv").read_text().splitlines()
    assert len(lines) == 51 and lines[1].split("\t")[0] == "400"
    assert len((pruned / "removed.tsv").read_text().splitlines()) == 1 + 70
    metrics = read_manifest(pruned)["metrics"]
    assert metrics["texts_of_kept_tokens_cut_as_before"] == metrics["texts_of_kept_tokens"]
    assert metrics["kept_share_of_tokens"] < 1


def test_commands_files_and_overrides(tmp_path, corpus_file, capsys):
    out = str(tmp_path / "t")
    arguments = ["tokenizer", "train", "--corpus", str(corpus_file), "--size", "300", "--special", "eos=<end>"]
    assert run([*arguments, "--out", out, "--dry-run"]) == 0
    assert "would write" in capsys.readouterr().out and not (tmp_path / "t").exists()
    assert run([*arguments, "--out", out]) == 0
    assert "bytes/token after" in capsys.readouterr().out
    words = tmp_path / "words.txt"
    words.write_text("zebra\ntwo words\n")
    settings = tmp_path / "extend.yaml"
    settings.write_text(yaml.safe_dump({"tokenizer": out, "words": str(words), "out": str(tmp_path / "e")}))
    assert run(["tokenizer", "extend", "--config", str(settings), "-o", "word_forms=both", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["words_produced"] == 1 and list(metrics["not_produced"]) == ["two words"]
    assert (tmp_path / "e" / "not_produced.tsv").is_file()
    assert run(["tokenizer", "prune", "--tokenizer", str(tmp_path / "e"), "--scripts", "Latin", "--out", out]) == 1
    assert "exists already" in capsys.readouterr().err
    prune = ["tokenizer", "prune", "--tokenizer", str(tmp_path / "e"), "--out", str(tmp_path / "p")]
    assert run([*prune, "--scripts", "Latin", "--size", "280"]) == 0
    assert read_manifest(tmp_path / "p")["metrics"]["size"] <= 280


def test_in_a_pipeline_they_are_made_once(tmp_path, corpus_file):
    corpus = {"corpus": str(corpus_file)}
    stages = [
        {"name": "trained", "stage": "tokenizer-train", "inputs": corpus, "config": {"size": 300}},
        {
            "name": "extended",
            "stage": "tokenizer-extend",
            "inputs": {**corpus, "tokenizer": "@trained"},
            "config": {"num_tokens": 20},
        },
        {"name": "pruned", "stage": "tokenizer-prune", "inputs": {**corpus, "tokenizer": "@extended"}, "config": {}},
    ]
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"out": str(tmp_path / "run"), "stages": stages}))
    assert run(["run", str(path)]) == 0
    first = {name: read_manifest(tmp_path / "run" / name) for name in ("trained", "extended", "pruned")}
    assert run(["run", str(path)]) == 0
    assert first == {name: read_manifest(tmp_path / "run" / name) for name in first}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune", "--tokenizer", "T"], "Nothing says what to keep"),
        (["prune", "--tokenizer", "T", "--size", "999"], "leaves nothing out"),
        (["prune", "--tokenizer", "T", "--size", "20"], "is too small"),
        (["prune", "--tokenizer", "T", "--scripts", "Latin", "--min-count", "3"], "none is given"),
        (["prune", "--tokenizer", "T", "--scripts", "Klingon"], "no Unicode script"),
        (["extend", "--tokenizer", "T"], "Nothing is to be added"),
        (["extend", "--tokenizer", "T", "--num-tokens", "5"], "give a corpus"),
        (["extend", "--tokenizer", "T", "--words", "missing.txt"], "missing.txt"),
        (["extend", "--tokenizer", "missing", "--num-tokens", "5", "--corpus", "C"], "missing does not exist"),
        (["train", "--corpus", "C", "--size", "100"], "has no room for words"),
        (["train", "--corpus", "C", "--size", "400", "--kind", "sentencepiece-bpe", "--like", "T"], "give one that is"),
        (["train", "--corpus", "C", "--size", "400", "--like", "T", "-o", "normalizer=nfc"], "leave one of the two"),
        (["train", "--corpus", "C", "--size", "400", "--special", "eos"], "ROLE=TOKEN"),
        (["train", "--corpus", "C", "--size", "400", "--special", "end=x"], "special_tokens"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, tmp_path, corpus_file, byte_level_folder, capsys):
    names = {"T": str(byte_level_folder), "C": str(corpus_file)}
    code = run(["tokenizer", *(names.get(item, item) for item in arguments), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert code in (1, 2) and message in error and "Traceback" not in error and "unexpected" not in error
    assert not list(tmp_path.iterdir())


def test_an_empty_corpus_leaves_nothing(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(CorpusError, match="only blank text"):
        make(TokenizerTrainConfig(out=tmp_path / "out", corpus=[str(tmp_path / "empty.txt")], size=400))
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_every_word_is_produced_or_reported(tmp_path, metaspace_folder):
    """This tokenizer has tokens across words, which may come before a new word's merges."""
    words = ["zebra", "aa", "the", "catx", "quartz"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    out = make(
        TokenizerExtendConfig(out=tmp_path / "out", tokenizer=str(metaspace_folder), words=tmp_path / "words.txt")
    )
    metrics = read_manifest(out)["metrics"]
    assert metrics["words_produced"] + len(metrics["not_produced"]) == len(words)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for word in set(words) - set(metrics["not_produced"]):
        assert f"\u2581{word}" in tokenizer.tokenize(f"one {word} two") + tokenizer.tokenize(f"({word})")
