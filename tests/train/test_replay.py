"""General text in the share that was asked for."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.runs import finetuned
from vocabalign.corpus_references import split_weight
from vocabalign.errors import ConfigError
from vocabalign.train.replay import with_replay


def lines(path, count, word):
    path.write_text("".join(json.dumps({"text": f"{word} {i} " * 20}) + "\n" for i in range(count)))
    return str(path)


def test_without_replay_the_corpus_is_as_it_was():
    assert with_replay(["a.txt=2", "b.txt"], [], 0.5) == ["a.txt=2", "b.txt"]


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.01, 0.9), sizes=st.tuples(*[st.integers(1, 30)] * 3), weight=st.sampled_from(["", "=2"]))
def test_the_share_of_bytes_is_the_one_asked_for(tmp_path_factory, share, sizes, weight):
    folder = tmp_path_factory.mktemp("replay")
    paths = [lines(folder / f"{name}.jsonl", size, name) for name, size in zip("abc", sizes, strict=True)]
    mixed = with_replay([paths[0] + weight], paths[1:], share)
    read = {path: split_weight(entry) for path, entry in zip(paths, mixed, strict=True)}
    amounts = [read[path][1] * len(open(path).read().encode()) for path in paths]
    assert sum(amounts[1:]) / sum(amounts) == pytest.approx(share, rel=1e-4)
    assert read[paths[1]][1] == pytest.approx(read[paths[2]][1])


def test_a_dataset_of_the_hub_is_refused(tmp_path):
    corpus = lines(tmp_path / "a.jsonl", 3, "a")
    with pytest.raises(ConfigError, match="hub"):
        with_replay([corpus], ["hub:someone/something"], 0.1)


def test_training_reads_both(tmp_path, tiny_llama, corpus_file):
    more = lines(tmp_path / "general.jsonl", 40, "general")
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", dict(steps=2), replay=[more], replay_share=0.3)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["replay_share"] == 0.3
    assert "replay" in manifest["input_fingerprints"]
