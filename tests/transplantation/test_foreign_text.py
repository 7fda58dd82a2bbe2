"""A corpus of another domain than the model's is noticed, and does not spoil the start."""

import dis
import inspect
import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transplantation.builders import build, target_tokenizer
from vocabalign.evaluation.measuring import measure
from vocabalign.models import resolve
from vocabalign.stages import TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation import foreign_text
from vocabalign.transplantation.calibration import CorpusCounts, count_corpus
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.foreign_text import (
    BOTH,
    CORPUS,
    NOTHING,
    WriteOwnText,
    counted_together,
    in_turn,
    text_to_count_on,
)
from vocabalign.transplantation.own_text import write_texts
from vocabalign.transplantation.source_states import find_source_states
from vocabalign.transplantation.transplant_stage import run

CPU = torch.device("cpu")
WORDS = """king river old war wood the of and born castle ship queen battle south his were army which had been church
 during by century town north album song film she season game first""".split()
WRITE = WriteOwnText(True, 0, CPU, torch.float32)


def tales(count=600, words=150) -> list[str]:
    """English about what the demo model, which knows Python's own documentation, has never read of."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(count)]


@pytest.fixture(scope="module")
def written():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vocabalign.transplantation.own_text.MOST_TOKENS", 40_000)
        folder = resolve("demo:source")
        return write_texts(folder, load_vocabulary(folder), dtype=torch.float32, device=CPU, seed=0)


@pytest.fixture
def writes(written, monkeypatch):
    monkeypatch.setattr(foreign_text, "write_texts", lambda *arguments, **named: written)


def surprised_by(texts):
    checkpoint, source = open_checkpoint("demo:source"), load_vocabulary("demo:source")
    counts = count_corpus(source, load_vocabulary("demo:teacher"), texts)
    found = find_source_states(checkpoint, source, counts, CPU, torch.float32)
    return counts, found, text_to_count_on(
        checkpoint, source, load_vocabulary("demo:teacher"), counts, found, WRITE
    )  # fmt: skip


def test_text_that_the_model_writes_is_of_its_domain_and_counted_as_it_is(written):
    """Nothing is written for it: a second text would be another one."""
    counts, found, taken = surprised_by(written)
    assert abs(found.surprise.found - found.surprise.expected) < 0.3
    assert taken.counts is counts and taken.states is found and taken.what == CORPUS


def test_text_of_another_domain_is_counted_beside_the_models_own(written, writes):
    counts, found, taken = surprised_by(tales())
    assert found.surprise.foreign and taken.what == BOTH
    own = count_corpus(load_vocabulary("demo:source"), load_vocabulary("demo:teacher"), written)
    assert (taken.counts.target >= own.target).all() and (taken.counts.source >= own.source).all()
    assert (taken.counts.target[counts.target > 0] > own.target[counts.target > 0]).all()
    assert len(taken.states.text) > len(found.text)


def transplant(corpus, out, **values):
    config = {"source": "demo:source", "target": "demo:teacher", "corpus": [str(corpus)], "fit_rows": False}
    return run(TransplantConfig(**config, verify_full=False, out=out, **values))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "tales.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tales()))
    return path


def test_counts_of_another_domain_are_not_worse_than_none(corpus, writes, tmp_path, caplog):
    """On text of the model's own domain; counted as it is, the same corpus costs more than no calibration."""
    with caplog.at_level("WARNING", logger="vocabalign"):
        taken = transplant(corpus, tmp_path / "taken")
    assert "another domain" in caplog.text and "text of its own" in caplog.text
    plain = transplant(corpus, tmp_path / "plain", calibrate_head=False)
    as_it_is = transplant(corpus, tmp_path / "as-it-is", own_text=False)
    source = inspect.getsource(dis) + inspect.getsource(json) + inspect.getsource(random)
    texts = [source[begin : begin + 1_500] for begin in range(0, 30_000, 1_500)]
    folders = {"taken": str(taken), "plain": str(plain), "as it is": str(as_it_is)}
    scores = {name: score.bits_per_byte for name, score in measure(folders, texts, sample_tokens=0).scores.items()}
    assert scores["taken"] < scores["plain"] < scores["as it is"], scores
    metrics = json.loads((taken / "manifest.json").read_text())["metrics"]
    assert metrics["corpus_of_another_domain"] and metrics["counted_on"] == BOTH
    nats = metrics["corpus_nats_per_token"]
    assert nats["found"] > nats["expected"] + 0.8
    assert metrics["corpus_documents"] == 600  # of the corpus alone
    assert "another domain" in (taken / "README.md").read_text()


def test_where_writing_takes_too_long_nothing_is_counted(corpus, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("vocabalign.transplantation.own_text._OPERATIONS", {"cpu": 1e6})
    with caplog.at_level("WARNING", logger="vocabalign"):
        out = transplant(corpus, tmp_path / "out")
    assert "take too long" in caplog.text
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    assert metrics["counted_on"] == NOTHING and metrics["calibrated_by"] == "ranks"
    assert metrics["corpus_documents"] == 600 and metrics["head_rows"] == "steep"


def test_own_text_may_be_refused(corpus, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(foreign_text, "write_texts", lambda *arguments, **named: pytest.fail("nothing may be written"))
    with caplog.at_level("WARNING", logger="vocabalign"):
        out = transplant(corpus, tmp_path / "out", own_text=False)
    assert "counted on all the same" in caplog.text
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    assert metrics["counted_on"] == CORPUS and metrics["calibrated_by"] == "counts"


def test_rows_that_are_not_calibrated_need_no_text(corpus, monkeypatch, tmp_path):
    monkeypatch.setattr(foreign_text, "write_texts", lambda *arguments, **named: pytest.fail("nothing may be written"))
    transplant(corpus, tmp_path / "out", calibrate_head=False)
    encoder = build("bert", tmp_path / "bert")
    target = target_tokenizer("metaspace", tmp_path / "t")
    run(TransplantConfig(source=str(encoder), target=str(target), corpus=[str(corpus)], out=tmp_path / "encoder"))


def counts_of(source, target):
    return CorpusCounts(np.array(source), np.array(target), ["text"], 1, ["text"])


def test_neither_text_outweighs_the_other():
    own, corpus = counts_of([3, 1, 0], [2, 2]), counts_of([0, 400, 400], [1000, 0])
    both = counted_together(own, corpus)
    assert both.target.tolist() == [2 + 4, 2] and both.source.tolist() == pytest.approx([3, 1 + 1.6, 1.6])
    small = counted_together(corpus, own)  # a corpus that is the smaller one counts as it is
    assert small.target.tolist() == [1002, 2]


@given(st.lists(st.integers(1, 50), min_size=1), st.lists(st.integers(1, 50), min_size=1))
def test_documents_come_in_turn(first, second):
    """Each list keeps its order, and as long as both last neither is ahead by more than a document."""
    lists = [[f"{name}{number}" + "x" * size for number, size in enumerate(sizes)] for name, sizes in
             (("a", first), ("b", second))]  # fmt: skip
    merged = in_turn(*lists)
    assert [text for text in merged if text[0] == "a"] == lists[0]
    assert [text for text in merged if text[0] == "b"] == lists[1]
    total = {"a": 0, "b": 0}
    longest = max(len(text) for text in merged)
    least = min(sum(map(len, texts)) for texts in lists)
    for text in merged:
        total[text[0]] += len(text)
        if max(total.values()) <= least:
            assert abs(total["a"] - total["b"]) <= longest
